package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// lists serves these lists, which may change.
func lists(t *testing.T, tools, resources *atomic.Value) string {
	t.Helper()
	return hubtest.Serve(t, &hubtest.Script{Capabilities: `{"tools":{},"resources":{}}`, Handle: func(c *hubtest.Call) *hubtest.Reply {
		switch c.Method {
		case "tools/list":
			return &hubtest.Reply{Result: json.RawMessage(fmt.Sprintf(`{"tools":[%s]}`, tools.Load()))}
		case "tools/call":
			reply := hubtest.Text("called")
			return &reply
		case "resources/list":
			return &hubtest.Reply{Result: json.RawMessage(fmt.Sprintf(`{"resources":[%s]}`, resources.Load()))}
		case "resources/templates/list":
			return &hubtest.Reply{Result: json.RawMessage(`{"resourceTemplates":[]}`)}
		}
		return nil
	}})
}

func value(text string) *atomic.Value {
	var v atomic.Value
	v.Store(text)
	return &v
}

const (
	goodTool = `{"name":"same","inputSchema":{"type":"object"}}`
	newTool  = goodTool + `,{"name":"new","inputSchema":{"type":"object"}}`
	badTool  = `{"name":"bad","inputSchema":{"type":"string"}}`
)

func warningsOf(t *testing.T, hub *hubtest.Hub, server string) (texts []string) {
	t.Helper()
	var u admin.Upstream
	if _, body := hub.Get("/api/v1/upstreams/" + server); json.Unmarshal([]byte(body), &u) != nil {
		t.Fatalf("%s: %s", server, body)
	}
	for _, w := range u.Warnings {
		texts = append(texts, fmt.Sprintf("%s %s: %s", w.Kind, w.Subject, w.Message))
	}
	return texts
}

func TestServersAreListedAndRefreshed(t *testing.T) {
	tools := value(goodTool)
	hub := hubtest.StartHub(t, hubtest.Options{Config: fmt.Sprintf(
		`mcpServers: {web: {url: %q, refreshInterval: 0}, gone: {command: /nonexistent}}`,
		lists(t, tools, value("")))})
	hub.AwaitServers(1)
	client := hubtest.Connect(t, hub.URL())
	servers := func(args ...string) (int, string, string) {
		return mcphub(t, "", append(append([]string{"servers"}, args...), "--admin", hub.AdminListen)...)
	}
	if status, out, _ := servers("list"); status != 0 || !strings.Contains(out, "web ") || !strings.Contains(out, "gone: ") ||
		!strings.Contains(out, "could not be started") {
		t.Errorf("list: %d\n%s", status, out)
	}
	tools.Store(newTool + "," + badTool)
	status, out, errs := servers("refresh", "web")
	if status != 0 || !strings.Contains(out, `web: invalid_tool: tool bad: passed on, but some clients refuse a list with such a tool: `+
		`its inputSchema has not the type "object"`) {
		t.Errorf("refresh: %d\n%s%s", status, out, errs)
	}
	if a := client.Request("tools/call", `{"name":"web__new"}`); a.Result == nil {
		t.Errorf("the new tool: %s", a.Error)
	}
	status, out, errs = servers("refresh", "gone", "none", "web", "--json")
	var u admin.Upstream
	if err := json.Unmarshal([]byte(out), &u); err != nil || status != 1 || u.Name != "web" || u.Tools != 3 ||
		!strings.Contains(errs, "refresh server gone: ") || !strings.Contains(errs, "refresh server none: ") {
		t.Errorf("refresh: %d %v\n%s%s", status, err, out, errs)
	}
	if status, _, _ := servers("refresh"); status != 2 {
		t.Errorf("refresh of nothing: %d", status)
	}
	if status, out, _ := servers("list", "--json"); status != 0 || !strings.Contains(out, `"count": 2`) {
		t.Errorf("list --json: %d\n%s", status, out)
	}
}

func TestANameThatNobodyListsIsLookedForAtTheServersBeforeItIsRefused(t *testing.T) {
	tools, resources := value(goodTool), value("")
	hub := hubtest.StartHub(t, hubtest.Options{Config: fmt.Sprintf(`mcpServers: {web: {url: %q}, other: {url: %q}}`,
		lists(t, tools, resources), lists(t, value(""), value("")))})
	hub.AwaitServers(2)
	client := hubtest.Connect(t, hub.URL())
	tools.Store(newTool)
	if a := client.Request("tools/call", `{"name":"other__new"}`); a.Error == nil {
		t.Errorf("a tool of the other server: %s", a.Result)
	}
	if a := client.Request("tools/call", `{"name":"web__new"}`); a.Result == nil {
		t.Errorf("the new tool: %s", a.Error)
	}
	if n := hub.Metric(`mcphub_backend_listings_total{mcphub_backend="web",outcome="ok",reason="unknown"}`); n != "1" {
		t.Errorf("web was read %s times", n)
	}
}

func TestWhatIsHiddenIsAWarningOfItsServerWhoeverCameLater(t *testing.T) {
	first, second := value(""), value(goodTool)
	hub := hubtest.StartHub(t, hubtest.Options{Config: fmt.Sprintf(
		"naming: bare\nmcpServers: {first: {url: %q, refreshInterval: 0}, second: {url: %q, refreshInterval: 0}}",
		lists(t, first, value(`{"uri":"x://y?token=secret","name":"r"}`)),
		lists(t, second, value(`{"uri":"x://y?token=secret","name":"r"}`)))})
	hub.AwaitServers(2)
	hidden := `hidden resource x://y: "x://y" is taken by "x://y" of server "first"`
	if got := warningsOf(t, hub, "second"); !slices.Equal(got, []string{hidden}) {
		t.Errorf("the warnings are %q", got)
	}
	// The later server is the one that hides now, and has no warning itself.
	first.Store(goodTool)
	if status, _, errs := mcphub(t, "", "servers", "refresh", "first", "--admin", hub.AdminListen); status != 0 {
		t.Fatal(errs)
	}
	want := []string{hidden, `hidden tool same: "same" is taken by "same" of server "first"`}
	if got := warningsOf(t, hub, "second"); !slices.Equal(got, want) {
		t.Errorf("the warnings are %q", got)
	}
	if got := warningsOf(t, hub, "first"); len(got) != 0 {
		t.Errorf("the warnings of the server that is seen are %q", got)
	}
	if n := hub.Metric(`mcphub_backend_warnings{kind="hidden",mcphub_backend="second"}`); n != "2" {
		t.Errorf("%s are counted", n)
	}
	if _, page := hub.Get("/"); !strings.Contains(page, "hidden <code>tool same</code>") || strings.Contains(page, "secret") {
		t.Errorf("the page is %s", page)
	}
	if n := len(hub.Logged("warning about the server")); n != 2 {
		t.Errorf("%d changes are logged", n)
	}
	first.Store("")
	_, _, _ = mcphub(t, "", "servers", "refresh", "first", "--admin", hub.AdminListen)
	if got := warningsOf(t, hub, "second"); !slices.Equal(got, []string{hidden}) {
		t.Errorf("the warnings are %q", got)
	}
	if n := len(hub.Logged("a warning about the server is over")); n != 1 {
		t.Errorf("%d ends are logged", n)
	}
}

func TestAnInvalidToolIsDroppedIfTheConfigurationSaysSo(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: fmt.Sprintf(
		`mcpServers: {pass: {url: %q}, drop: {url: %q, onInvalidTool: drop}}`,
		lists(t, value(goodTool+","+badTool), value("")), lists(t, value(goodTool+","+badTool), value("")))})
	hub.AwaitServers(2)
	a := hubtest.Connect(t, hub.URL()).Request("tools/list", "{}")
	for name, want := range map[string]bool{"pass__same": true, "pass__bad": true, "drop__same": true, "drop__bad": false} {
		if strings.Contains(string(a.Result), `"`+name+`"`) != want {
			t.Errorf("%s is listed: %v", name, !want)
		}
	}
	for server, want := range map[string]string{"pass": "passed on, but some clients refuse", "drop": "left out: its inputSchema"} {
		if got := warningsOf(t, hub, server); len(got) != 1 || !strings.Contains(got[0], "invalid_tool tool bad: "+want) {
			t.Errorf("%s: %q", server, got)
		}
	}
}

func TestATransparentHubHidesNothingAndPassesInvalidToolsOn(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{Config: fmt.Sprintf("naming: bare\nmcpServers: {web: {url: %q, onInvalidTool: drop}}",
		lists(t, value(goodTool+","+goodTool+","+badTool), value("")))})
	hub.AwaitServers(1)
	if a := hubtest.Connect(t, hub.URL()).Request("tools/list", "{}"); strings.Count(string(a.Result), `"same"`) != 2 ||
		!strings.Contains(string(a.Result), `"bad"`) {
		t.Errorf("the list is %s", a.Result)
	}
	if got := warningsOf(t, hub, "web"); len(got) != 1 || !strings.Contains(got[0], "invalid_tool tool bad: passed on") {
		t.Errorf("the warnings are %q", got)
	}
}

func TestConfigCheckSaysWhatTheConfigurationHides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	if err := os.WriteFile(file, []byte("naming: bare\nmcpServers: {a: {command: x}, b: {command: y}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := mcphub(t, "", "config", "check", "--config", file); status != 0 ||
		!strings.Contains(out, file+": warning: naming: bare hides names") || !strings.Contains(out, ": ok, 2 servers") {
		t.Errorf("%d %s", status, out)
	}
}
