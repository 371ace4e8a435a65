package transparency

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// scripted is a scripted server that answers one request after the other as the
// test says, and keeps what it got.
type scripted struct {
	traced bool // requests have a trace in _meta

	mu   sync.Mutex
	now  *exchange // nil: nothing is expected
	seen []string
}

// startScripted starts the server over HTTP.
func startScripted(t *testing.T, modern, traced bool) (s *scripted, url string) {
	t.Helper()
	s = &scripted{traced: traced}
	return s, hubtest.Serve(t, &hubtest.Script{
		Modern: modern, Handle: s.answer,
		Tools: map[string]hubtest.Handler{"echo": func(*hubtest.Call) hubtest.Reply { return hubtest.Text("not expected") }},
		Capabilities: `{"tools":{},"prompts":{},"resources":{"subscribe":true},"logging":{},"completions":{},` +
			`"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}`,
	})
}

// answer answers the expected request. The script answers what the hub asks for
// itself.
func (s *scripted) answer(c *hubtest.Call) *hubtest.Reply {
	x := s.take(c.Message)
	if x == nil && c.Method == "prompts/list" {
		return &hubtest.Reply{Result: json.RawMessage(`{"prompts":[{"name":"p"}]}`)}
	}
	if x == nil {
		return nil
	}
	for _, note := range x.Notes {
		params := bytes.ReplaceAll(note.Params, []byte(`"$token"`), c.ProgressToken())
		c.Send(fmt.Sprintf(`{"jsonrpc":"2.0","method":%s,"params":%s}`, note.Method, params))
	}
	return &hubtest.Reply{Result: x.Result, Error: x.Error}
}

// next sets the request that is expected now.
func (s *scripted) next(x exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.seen = &x, nil
}

// got returns the messages that the server received since next.
func (s *scripted) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = nil
	return s.seen
}

// take returns the expected exchange if m begins it, else nil.
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

// unmapped replaces what the hub may change in params.
func (s *scripted) unmapped(params json.RawMessage) json.RawMessage {
	if token := hubtest.ProgressToken(params); token != nil {
		params = edited(params, jsonrpc.Edit{Name: "progressToken", Value: json.RawMessage(`"mapped"`)})
	}
	if s.traced {
		params = edited(params, jsonrpc.Edit{Name: "traceparent"}, jsonrpc.Edit{Name: "tracestate"}, jsonrpc.Edit{Name: "baggage"})
	}
	if s.traced && string(params) == "{}" {
		return nil // there was nothing but the trace
	}
	return params
}

// edited edits _meta and removes it if nothing is left in it.
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
