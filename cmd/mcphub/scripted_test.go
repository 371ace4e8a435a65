package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// scripted is a server over HTTP that answers one request after the other as it
// was told, and remembers what it got.
type scripted struct {
	modern bool
	traced bool // requests have a trace in _meta

	mu   sync.Mutex
	now  *exchange // nil: nothing is expected
	seen []string
}

func startScripted(t *testing.T, modern, traced bool) (s *scripted, url string) {
	t.Helper()
	s = &scripted{modern: modern, traced: traced}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s, server.URL
}

// next says what comes now.
func (s *scripted) next(x exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.seen = &x, nil
}

// got returns what the server got since next.
func (s *scripted) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = nil
	return s.seen
}

// take returns the exchange that m begins, nil if it is not the expected one.
func (s *scripted) take(m jsonrpc.Message) *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.now
	if x == nil || x.Method != m.Method {
		return nil
	}
	s.now = nil
	s.seen = append(s.seen, m.Method+" "+string(s.unmapped(m.Params)))
	return x
}

// unmapped takes out of params what the hub may change.
func (s *scripted) unmapped(params json.RawMessage) json.RawMessage {
	if token := progressToken(params); token != nil {
		params = edited(params, jsonrpc.Edit{Name: "progressToken", Value: json.RawMessage(`"mapped"`)})
	}
	if s.traced {
		params = edited(params, jsonrpc.Edit{Name: "traceparent"}, jsonrpc.Edit{Name: "tracestate"}, jsonrpc.Edit{Name: "baggage"})
	}
	if s.traced && string(params) == "{}" {
		return nil // the trace was all there was
	}
	return params
}

// edited edits _meta. It goes if that leaves nothing in it.
func edited(params json.RawMessage, edits ...jsonrpc.Edit) json.RawMessage {
	fields, err := jsonrpc.Fields(params, "_meta")
	if err != nil || fields[0] == nil {
		return params
	}
	meta, err := jsonrpc.Rewrite(fields[0], edits...)
	if err != nil {
		return params
	}
	if string(meta) == "{}" {
		meta = nil
	}
	if params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "_meta", Value: meta}); err != nil {
		return nil
	}
	return params
}

func progressToken(params json.RawMessage) json.RawMessage {
	fields, err := jsonrpc.Fields(params, "_meta")
	if err != nil {
		return nil
	}
	token, err := jsonrpc.Fields(fields[0], "progressToken")
	if err != nil {
		return nil
	}
	return token[0]
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(body)
	switch {
	case r.Method == http.MethodDelete:
		return
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case err != nil || m.Kind() != jsonrpc.Request:
		w.WriteHeader(http.StatusAccepted)
		return
	}
	x := s.take(m)
	if x == nil {
		x = s.ordinary(m.Method)
		if m.Method == "initialize" {
			w.Header().Set("Mcp-Session-Id", "scripted")
		}
	}
	answer := jsonrpc.Message{ID: m.ID, Result: x.Result, Error: x.Error}.Encode()
	if x.Result != nil && s.modern {
		answer = jsonrpc.Message{ID: m.ID, Result: modernised(x.Result)}.Encode()
	}
	if len(x.Notes) == 0 {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, note := range x.Notes {
		params := bytes.ReplaceAll(note.Params, []byte(`"$token"`), progressToken(m.Params))
		_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":%s,\"params\":%s}\n\n", note.Method, params)
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", answer)
}

// modernised adds what results of the modern protocol have to have.
func modernised(result json.RawMessage) json.RawMessage {
	comma := ","
	if len(bytes.Trim(result, "{} ")) == 0 {
		comma = ""
	}
	return wrap(`{"resultType":"complete","ttlMs":0,"cacheScope":"private"`+comma, result[1:], "")
}

// ordinary is what the server says to what the hub asks for itself.
func (s *scripted) ordinary(method string) *exchange {
	const capabilities = `"capabilities":{"tools":{},"prompts":{},"resources":{"subscribe":true},"logging":{},"completions":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}`
	result := map[string]string{
		"initialize":     `{"protocolVersion":"2025-11-25",` + capabilities + `,"serverInfo":{"name":"scripted","version":"1"}}`,
		"ping":           `{}`,
		"tools/list":     `{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`,
		"prompts/list":   `{"prompts":[{"name":"p"}]}`,
		"resources/list": `{"resources":[]}`, "resources/templates/list": `{"resourceTemplates":[]}`,
	}[method]
	if method == "server/discover" && s.modern {
		result = `{"supportedVersions":["2026-07-28"],` + capabilities + `}`
	}
	if result == "" {
		return &exchange{Error: json.RawMessage(`{"code":-32601,"message":"not in the script"}`)}
	}
	return &exchange{Result: json.RawMessage(result)}
}
