package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestInitializeNegotiatesTheVersion(t *testing.T) {
	r := start(t, setup{})
	for requested, want := range map[string]string{
		"2024-11-05": "2024-11-05",
		"2025-03-26": "2025-03-26",
		"2025-06-18": "2025-06-18",
		"2025-11-25": "2025-11-25",
		"2026-07-28": "2025-11-25",
		"2023-01-01": "2025-11-25",
		"junk":       "2025-11-25",
	} {
		p := r.send(http.MethodPost, request(`"x"`, "initialize", fmt.Sprintf(
			`{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"n","version":"1"},"_meta":{"a":1}}`, requested)))
		var v struct {
			ProtocolVersion string
			ServerInfo      struct{ Name, Version string }
		}
		m := p.response(t)
		if err := json.Unmarshal(m.Result, &v); err != nil || string(m.ID) != `"x"` || v.ProtocolVersion != want ||
			v.ServerInfo.Name != "mcphub" || v.ServerInfo.Version != "test" {
			t.Errorf("version %s: %s", requested, p.body)
		}
		token := p.header.Get("Mcp-Session-Id")
		for _, b := range []byte(token) {
			if b < 0x21 || b > 0x7e {
				t.Errorf("the token has the byte %#x", b)
			}
		}
		id, verifier, _ := strings.Cut(token, ".")
		if len(id) < 16 || len(verifier) < 26 {
			t.Errorf("the token is short: %d and %d characters", len(id), len(verifier))
		}
		if s, err := r.sessions.Get(t.Context(), id); err != nil || s.ProtocolVersion != want {
			t.Errorf("stored %+v: %v", s, err)
		}
	}
}

func TestSessionRecordsItsClient(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Principal = func(*http.Request) string { return "ann" } }})
	long := strings.Repeat("é", 500)
	p := r.send(http.MethodPost, request("1", "initialize", fmt.Sprintf(
		`{"protocolVersion":"2025-06-18","capabilities":{"roots": {"x":1.50}},"clientInfo":{"name":%q,"version":"9","title":"T"}}`, long)),
		"User-Agent: probe/1")
	id, _, _ := strings.Cut(p.header.Get("Mcp-Session-Id"), ".")
	s, err := r.sessions.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if s.ClientName != strings.Repeat("é", maxField/2) || s.ClientVersion != "9" || s.UserAgent != "probe/1" || s.IP != "127.0.0.1" ||
		s.Principal != "ann" || string(s.Capabilities) != `{"roots": {"x":1.50}}` || s.State != session.Initializing {
		t.Errorf("stored %+v", s)
	}
	c := &peer{rig: r, token: p.header.Get("Mcp-Session-Id"), id: id}
	c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if s, _ := r.sessions.Get(t.Context(), id); s.State != session.Ready {
		t.Errorf("the session is %s after initialized", s.State)
	}
}

func TestHeadersNameTheWorkingDirectoryProjectAndClient(t *testing.T) {
	r := start(t, setup{})
	const named, unnamed = `{"name":"probe","version":"1"}`, `{}`
	long := strings.Repeat("x", 5000)
	for _, x := range []struct {
		about              string
		headers            []string
		name, cwd, project string
	}{
		{named, nil, "probe", "", ""},
		{unnamed, nil, "", "", ""},
		{named, []string{"X-Mcp-Cwd: /a", "X-Mcp-Project: p", "X-Mcp-Client-Id: id"}, "probe", "/a", "p"},
		{unnamed, []string{"X-Cwd: /b", "X-Project: q", "X-Client-Id: id"}, "id", "/b", "q"},
		{unnamed, []string{"X-Mcp-Cwd: /a", "X-Cwd: /b", "X-Mcp-Project: p", "X-Project: q", "X-Mcp-Client-Id: one", "X-Client-Id: two"},
			"one", "/a", "p"},
		{`{"name":""}`, []string{"X-Client-Id: id"}, "id", "", ""},
		{unnamed, []string{"X-Mcp-Cwd: " + long, "X-Mcp-Project: " + long, "X-Mcp-Client-Id: " + long}, long[:256], long[:4096],
			long[:256]},
		{unnamed, []string{"X-Mcp-Cwd: /\xff\xc3\xa9", "X-Mcp-Project: \xff", "X-Mcp-Client-Id: a\xffb"}, "ab", "/é", ""},
	} {
		p := r.send(http.MethodPost, request("1", "initialize",
			`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":`+x.about+`}`), x.headers...)
		id, _, _ := strings.Cut(p.header.Get("Mcp-Session-Id"), ".")
		s, err := r.sessions.Get(t.Context(), id)
		if err != nil || s.ClientName != x.name || s.Cwd != x.cwd || s.Project != x.project {
			t.Errorf("%.100q: stored %.40q %.40q %.40q: %v", x.headers, s.ClientName, s.Cwd, s.Project, err)
		}
	}
}

func TestCapabilitiesOfAClientAreLimited(t *testing.T) {
	r := start(t, setup{})
	p := r.send(http.MethodPost, request("1", "initialize", fmt.Sprintf(
		`{"protocolVersion":"2025-06-18","capabilities":{"x":%q},"clientInfo":{"name":"n","version":"9"}}`, strings.Repeat("x",
			maxCapabilities))))
	if p.status != http.StatusBadRequest || p.rpcError(t).Code != -32602 {
		t.Errorf("capabilities that are too long: %d %s", p.status, p.body)
	}
	if keys := r.stored(); len(keys) != 0 {
		t.Errorf("the store holds %q", keys)
	}
}

// failingStore is a store whose writes fail.
type failingStore struct{ persist.Memory }

func (*failingStore) Apply(context.Context, []persist.Change) error {
	return errors.New("the disk is full")
}

// flakyStore is a store whose writes fail while fails is set.
type flakyStore struct {
	persist.Memory
	fails atomic.Bool
}

func (m *flakyStore) Apply(ctx context.Context, changes []persist.Change) error {
	if m.fails.Load() {
		return errors.New("the disk is full")
	}
	return m.Memory.Apply(ctx, changes)
}

func TestSessionThatCannotBeStoredIsNotCreated(t *testing.T) {
	r := build(t, setup{store: &failingStore{}, sessions: func(c *session.Config) { c.FlushInterval = time.Hour }})
	r.client = http.DefaultClient
	r.server = httptest.NewServer(r.gateway)
	r.url = r.server.URL
	defer r.server.Close()
	defer r.client.CloseIdleConnections()
	p := r.send(http.MethodPost, initializeBody)
	if p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" || p.header.Get("Mcp-Session-Id") != "" ||
		p.rpcError(t).Code != -32603 || strings.Contains(p.body, "disk") {
		t.Errorf("answered %d %v %s", p.status, p.header, p.body)
	}
	if all, _ := r.sessions.All(); len(all) != 0 {
		t.Errorf("there are sessions: %+v", all)
	}
	r.conserved(0)
}

func TestCapabilitiesAndInstructionsAreMerged(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), absent("down"), stdio(t, "two")}})
	p := r.send(http.MethodPost, initializeBody)
	var v struct {
		Capabilities map[string]map[string]bool
		Instructions string
	}
	if err := json.Unmarshal(p.response(t).Result, &v); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]bool{"tools": {"listChanged": true}, "prompts": {"listChanged": true},
		"resources": {"listChanged": true, "subscribe": true}, "logging": {}, "completions": {}}
	if !reflect.DeepEqual(v.Capabilities, want) {
		t.Errorf("capabilities are %v", v.Capabilities)
	}
	if v.Instructions != "# one\n\nBe kind to one.\n\n# two\n\nBe kind to two." {
		t.Errorf("instructions are %q", v.Instructions)
	}
}

func TestInitializingAgainEndsTheOldSession(t *testing.T) {
	r := start(t, setup{})
	old := r.connect()
	stream := old.listen()
	again := r.connect("Mcp-Session-Id: " + old.token)
	if again.token == old.token {
		t.Error("the token is the same")
	}
	stream.waitForEnd()
	if p := old.post(pingBody); p.status != http.StatusNotFound {
		t.Errorf("the old session answers %d", p.status)
	}
	if p := again.post(pingBody); p.status != http.StatusOK {
		t.Errorf("the new session answers %d", p.status)
	}
	if got := r.closed("disconnect"); got != 1 {
		t.Errorf("%v sessions ended as disconnected", got)
	}
	// A client without the right token ends no session.
	for _, token := range []string{again.id, again.token + "x", "x.y"} {
		r.connect("Mcp-Session-Id: " + token)
	}
	if p := again.post(pingBody); p.status != http.StatusOK {
		t.Errorf("a client without the token ended the session: %d", p.status)
	}
}
