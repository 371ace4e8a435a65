package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// lister serves lists; capabilities is the member of initialize.
func lister(t testing.TB, capabilities string, lists map[string]func(json.RawMessage) string) *httpScript {
	return newHTTPScript(t, func(h *httpScript) {
		h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + capabilities + `}`
		h.lists = lists
	})
}

const all = `{"tools":{},"prompts":{},"resources":{}}`

func TestListsAreReadPageByPageAndItemsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	var cursors []string
	page := func(member string, items ...string) func(json.RawMessage) string {
		return func(json.RawMessage) string {
			return `"result":{"` + member + `":[` + strings.Join(items, " , ") + `]}`
		}
	}
	h := lister(t, all, map[string]func(json.RawMessage) string{
		"tools/list": func(params json.RawMessage) string {
			cursors = append(cursors, string(params))
			switch len(cursors) {
			case 1:
				return `"result":{"tools":[ {"name":"a","n":1.0} ],"nextCursor":"p\u0032"}`
			case 2:
				return `"result":{"nextCursor":"p3","tools":[]}`
			case 3:
				return `"result":{"tools":[{"name":"b"},{"name":"c"}],"nextCursor":""}`
			}
			return `"result":{}`
		},
		"prompts/list":             page("prompts", `{"name":"p"}`),
		"resources/list":           page("resources", `{"uri":"x:1"}`, `{"uri":"x:2"}`),
		"resources/templates/list": page("resourceTemplates", `{"uriTemplate":"x:{a}"}`),
	})
	inv, err := readInventory(t.Context(), newEnv(t, h.spec()).connect(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s %s %s %s", inv.Tools, inv.Prompts, inv.Resources, inv.Templates); got !=
		`[{"name":"a","n":1.0} {"name":"b"} {"name":"c"}] [{"name":"p"}] [{"uri":"x:1"} {"uri":"x:2"}] [{"uriTemplate":"x:{a}"}]` {
		t.Errorf("the lists are %s", got)
	}
	if want := []string{"", `{"cursor":"p\u0032"}`, `{"cursor":"p3"}`}; !slices.Equal(cursors, want) {
		t.Errorf("the cursors are %q, want %q", cursors, want)
	}
	if inv.Initialized.ProtocolVersion != "2025-06-18" {
		t.Errorf("Initialized = %+v", inv.Initialized)
	}
}

func TestOnlyDeclaredListsAreRequested(t *testing.T) {
	t.Parallel()
	refuse := func(json.RawMessage) string { return `"error":{"code":-32601,"message":"no such method"}` }
	for capabilities, want := range map[string][]string{
		`{}`:                             nil,
		`{"logging":{}}`:                 nil,
		`{"tools":{"listChanged":true}}`: {"tools/list"},
		`{"prompts":{}}`:                 {"prompts/list"},
		`{"resources":{}}`:               {"resources/list", "resources/templates/list"},
	} {
		h := lister(t, capabilities, map[string]func(json.RawMessage) string{"tools/list": refuse, "prompts/list": refuse,
			"resources/list": refuse, "resources/templates/list": refuse})
		inv, err := readInventory(t.Context(), newEnv(t, h.spec()).connect(t, nil))
		if err != nil || len(inv.Tools)+len(inv.Prompts)+len(inv.Resources)+len(inv.Templates) != 0 {
			t.Errorf("%s: %+v, %v", capabilities, inv, err)
		}
		var asked []string
		for _, line := range h.seen() {
			if m, err := jsonrpc.Parse([]byte(line)); err == nil && strings.HasSuffix(m.Method, "/list") {
				asked = append(asked, m.Method)
			}
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%s: asked %q, want %q", capabilities, asked, want)
		}
	}
}

// readInventory reads the lists of a new connection.
func readInventory(ctx context.Context, c *Conn) (Inventory, error) {
	l, err := listingOf{conn: c}.read(ctx)
	return l.Inventory, err
}

func TestAListThatIsInvalidIsAnErrorIfThereIsNoOther(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer, want string
		is           error
	}{
		"an error":  {`"error":{"code":-32000,"message":"not today"}`, "refused: not today", nil},
		"an array":  {`"result":[]`, "not a JSON object", transport.ErrProtocol},
		"null":      {`"result":null`, "not a JSON object", transport.ErrProtocol},
		"no list":   {`"result":{"tools":{"a":1}}`, `"tools" is not an array`, transport.ErrProtocol},
		"no tools":  {`"result":{}`, `its answer has no "tools"`, transport.ErrProtocol},
		"two lists": {`"result":{"tools":[],"tools":[]}`, "occurs twice", transport.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := lister(t, `{"tools":{}}`, map[string]func(json.RawMessage) string{
				"tools/list": func(json.RawMessage) string { return test.answer },
			})
			_, err := readInventory(t.Context(), newEnv(t, h.spec()).connect(t, nil))
			if err == nil || !strings.HasPrefix(err.Error(), `tools/list: server "web" `) || !strings.Contains(err.Error(), test.want) ||
				test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestAListThatAServerWouldGoOnWithForEverIsCutAndWhatWasReadIsKept(t *testing.T) {
	t.Parallel()
	const item = `{"name":"a","inputSchema":{"type":"object"}}`
	for name, test := range map[string]struct {
		page  func(n int) string // the n-th answer, from 1
		want  string
		items int
		calls int
	}{
		"the same cursor": {func(n int) string { return fmt.Sprintf(`{"tools":[%d],"nextCursor":"again"}`, n) }, "repeats a cursor", 2, 2},
		"a circle of cursors": {func(n int) string { return fmt.Sprintf(`{"tools":[%d],"nextCursor":"%d"}`, n, n%3) },
			"repeats a cursor", 4, 4},
		"a number":  {func(int) string { return `{"tools":[` + item + `],"nextCursor":7}` }, "not a string", 1, 1},
		"an object": {func(int) string { return `{"tools":[` + item + `],"nextCursor":{"page":2}}` }, "not a string", 1, 1},
		"false":     {func(int) string { return `{"tools":[` + item + `],"nextCursor":false}` }, "not a string", 1, 1},
		"the same page": {func(n int) string { return fmt.Sprintf(`{"tools":[%s],"nextCursor":"%d"}`, item, n) },
			"the same page again", 1, 2},
		"empty pages": {func(n int) string { return fmt.Sprintf(`{"tools":[],"nextCursor":"%d"}`, n) }, "have no items", 0, maxEmptyPages},
		"many pages": {func(n int) string { return fmt.Sprintf(`{"tools":[%d],"nextCursor":"%d"}`, n, n) }, "more than 1000 pages",
			maxPages, maxPages},
		"many items": {func(n int) string {
			return fmt.Sprintf(`{"tools":[%d%s],"nextCursor":"%d"}`, n, strings.Repeat(",0", 29_999), n)
		},
			"more than 50000 items", 30_000, 2},
		"many bytes": {func(n int) string {
			return fmt.Sprintf(`{"tools":["%d%s"],"nextCursor":"%d"}`, n, strings.Repeat("x", 400_000), n)
		},
			"longer than 1000000 bytes", 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			h := lister(t, `{"tools":{}}`, map[string]func(json.RawMessage) string{
				"tools/list": func(json.RawMessage) string { calls++; return `"result":` + test.page(calls) },
			})
			spec := h.spec()
			spec.MaxMessage = 1_000_000
			l, err := listingOf{conn: newEnv(t, spec).connect(t, nil)}.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if cut := l.cut["tools/list"]; cut == nil || !strings.Contains(cut.Error(), test.want) || len(l.failed) != 0 {
				t.Errorf("cut %v, failed %v, want %q", cut, l.failed, test.want)
			}
			if len(l.Tools) != test.items || calls != test.calls {
				t.Errorf("%d items of %d pages were read, want %d of %d", len(l.Tools), calls, test.items, test.calls)
			}
		})
	}
}

// warning returns the message of a warning about a server, or an empty string.
func (r running) warning(server string, kind WarningKind, subject string) string {
	for _, w := range r.Server(server).Status().Warnings {
		if w.Kind == kind && w.Subject == subject {
			return w.Message
		}
	}
	return ""
}

// inventories collects the calls of OnInventory.
type inventories struct {
	mu   sync.Mutex
	list []Inventory
}

func (i *inventories) configure(c *Config) {
	c.OnInventory = func(_ string, inv Inventory) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.list = append(i.list, inv)
	}
}

func (i *inventories) all() []Inventory {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.list)
}

// The only call under way may have caused the change.
func TestManyListChangesAreReadOnce(t *testing.T) {
	t.Parallel()
	log := t.TempDir() + "/log"
	var published inventories
	r := run(t, []Spec{childSpec(t, "script", "CHILD_LOG="+log)}, published.configure).settled(t)
	if n := len(published.all()); n != 1 {
		t.Fatalf("OnInventory was called %d times before it settled", n)
	}
	sink := &recorder{}
	req := toolCall("grow", `{"key":"more","n":500}`)
	req.Sink = sink
	if _, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "the new tool is listed", func() bool {
		got := published.all()
		return len(got[len(got)-1].Tools) == 2
	})
	if n := strings.Count(readFile(log), "tools/list\""); n > 3 {
		t.Errorf("the list was read %d times", n)
	}
	if n := len(sink.notifications()); n != 0 {
		t.Errorf("the call was told of %d changes", n)
	}
	if st := r.Server("child").Status(); st.Tools != 2 {
		t.Errorf("Status() = %+v", st)
	}
	hubtest.Eventually(t, "the metric follows", func() bool { return instrumenttest.Value(t, r.reg, "mcphub_backend_tools") == 2 })
}

func TestListThatCannotBeReadAgainStaysAsItWas(t *testing.T) {
	t.Parallel()
	fail := make(chan struct{})
	h := newHTTPScript(t, func(h *httpScript) {
		h.lists["tools/list"] = func(json.RawMessage) string {
			select {
			case <-fail:
				return `"error":{"code":1,"message":"broken"}`
			default:
				return `"result":{"tools":[{"name":"a"}]}`
			}
		}
	})
	spec := h.spec()
	spec.Isolation = Shared
	var published inventories
	r := run(t, []Spec{spec}, published.configure).settled(t)
	close(fail)
	tool(t, r.link(t, "web", LinkConfig{}), "grow", "")
	hubtest.Eventually(t, "the failure is a warning", func() bool { return r.warning("web", WarnListFailed, "tools/list") != "" })
	if st := r.Server("web").Status(); st.State != Up || st.Tools != 1 || len(published.all()) != 1 {
		t.Errorf("Status() = %+v", st)
	}
}
