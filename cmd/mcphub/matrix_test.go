package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// matrixUpstream is a server of the matrix.
type matrixUpstream struct {
	name     string // in the configuration
	title    string // in the table
	revision string // that the hub has to speak with it
	entry    func(*testing.T) string
}

// matrixUpstreams are the servers, one of each kind.
func matrixUpstreams() []matrixUpstream {
	child := func(name string, revisions ...string) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("{command: %q, env: {%s: %q}}", self, matrixVariable, strings.Join(append([]string{name}, revisions...), " "))
		}
	}
	return []matrixUpstream{
		{"child", "stdio", legacyRevision, child("child", legacyRevision)},
		{"newchild", "stdio", modernRevision, child("newchild")},
		{"http", "Streamable HTTP", legacyRevision, func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("{url: %q}", newMatrixServer("http", legacyRevision).overHTTP(t, false))
		}},
		{"newhttp", "Streamable HTTP", modernRevision, func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("{url: %q}", newMatrixServer("newhttp").overHTTP(t, true))
		}},
		{"sse", "HTTP+SSE", legacyRevision, func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("{url: %q, type: sse}", newMatrixServer("sse", legacyRevision).overSSE(t))
		}},
	}
}

// matrixHub starts a hub in front of the servers.
func matrixHub(t *testing.T, naming string, upstreams []matrixUpstream) *hubProcess {
	t.Helper()
	var config strings.Builder
	fmt.Fprintf(&config, "naming: %s\nmcpServers:\n", naming)
	for _, u := range upstreams {
		fmt.Fprintf(&config, "  %s: %s\n", u.name, u.entry(t))
	}
	hub := startHub(t, config.String(), t.TempDir())
	eventually(t, "every server is up", func() bool {
		_, body := get(t, "http://"+hub.side+"/api/v1/upstreams")
		return strings.Count(body, `"state": "up"`) == len(upstreams)
	})
	return hub
}

// leg is a row of the matrix: two clients of one era, one server, and the hub
// in between.
type leg struct {
	matrixUpstream
	bare bool // names stay as they are
	a, b *matrixClient
}

// tool is the name that clients call a tool by.
func (l *leg) tool(name string) string {
	if l.bare {
		return name
	}
	return l.name + "__" + name
}

// tag is in the arguments of one call and of no other.
func (l *leg) tag(name string) string { return name + "_" + l.a.name }

func (l *leg) bridged() bool { return l.a.modern() != (l.revision >= modernRevision) }

func TestEveryServerServesEveryClient(t *testing.T) {
	upstreams := matrixUpstreams()
	hub := matrixHub(t, "prefix", upstreams)
	table := map[string][]string{}
	for _, revision := range []string{legacyRevision, modernRevision} {
		for _, u := range upstreams {
			title := fmt.Sprintf("%s | %s, %s", era(revision), u.title, era(u.revision))
			t.Run(title, func(t *testing.T) {
				l := newLeg(t, hub, u, revision, false)
				table[title] = l.cells(t)
			})
		}
	}
	compareTable(t, table)
}

func TestATransparentHubServesEveryClient(t *testing.T) {
	for _, u := range matrixUpstreams() {
		if u.title != "Streamable HTTP" {
			continue
		}
		hub := matrixHub(t, "bare", []matrixUpstream{u})
		for _, revision := range []string{legacyRevision, modernRevision} {
			t.Run(fmt.Sprintf("%s client, %s server", era(revision), era(u.revision)), func(t *testing.T) {
				newLeg(t, hub, u, revision, true).cells(t)
			})
		}
	}
}

func era(revision string) string {
	if revision >= modernRevision {
		return "modern"
	}
	return "legacy"
}

func newLeg(t *testing.T, hub *hubProcess, u matrixUpstream, revision string, bare bool) *leg {
	t.Helper()
	name := "of_" + u.name + "_" + era(revision)
	return &leg{
		matrixUpstream: u, bare: bare,
		a: connectMatrix(t, hub.url(), revision, "ann_"+name), b: connectMatrix(t, hub.url(), revision, "bob_"+name),
	}
}

// cells tries everything and says what the table is to say of it.
func (l *leg) cells(t *testing.T) (cells []string) {
	t.Helper()
	for _, r := range relays() {
		cell := "not tried"
		t.Run(r.name, func(t *testing.T) {
			cell = "no"
			l.a.t, l.b.t = t, t
			r.works(t, l)
			switch {
			case t.Failed():
			case l.bridged() && r.differs:
				cell = "bridged"
			default:
				cell = "yes"
			}
		})
		cells = append(cells, cell)
	}
	return cells
}

// A shared legacy server asks without saying for which of the calls under way.
func TestAQuestionOfASharedServerWithTwoCallsUnderWayIsRefused(t *testing.T) {
	upstreams := slices.DeleteFunc(matrixUpstreams(), func(u matrixUpstream) bool { return u.title != "stdio" })
	hub := matrixHub(t, "prefix", upstreams)
	for _, revision := range []string{legacyRevision, modernRevision} {
		for _, u := range upstreams {
			t.Run(fmt.Sprintf("%s clients, %s server", era(revision), era(u.revision)), func(t *testing.T) {
				l := newLeg(t, hub, u, revision, false)
				results := make(chan string, 2)
				for _, c := range []*matrixClient{l.a, l.b} {
					go func() {
						result, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: l.tool("meet"), Arguments: matrixArguments{Tag: l.tag("meet")}})
						if err != nil {
							results <- c.name + ": " + err.Error()
							return
						}
						results <- c.name + ": " + textOf(result.Content)
					}()
				}
				got := []string{<-results, <-results}
				slices.Sort(got)
				for i, c := range []*matrixClient{l.a, l.b} {
					own := c.name + ": " + c.name + "'s model: one, " + c.name + "'s model: two"
					switch modern := u.revision >= modernRevision; {
					case modern && got[i] != own:
						t.Errorf("the answers are %q", got)
					case !modern && !strings.Contains(got[i], "the hub cannot tell which client sampling/createMessage is meant for"):
						t.Errorf("the server was told %q", got[i])
					}
				}
			})
		}
	}
}

// Modern clients can be asked in answer to three methods, and completion is
// none of them, specification 2026-07-28, basic/utilities/mrtr.
func TestAModernClientIsNotAskedWhereItCannotAnswer(t *testing.T) {
	upstreams := slices.DeleteFunc(matrixUpstreams(), func(u matrixUpstream) bool { return u.name != "http" })
	hub := matrixHub(t, "prefix", upstreams)
	for revision, want := range map[string]string{
		legacyRevision: "accept <ann_of_http_legacy to who?>", modernRevision: "cannot be asked elicitation/create during completion/complete",
	} {
		l := newLeg(t, hub, upstreams[0], revision, false)
		result, err := l.a.Complete(t.Context(), &mcp.CompleteParams{
			Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: l.tool("greet")}, Argument: mcp.CompleteParamsArgument{Name: "who", Value: "ask"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(result.Completion.Values, " "); !strings.Contains(got, want) {
			t.Errorf("a %s client got %q", era(revision), got)
		}
	}
}

// updateVariable makes the test write the table into the documentation.
const updateVariable = "MCPHUB_UPDATE_DOCS"

// compareTable compares the matrix with the one in docs/protocol.md.
func compareTable(t *testing.T, table map[string][]string) {
	t.Helper()
	file := filepath.Join("..", "..", "docs", "protocol.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- matrix -->\n", "<!-- /matrix -->\n"
	head, rest, ok := strings.Cut(string(text), begin)
	documented, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no table between %q and %q", file, begin, end)
	}
	measured := writeTable(table)
	if strings.Contains(measured, "not tried") || measured == documented {
		return // -run chose some of the cells only
	}
	if os.Getenv(updateVariable) == "" {
		t.Errorf("%s does not say what the hub does; %s=1 makes this test write\n%s", file, updateVariable, measured)
		return
	}
	if err := os.WriteFile(file, []byte(head+begin+measured+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeTable writes the matrix as Markdown.
func writeTable(table map[string][]string) string {
	var b strings.Builder
	b.WriteString("| client | server |")
	rule := "|---|---|"
	for _, r := range relays() {
		b.WriteString(" " + r.name + " |")
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n")
	for _, revision := range []string{legacyRevision, modernRevision} {
		for _, u := range matrixUpstreams() {
			title := fmt.Sprintf("%s | %s, %s", era(revision), u.title, era(u.revision))
			cells := table[title]
			if cells == nil {
				cells = []string{"not tried"}
			}
			b.WriteString("| " + title + " | " + strings.Join(cells, " | ") + " |\n")
		}
	}
	return b.String()
}
