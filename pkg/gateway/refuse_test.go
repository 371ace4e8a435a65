package gateway

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/session"
)

const pingBody = `{"jsonrpc":"2.0","id":7,"method":"ping"}`

func TestRefusedRequestCreatesNothing(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.MaxRequestBytes = 1000 }})
	for _, c := range []struct {
		name, method, body string
		headers            []string
		status, code       int
		id                 string
	}{
		{"no content type", "POST", initializeBody, []string{"Content-Type: "}, 415, -32600, "null"},
		{"a form's content type", "POST", initializeBody, []string{"Content-Type: text/plain"}, 415, -32600, "null"},
		{"an invalid content type", "POST", initializeBody, []string{"Content-Type: ;;"}, 415, -32600, "null"},
		{"accepts no stream", "POST", initializeBody, []string{"Accept: application/json"}, 406, -32600, "null"},
		{"accepts no object", "POST", initializeBody, []string{"Accept: text/event-stream"}, 406, -32600, "null"},
		{"no Accept header", "POST", initializeBody, []string{"Accept: "}, 406, -32600, "null"},
		{"rules out a stream", "POST", initializeBody, []string{"Accept: application/json, text/event-stream;q=0"}, 406, -32600, "null"},
		{"too long", "POST", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":"` + strings.Repeat("x", 1000) + `"}}`, nil,
			413, -32600, "null"},
		{"no JSON", "POST", `{"jsonrpc":"2.0","id":1,`, nil, 400, -32700, "1"},
		{"no body", "POST", ``, nil, 400, -32700, "null"},
		{"not UTF-8", "POST", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\xff}", nil, 400, -32700, "1"},
		{"no version", "POST", `{"id":"a","method":"ping"}`, nil, 400, -32600, `"a"`},
		{"no method", "POST", `{"jsonrpc":"2.0","id":1.50}`, nil, 400, -32600, `1.50`},
		{"two methods", "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"initialize"}`, nil, 400, -32600, "1"},
		{"an invalid id", "POST", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, nil, 400, -32600, "null"},
		{"a null id", "POST", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, nil, 400, -32600, "null"},
		{"invalid params", "POST", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":"x"}`, nil, 400, -32600, "1"},
		{"a batch", "POST", `[` + initializeBody + `]`, nil, 400, -32600, "null"},
		{"a version from the future", "POST", initializeBody, []string{"Mcp-Protocol-Version: 2099-01-01"}, 400, -32022, "0"},
		{"a modern version without _meta", "POST", initializeBody, []string{"Mcp-Protocol-Version: 2026-07-28"}, 400, -32602, "0"},
		{"an outdated version", "POST", initializeBody, []string{"Mcp-Protocol-Version: 2023-01-01"}, 400, -32022, "0"},
		{"two versions", "POST", initializeBody, []string{"Mcp-Protocol-Version: 2025-11-25", "Mcp-Protocol-Version: 2025-06-18"}, 400,
			-32600, "0"},
		{"no session", "POST", pingBody, nil, 400, -32600, "7"},
		{"an empty session", "POST", pingBody, []string{"Mcp-Session-Id: "}, 400, -32600, "7"},
		{"two sessions", "POST", pingBody, []string{"Mcp-Session-Id: a", "Mcp-Session-Id: b"}, 400, -32600, "7"},
		{"initialize with two sessions", "POST", initializeBody, []string{"Mcp-Session-Id: a", "Mcp-Session-Id: b"}, 400, -32600, "0"},
		{"a notification without session", "POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, 400, -32600, "null"},
		{"initialize as a notification", "POST", `{"jsonrpc":"2.0","method":"initialize"}`, nil, 400, -32600, "null"},
		{"GET without session", "GET", "", nil, 400, -32600, "null"},
		{"GET with two sessions", "GET", "", []string{"Mcp-Session-Id: a", "Mcp-Session-Id: b"}, 400, -32600, "null"},
		{"GET that accepts no stream", "GET", "", []string{"Accept: application/json"}, 406, -32600, "null"},
		{"GET in a modern version", "GET", "", []string{"Mcp-Protocol-Version: 2026-07-28"}, 405, -32600, "null"},
		{"DELETE without session", "DELETE", "", nil, 400, -32600, "null"},
		{"DELETE with two sessions", "DELETE", "", []string{"Mcp-Session-Id: a", "Mcp-Session-Id: b"}, 400, -32600, "null"},
		{"DELETE in a modern version", "DELETE", "", []string{"Mcp-Protocol-Version: 2026-07-28"}, 405, -32600, "null"},
		{"PUT", "PUT", initializeBody, nil, 405, -32600, "null"},
		{"PATCH", "PATCH", initializeBody, nil, 405, -32600, "null"},
		{"initialize without params", "POST", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, nil, 400, -32602, "1"},
		{"initialize with a list", "POST", request("1", "initialize", `[]`), nil, 400, -32602, "1"},
		{"initialize without version", "POST", request("1", "initialize", `{"capabilities":{},"clientInfo":{"name":"a","version":"1"}}`),
			nil, 400, -32602, "1"},
		{"initialize with an empty version", "POST", request("1", "initialize", `{"protocolVersion":"","capabilities":{}}`), nil, 400,
			-32602, "1"},
		{"initialize with a number", "POST", request("1", "initialize", `{"protocolVersion":1,"capabilities":{}}`), nil, 400, -32602, "1"},
		{"initialize in capitals", "POST", request("1", "initialize", `{"PROTOCOLVERSION":"2025-11-25","capabilities":{}}`), nil, 400,
			-32602, "1"},
		{"initialize with invalid capabilities", "POST",
			request("1", "initialize", `{"protocolVersion":"2025-11-25","capabilities":"x"}`), nil, 400, -32602, "1"},
		{"initialize with an invalid clientInfo", "POST",
			request("1", "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":5}`), nil, 400, -32602, "1"},
		{"initialize with an invalid name", "POST",
			request("1", "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":[]}}`),
			nil, 400, -32602, "1"},
		{"initialize with two versions", "POST",
			request("1", "initialize", `{"protocolVersion":"2025-11-25","protocolVersion":"2024-11-05",`+
				`"capabilities":{}}`), nil, 400, -32602, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.send(c.method, c.body, c.headers...)
			m := p.response(t)
			if p.status != c.status || p.rpcError(t).Code != c.code || string(m.ID) != c.id {
				t.Errorf("answered %d %s", p.status, p.body)
			}
			if p.header.Get("Mcp-Session-Id") != "" {
				t.Error("a session was created")
			}
			if allow := p.header.Get("Allow"); (c.status == 405) != (allow == "GET, POST, DELETE, OPTIONS" || allow == "POST") {
				t.Errorf("Allow: %q", allow)
			}
			if c.code == -32022 && !strings.Contains(p.body,
				`"supported":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]`) {
				t.Errorf("the supported versions are not in %s", p.body)
			}
		})
	}
	if keys := r.stored(); len(keys) > 0 {
		t.Errorf("the store holds %q", keys)
	}
	if all, _ := r.sessions.All(); len(all) > 0 || len(r.gateway.legacy.all()) > 0 {
		t.Errorf("there are sessions: %+v", all)
	}
}

func TestValidHeadersAreAcceptedInManySpellings(t *testing.T) {
	r := start(t, setup{})
	for _, headers := range [][]string{
		{"Content-Type: application/json; charset=utf-8"},
		{"Content-Type: Application/JSON"},
		{"Accept: */*"},
		{"Accept: application/*, text/*;q=0.5"},
		{"Accept: text/event-stream", "Accept: application/json"},
		{"Mcp-Protocol-Version: 2024-11-05"},
	} {
		if p := r.send(http.MethodPost, initializeBody, headers...); p.status != http.StatusOK {
			t.Errorf("%q: %d %s", headers, p.status, p.body)
		}
	}
}

func TestLongVersionHeaderIsNotRepeatedWhole(t *testing.T) {
	r := start(t, setup{})
	p := r.send(http.MethodPost, pingBody, "Mcp-Protocol-Version: "+strings.Repeat("9", 5000))
	if p.status != http.StatusBadRequest || len(p.body) > 500 {
		t.Errorf("answered %d with %d bytes", p.status, len(p.body))
	}
}

func TestRequestsWithoutAValidSessionAreRefusedAlike(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") } }})
	mine := r.connect("X-User: ann")
	deleted := r.connect("X-User: ann")
	if p := r.send(http.MethodDelete, "", "Mcp-Session-Id: "+deleted.token, "X-User: ann"); p.status != http.StatusNoContent {
		t.Fatalf("DELETE: %d %s", p.status, p.body)
	}
	expired := r.connect("X-User: ann")
	if _, err := r.sessions.End(t.Context(), expired.id, session.IdleTimeout); err != nil {
		t.Fatal(err)
	}
	flipped := []byte(mine.token)
	flipped[len(flipped)-1] ^= 1

	before := r.stored()
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		var first []byte
		for name, headers := range map[string][]string{
			"unknown":         {"Mcp-Session-Id: aaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbb", "X-User: ann"},
			"garbage":         {"Mcp-Session-Id: ../../etc/passwd", "X-User: ann"},
			"index":           {"Mcp-Session-Id: index", "X-User: ann"},
			"long":            {"Mcp-Session-Id: " + strings.Repeat("a", 5000), "X-User: ann"},
			"deleted":         {"Mcp-Session-Id: " + deleted.token, "X-User: ann"},
			"expired":         {"Mcp-Session-Id: " + expired.token, "X-User: ann"},
			"wrong verifier":  {"Mcp-Session-Id: " + string(flipped), "X-User: ann"},
			"no verifier":     {"Mcp-Session-Id: " + mine.id, "X-User: ann"},
			"empty verifier":  {"Mcp-Session-Id: " + mine.id + ".", "X-User: ann"},
			"two verifiers":   {"Mcp-Session-Id: " + mine.token + ".x", "X-User: ann"},
			"upper case":      {"Mcp-Session-Id: " + strings.ToUpper(mine.token), "X-User: ann"},
			"other principal": {"Mcp-Session-Id: " + mine.token, "X-User: bob"},
			"anonymous":       {"Mcp-Session-Id: " + mine.token},
		} {
			body := ""
			if method == http.MethodPost {
				body = pingBody
			}
			p := r.send(method, body, headers...)
			got := []byte(strconv.Itoa(p.status) + p.header.Get("Content-Type") + p.body)
			if first == nil {
				first = got
			}
			if p.status != http.StatusNotFound || !bytes.Equal(got, first) {
				t.Errorf("%s, %s: %s, want %s", method, name, got, first)
			}
		}
	}
	if after := r.stored(); !slices.Equal(slices.Sorted(slices.Values(before)), slices.Sorted(slices.Values(after))) {
		t.Errorf("the store held %q and now %q", before, after)
	}
	if p := mine.post(pingBody, "X-User: ann"); p.status != http.StatusOK {
		t.Errorf("the session is gone: %d %s", p.status, p.body)
	}
}

func TestNotificationsAndResponsesAreAccepted(t *testing.T) {
	r := start(t, setup{})
	c := r.connect()
	for _, body := range []string{
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled"}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
		`{"jsonrpc":"2.0","method":"notifications/x/unheard/of","params":{"a":1}}`,
	} {
		if p := c.post(body); p.status != http.StatusAccepted || p.body != "" {
			t.Errorf("%s: %d %q", body, p.status, p.body)
		}
	}
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{}}`,
		`{"jsonrpc":"2.0","id":"hub-x-1","error":{"code":1,"message":"no"}}`,
	} {
		if p := c.post(body); p.status != http.StatusBadRequest || p.rpcError(t).Code != -32600 {
			t.Errorf("%s: %d %q", body, p.status, p.body)
		}
	}
}

func TestSessionOfAnotherPrincipalIsNotFound(t *testing.T) {
	r := start(t, setup{gateway: func(c *Config) { c.Principal = func(r *http.Request) string { return r.Header.Get("X-User") } }})
	ann := r.connect("X-User: ann")
	for _, user := range []string{"bob", "Ann", ""} {
		if p := r.send(http.MethodPost, pingBody, "Mcp-Session-Id: "+ann.token, "X-User: "+user); p.status != http.StatusNotFound {
			t.Errorf("%q may use the session: %d", user, p.status)
		}
		r.connect("Mcp-Session-Id: "+ann.token, "X-User: "+user) // must not end it
	}
	if p := ann.post(pingBody); p.status != http.StatusOK {
		t.Errorf("ann may not: %d", p.status)
	}
}
