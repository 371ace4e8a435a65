package gateway

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// The bits that say how the request of a fuzzed POST is made. The remaining bits choose the hub.
const (
	withSession = 1 << iota // of a version that the next two bits choose
	oldest                  // 2024-11-05
	batches                 // 2025-03-26
	forged                  // an invalid session token
	mirrored                // Mcp-Method and Mcp-Name mirror the body
	fuzzHubs
)

// FuzzPost sends fuzzed requests to hubs with servers of both eras. Each response must be JSON-RPC, or empty if the
// message needs none. Its HTTP status and error code must agree, and it must be the response to that request. Only
// initialize creates a session, and nothing runs afterwards.
func FuzzPost(f *testing.F) {
	hubs := startFuzzHubs(f)
	for _, seed := range postSeeds {
		for hub := range hubs {
			f.Add([]byte(seed.body), seed.how|uint8(hub*fuzzHubs), seed.version, seed.method, seed.name)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, how uint8, version, method, name string) {
		if bytes.Contains(body, []byte(`"die"`)) || bytes.Contains(body, []byte("__die")) {
			return // a tool that takes a second
		}
		h := hubs[int(how/fuzzHubs)%len(hubs)]
		p := &fuzzedPost{fuzzHub: h, t: t, body: body}
		p.message, _, p.parseError = jsonrpc.ParsePatiently(body)
		r := p.request(how, version, method, name)
		p.modern = isModern(r, p.message)
		before := len(h.ids())
		w := &fuzzWriter{ResponseRecorder: httptest.NewRecorder()}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		w.cancel = cancel
		Guard{}.Handler(h.gateway).ServeHTTP(w, r.WithContext(ctx))
		p.check(w.ResponseRecorder)
		opened := len(h.ids()) - before
		header := w.Header().Get(protocol.HeaderSessionID) != ""
		if header != (opened == 1) && p.token == "" || header && !p.initializes() {
			t.Errorf("%d sessions were opened, the header is %q", opened, w.Header().Get(protocol.HeaderSessionID))
		}
		p.endSessions()
	})
}

// fuzzHub is a hub that serves one fuzzed request after the other.
type fuzzHub struct {
	*rig
	panics *hubtest.Buffer
}

// startFuzzHubs starts a hub that merges three servers, and a transparent hub in front of a server of each era.
func startFuzzHubs(f *testing.F) []*fuzzHub {
	f.Helper()
	var hubs []*fuzzHub
	legacy := upstream.Spec{Name: "legacy", URL: parrotOverHTTP(f, false), Isolation: upstream.PerSession}
	modern := upstream.Spec{Name: "modern", URL: parrotOverHTTP(f, true)}
	for _, specs := range [][]upstream.Spec{{stdio(f, "one"), legacy, modern}, {legacy}, {modern}} {
		h := &fuzzHub{panics: &hubtest.Buffer{}}
		s := setup{quiet: true, untraced: true, naming: catalog.Prefix, gateway: func(c *Config) {
			c.Logger = slog.New(slog.NewTextHandler(h.panics, &slog.HandlerOptions{Level: slog.LevelError}))
			c.Bridge = map[string]BridgePolicy{"legacy": BridgeRequest} // sessions with servers end with their request
			c.Transparent = len(specs) == 1
			c.Patience = time.Minute // respond with one JSON object if possible
		}}
		if len(specs) == 1 {
			s.naming = catalog.Bare
		}
		for _, spec := range specs {
			spec.CallTimeout = time.Second
			s.specs = append(s.specs, spec)
		}
		h.rig = build(nil, s)
		if err := h.sessions.Restore(f.Context()); err != nil {
			f.Fatal(err)
		}
		h.run()
		f.Cleanup(h.stop)
		if !h.pool.WaitAttempted(f.Context()) {
			f.Fatal("the servers neither connected nor failed")
		}
		hubs = append(hubs, h)
	}
	return hubs
}

func (h *fuzzHub) ids() []string {
	all, _ := h.sessions.All()
	var ids []string
	for _, s := range all {
		if s.Kind == session.Protocol {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// fuzzWriter cancels a request when a stream has begun that would stay open.
type fuzzWriter struct {
	*httptest.ResponseRecorder
	cancel func()
}

func (w *fuzzWriter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(`"notifications/subscriptions/acknowledged"`)) {
		w.cancel()
	}
	return w.ResponseRecorder.Write(b)
}

// fuzzedPost is one request.
type fuzzedPost struct {
	*fuzzHub
	t          *testing.T
	body       []byte
	message    jsonrpc.Message
	parseError error
	modern     bool
	token      string // of an open session
}

func (p *fuzzedPost) initializes() bool {
	return p.parseError == nil && p.message.Kind() == jsonrpc.Request && p.message.Method == "initialize" && !p.modern
}

func (p *fuzzedPost) request(how uint8, version, method, name string) *http.Request {
	r := p.post(p.body)
	set := func(header, value string) {
		if value != "" {
			r.Header[header] = []string{value}
		}
	}
	if how&withSession != 0 {
		p.token = p.connect([]string{"2025-11-25", "2024-11-05", "2025-03-26", "2025-06-18"}[how/oldest%4])
		set(protocol.HeaderSessionID, p.token)
	} else if how&forged != 0 {
		set(protocol.HeaderSessionID, "abc."+method)
	}
	if how&mirrored != 0 {
		method, name = p.message.Method, ""
		if s, ok := jsonrpc.StringField(p.message.Params, cmp.Or(protocol.NamedBy(method), "name")); ok {
			name = protocol.EncodeHeader(s)
		}
	}
	set(protocol.HeaderProtocolVersion, version)
	set("Mcp-Method", method)
	set("Mcp-Name", name)
	set("Mcp-Param-Region", name)
	return r
}

func (p *fuzzedPost) post(body []byte) *http.Request {
	r := httptest.NewRequestWithContext(p.t.Context(), http.MethodPost, "/mcp", bytes.NewReader(body))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	return r
}

// connect opens a session and returns its token.
func (p *fuzzedPost) connect(version string) string {
	w := httptest.NewRecorder()
	p.gateway.ServeHTTP(w, p.post([]byte(strings.Replace(initializeBody, "2025-11-25", version, 1))))
	if w.Header().Get(protocol.HeaderSessionID) == "" {
		p.t.Fatalf("initialize: %d %s", w.Code, w.Body)
	}
	return w.Header().Get(protocol.HeaderSessionID)
}

// check checks the response.
func (p *fuzzedPost) check(w *httptest.ResponseRecorder) {
	if w.Code == http.StatusAccepted {
		if w.Body.Len() != 0 {
			p.t.Errorf("202 with %s", w.Body)
		}
		if p.parseError == nil && p.message.Kind() == jsonrpc.Request {
			p.t.Errorf("a request was only accepted")
		}
		return
	}
	switch kind := w.Header().Get("Content-Type"); {
	case kind == protocol.TypeEventStream:
		for line := range strings.Lines(w.Body.String()) {
			if data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: "); ok {
				if _, err := jsonrpc.Parse([]byte(data)); err != nil {
					p.t.Errorf("an event is %s: %v", data, err)
				}
			}
		}
		if w.Code != http.StatusOK {
			p.t.Errorf("a stream with status %d", w.Code)
		}
	case kind != protocol.TypeJSON:
		p.t.Errorf("status %d, content type %q, %s", w.Code, kind, w.Body)
	case jsonrpc.IsBatch(w.Body.Bytes()):
		p.checkBatch(w)
	default:
		p.checkAnswer(w)
	}
}

// checkBatch checks a list of responses.
func (p *fuzzedPost) checkBatch(w *httptest.ResponseRecorder) {
	all, err := jsonrpc.ParseBatch(w.Body.Bytes())
	if err != nil || !jsonrpc.IsBatch(p.body) || w.Code != http.StatusOK {
		p.t.Errorf("status %d, %s: %v", w.Code, w.Body, err)
	}
	for _, raw := range all {
		if m, err := jsonrpc.Parse(raw); err != nil || m.Kind() != jsonrpc.Response {
			p.t.Errorf("an answer is %s: %v", raw, err)
		}
	}
}

// checkAnswer checks a single response.
func (p *fuzzedPost) checkAnswer(w *httptest.ResponseRecorder) {
	m, err := jsonrpc.Parse(w.Body.Bytes())
	if err != nil || m.Kind() != jsonrpc.Response {
		p.t.Errorf("status %d, no response: %s: %v", w.Code, w.Body, err)
		return
	}
	want := jsonrpc.Null
	if p.message.ID != "" && (p.parseError != nil || p.message.Kind() == jsonrpc.Request) {
		want = p.message.ID
	}
	if m.ID != want {
		// The error for an unmatched response has no id.
		if p.message.Kind() != jsonrpc.Response || m.ID != p.message.ID {
			p.t.Errorf("the answer is to %s, not to %s: %s", m.ID, want, w.Body)
		}
	}
	if m.Error == nil {
		if w.Code != http.StatusOK || p.parseError != nil {
			p.t.Errorf("status %d with a result: %s", w.Code, w.Body)
		}
		return
	}
	if e := jsonrpc.ParseError(m.Error); !p.agree(w.Code, e.Code) {
		p.t.Errorf("status %d with %s", w.Code, w.Body)
	}
}

// agree reports whether an HTTP status goes with the code of an error.
func (p *fuzzedPost) agree(status, code int) bool {
	switch {
	case status == http.StatusServiceUnavailable:
		return code == jsonrpc.CodeInternal
	case p.modern && p.parseError == nil:
		return status == modernStatus(code)
	case status == http.StatusOK: // of a server, or of the hub within a session
		return p.token != "" && p.parseError == nil
	case status == http.StatusNotFound:
		return code == protocol.CodeSessionNotFound
	}
	switch code {
	case jsonrpc.CodeParse, jsonrpc.CodeInvalidRequest, jsonrpc.CodeInvalidParams, protocol.CodeUnsupportedVersion:
		return status == http.StatusBadRequest
	}
	return false
}

// endSessions ends the sessions and waits until nothing runs.
func (p *fuzzedPost) endSessions() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, id := range p.ids() {
		if _, err := p.sessions.End(ctx, id, session.ClientDelete); err != nil {
			p.t.Errorf("ending a session: %v", err)
		}
	}
	if err := p.gateway.Wait(ctx); err != nil {
		p.t.Errorf("calls are still running: %v", err)
	}
	if n := len(p.gateway.legacy.all()); n != 0 {
		p.t.Errorf("%d sessions are open", n)
	}
	if calls, subs := p.gateway.modern.inFlight.Load(), len(p.gateway.modern.subscriptions.all()); calls != 0 || subs != 0 {
		p.t.Errorf("%d calls and %d subscriptions are still open", calls, subs)
	}
	if log := p.panics.String(); strings.Contains(log, "panic") {
		p.t.Error(log)
	}
}

const fuzzedMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},` +
	`"progressToken":1}`

func modernSeed(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s%s}}`, method, params, fuzzedMeta)
}

// postSeeds are requests that reach different parts of the gateway.
var postSeeds = []struct {
	body                  string
	how                   uint8
	version, method, name string
}{
	{initializeBody, 0, "", "", ""},
	{initializeBody, withSession, "2025-11-25", "", ""},
	{initializeBody, 0, "2026-07-28", "initialize", ""},
	{`{"jsonrpc":"2.0","id":"a","method":"ping"}`, withSession, "2025-11-25", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"ping"}`, forged, "", "x", ""},
	{`{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/list","params":{"cursor":"AAAA"}}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"legacy__say","arguments":{"say":"x","steps":1},` +
		`"_meta":{"progressToken":""}}}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"modern__say","arguments":{"say":"x"}}}`,
		withSession | oldest, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__fail","arguments":{"error":{"code":-32601,"message":""}}}}`,
		withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"test://one/item/7"}}`, withSession, "2025-06-18", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"test://one/one"}}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"one__greet"},"argument":{}}}`,
		withSession, "", "", ""},
	{`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"result":{}}`, withSession, "", "", ""},
	{`{"jsonrpc":"2.0","id":1,"result":{}}`, 0, "2026-07-28", "", ""},
	{`{"jsonrpc":"2.0","id":null,"error":{}}`, withSession, "1999-01-01", "", ""},
	{`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,` +
		`"method":"tools/list"},7,{"jsonrpc":"2.0","method":"x"}]`, withSession | batches, "2025-03-26", "", ""},
	{`[{"jsonrpc":"2.0","method":"x"}]`, withSession | batches, "", "", ""},
	{`[]`, withSession, "", "", ""},
	{`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, 0, "2026-07-28", "ping", ""},
	{`{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`, withSession, "", "", ""},
	{`{"jsonrpc":"1.0","id":1,"method":"ping"}`, 0, "", "", ""},
	{"{\"\xff\":1}", 0, "", "", ""},
	{`7`, 0, "", "", ""},
	{``, 0, "", "", ""},
	{modernSeed("server/discover", ""), mirrored, "2026-07-28", "", ""},
	{modernSeed("tools/list", ""), 0, "2026-07-28", "tools/list", ""},
	{modernSeed("tools/list", `"cursor":"é",`), mirrored, "", "", ""},
	{modernSeed("tools/call", `"name":"modern__say","arguments":{"say":"x","steps":1},`), mirrored, "2026-07-28", "", ""},
	{modernSeed("tools/call", `"name":"legacy__say","arguments":{"say":"x"},`), mirrored, "2026-07-28", "", ""},
	{modernSeed("tools/call", `"name":"say","arguments":{},"requestState":"mcphub1.x","inputResponses":{},`),
		mirrored, "2026-07-28", "", ""},
	{modernSeed("prompts/get", `"name":"one__greet",`), 0, "2026-07-28", "prompts/get", "=?base64?b25lX19ncmVldA==?="},
	{modernSeed("resources/read", `"uri":"test://both",`), mirrored, "2026-07-28", "", ""},
	{modernSeed("subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://one/one"]},`),
		mirrored, "2026-07-28", "", ""},
	{modernSeed("vendor/x", ""), mirrored, "2026-07-28", "", ""},
	{modernSeed("ping", ""), mirrored, "2026-07-28", "", ""},
	{modernSeed("tools/list", ""), mirrored, "2099-01-01", "", ""},
	{`{"jsonrpc":"2.0","method":"notifications/vendor","params":{}}`, 0, "2026-07-28", "", ""},
}
