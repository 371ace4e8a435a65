// Package matrix proves that every client works with every server: clients and
// servers of both eras, over every transport, relay by relay. The table in
// docs/protocol.md is its result.
package matrix

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// leg is a row of the matrix: two clients of one era, the hub and one server.
type leg struct {
	peers.Upstream
	bare bool // names stay as they are
	a, b *peers.Client
}

// tool returns the name of a tool at the hub.
func (l *leg) tool(name string) string {
	if l.bare {
		return name
	}
	return l.Name + "__" + name
}

// tag returns a text that is in the arguments of one call and of no other.
func (l *leg) tag(name string) string { return name + "_" + l.a.Name }

func (l *leg) bridged() bool { return l.a.Modern() != (l.Revision >= hubtest.ModernVersion) }

func TestEveryServerServesEveryClient(t *testing.T) {
	upstreams := peers.Upstreams()
	hub := peers.StartHub(t, "prefix", upstreams)
	table := map[string][]string{}
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		for _, u := range upstreams {
			title := fmt.Sprintf("%s | %s, %s", peers.Era(revision), u.Transport, peers.Era(u.Revision))
			t.Run(title, func(t *testing.T) {
				l := newLeg(t, hub, u, revision, false)
				table[title] = l.cells(t)
			})
		}
	}
	compareTable(t, table)
}

func TestATransparentHubServesEveryClient(t *testing.T) {
	for _, u := range peers.Upstreams() {
		if u.Transport != "Streamable HTTP" {
			continue
		}
		hub := peers.StartHub(t, "bare", []peers.Upstream{u})
		for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
			t.Run(fmt.Sprintf("%s client, %s server", peers.Era(revision), peers.Era(u.Revision)), func(t *testing.T) {
				newLeg(t, hub, u, revision, true).cells(t)
			})
		}
	}
}

// Clients of both eras get all that a shared server of both eras can do.
func TestASharedServerOfBothErasServesEveryClient(t *testing.T) {
	u := peers.SharedDualChild()
	hub := peers.StartHub(t, "prefix", []peers.Upstream{u})
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		t.Run(peers.Era(revision)+" client", func(t *testing.T) { newLeg(t, hub, u, revision, false).cells(t) })
	}
}

func newLeg(t *testing.T, hub *hubtest.Hub, u peers.Upstream, revision string, bare bool) *leg {
	t.Helper()
	name := "of_" + u.Name + "_" + peers.Era(revision)
	return &leg{
		Upstream: u, bare: bare,
		a: peers.Connect(t, hub.URL(), revision, "ann_"+name), b: peers.Connect(t, hub.URL(), revision, "bob_"+name),
	}
}

// cells tries every relay and returns the cells of the row.
func (l *leg) cells(t *testing.T) (cells []string) {
	t.Helper()
	for _, r := range relays() {
		cell := "not tried"
		t.Run(r.name, func(t *testing.T) {
			cell = "no"
			l.a.In(t)
			l.b.In(t)
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

// A request of a shared legacy server does not name the call that it belongs to.
func TestAQuestionOfASharedServerWithTwoCallsUnderWayIsRefused(t *testing.T) {
	upstreams := slices.DeleteFunc(peers.Upstreams(), func(u peers.Upstream) bool { return u.Transport != "stdio" })
	hub := peers.StartHub(t, "prefix", upstreams)
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		for _, u := range upstreams {
			t.Run(fmt.Sprintf("%s clients, %s server", peers.Era(revision), peers.Era(u.Revision)), func(t *testing.T) {
				l := newLeg(t, hub, u, revision, false)
				results := make(chan string, 2)
				for _, c := range []*peers.Client{l.a, l.b} {
					go func() {
						result, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: l.tool("meet"), Arguments: peers.Arguments{Tag: l.tag("meet")}})
						if err != nil {
							results <- c.Name + ": " + err.Error()
							return
						}
						results <- c.Name + ": " + peers.TextOf(result.Content)
					}()
				}
				got := []string{<-results, <-results}
				slices.Sort(got)
				for i, c := range []*peers.Client{l.a, l.b} {
					own := c.Name + ": " + c.Name + "'s model: one, " + c.Name + "'s model: two"
					switch modern := u.Revision >= hubtest.ModernVersion; {
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
	upstreams := slices.DeleteFunc(peers.Upstreams(), func(u peers.Upstream) bool { return u.Name != "http" })
	hub := peers.StartHub(t, "prefix", upstreams)
	for revision, want := range map[string]string{
		hubtest.LegacyVersion: "accept <ann_of_http_legacy to who?>",
		hubtest.ModernVersion: "do not support elicitation/create during completion/complete",
	} {
		l := newLeg(t, hub, upstreams[0], revision, false)
		result, err := l.a.Complete(t.Context(), &mcp.CompleteParams{
			Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: l.tool("greet")}, Argument: mcp.CompleteParamsArgument{Name: "who", Value: "ask"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(result.Completion.Values, " "); !strings.Contains(got, want) {
			t.Errorf("a %s client got %q", peers.Era(revision), got)
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
		return // -run selected only some of the cells
	}
	if os.Getenv(updateVariable) == "" {
		t.Errorf("%s does not match what the hub does; run the test with %s=1 to write\n%s", file, updateVariable, measured)
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
	for _, revision := range []string{hubtest.LegacyVersion, hubtest.ModernVersion} {
		for _, u := range peers.Upstreams() {
			title := fmt.Sprintf("%s | %s, %s", peers.Era(revision), u.Transport, peers.Era(u.Revision))
			cells := table[title]
			if cells == nil {
				cells = []string{"not tried"}
			}
			b.WriteString("| " + title + " | " + strings.Join(cells, " | ") + " |\n")
		}
	}
	return b.String()
}
