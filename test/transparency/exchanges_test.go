// Package transparency proves that a hub with naming: bare changes nothing: what a
// client gets through it, and what the server gets, is byte for byte the same as
// without it, but for progress tokens and trace contexts.
package transparency

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/test/peers"
)

// exchange is a request and, for a scripted server, the reply. The raw members are
// sent byte for byte as they are in the file.
type exchange struct {
	Method     string
	Params     json.RawMessage
	Notes      []struct{ Method, Params json.RawMessage } // before the answer
	Result     json.RawMessage
	Error      json.RawMessage
	LegacyOnly bool // the modern protocol has no such request
}

// exchanges reads a file of exchanges. It adds exchanges that are too long for a file.
func exchanges(t *testing.T, name string, modern bool) []exchange {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if name == "scripted.json" {
		for _, n := range []int{4 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20} {
			long := json.RawMessage(`"` + strings.Repeat(`\u00e9<é>`, n/11) + `"`)
			all = append(all, exchange{Method: "tools/call", Params: wrap(`{"name":"echo","arguments":{"v":`, long, `}}`),
				Result: wrap(`{"content":[],"v":`, long, `}`)},
				exchange{Method: "vendor/long", Params: wrap(`{"v":`, long, `}`), Error: wrap(`{"code":7,"message":`, long, `}`)})
		}
	}
	return slices.DeleteFunc(all, func(x exchange) bool { return modern && x.LegacyOnly })
}

func wrap(before string, raw json.RawMessage, after string) json.RawMessage {
	return slices.Concat([]byte(before), raw, []byte(after))
}

// requestIDs are ids that change if a program decodes and encodes them.
var requestIDs = []string{`7`, `"7"`, `9007199254740993`, `"\u00e9é"`, `0`, `12345678901234567890123`, `""`, `"a\/b"`}

// TestTheHubIsTransparent sends the same requests to a server and, through a
// hub with naming: bare, to the same server again. What comes back is the same
// byte for byte, and so is what reaches the server, but for the progress token
// and the trace of a request.
func TestTheHubIsTransparent(t *testing.T) {
	for _, c := range []struct {
		name, file string
		modern     bool
		traces     string
	}{
		{"legacy, scripted", "scripted.json", false, "none"},
		{"legacy, scripted, traced", "scripted.json", false, "console"},
		{"modern, scripted", "scripted.json", true, "none"},
		{"modern, scripted, traced", "scripted.json", true, "console"},
		{"legacy, of an SDK", "legacy.json", false, "none"},
		{"modern, of an SDK", "modern.json", true, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", c.traces)
			var script *scripted
			var url string
			switch {
			case c.file == "scripted.json":
				script, url = startScripted(t, c.modern, c.traces != "none")
			case c.modern:
				url = peers.StatelessEverything(t)
			default:
				url = peers.Everything(t)
			}
			hub := hubtest.StartHub(t, hubtest.Options{Config: peers.BareConfig(url), LogLevel: "warn"})
			direct, through := speak(t, url, c.modern), speak(t, hub.URL(), c.modern)
			all := exchanges(t, c.file, c.modern)
			for i, x := range all {
				id := requestIDs[0]
				if script != nil {
					id = requestIDs[i%len(requestIDs)]
				}
				want, wantSeen := direct.exchange(script, id, x)
				got, gotSeen := through.exchange(script, id, x)
				if script != nil && len(wantSeen) != 1 {
					t.Fatalf("%d: %s did not reach the server: %q", i, x.Method, want)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d: %s %.300s\n direct: %.2000q\n hub:    %.2000q", i, x.Method, x.Params, want, got)
				}
				if !slices.Equal(gotSeen, wantSeen) && x.Method != "ping" { // the hub answers a ping itself
					t.Errorf("%d: %s %.300s\n direct, the server got: %.2000q\n through the hub:        %.2000q", i, x.Method, x.Params, wantSeen, gotSeen)
				}
			}
			t.Logf("%d exchanges", len(all))
		})
	}
}

// speaker is a client of one era that keeps every byte.
type speaker struct {
	t          *testing.T
	url, token string
	modern     bool
}

func speak(t *testing.T, url string, modern bool) *speaker {
	t.Helper()
	s := &speaker{t: t, url: url, modern: modern}
	if !modern {
		s.token = hubtest.Connect(t, url).Token
	}
	return s
}

// exchange sends a request. It returns the messages that came back, the response
// last, and the messages that the scripted server received.
func (s *speaker) exchange(script *scripted, id string, x exchange) (came, seen []string) {
	s.t.Helper()
	if script != nil {
		script.next(x)
	}
	params := x.Params
	if s.modern {
		params = s.stamped(params)
	}
	m := jsonrpc.Message{ID: jsonrpc.ID(id), Method: x.Method, Params: params}
	for _, message := range s.post(m) {
		came = append(came, parts(message))
	}
	if script == nil {
		return came, nil
	}
	return came, script.got()
}

// stamped adds the _meta members that every modern request has.
func (s *speaker) stamped(params json.RawMessage) json.RawMessage {
	s.t.Helper()
	fields, err := jsonrpc.Fields(params, "_meta")
	if err == nil {
		fields[0], err = jsonrpc.Rewrite(fields[0],
			jsonrpc.Edit{Name: "io.modelcontextprotocol/protocolVersion", Value: json.RawMessage(`"2026-07-28"`)},
			jsonrpc.Edit{Name: "io.modelcontextprotocol/clientCapabilities",
				Value: json.RawMessage(`{"elicitation":{},"sampling":{},"roots":{},"experimental":{"n":1.0}}`)},
			jsonrpc.Edit{Name: "io.modelcontextprotocol/clientInfo", Value: json.RawMessage(`{"name":"\u00e9","version":"1"}`)})
	}
	if err == nil {
		params, err = jsonrpc.Rewrite(params, jsonrpc.Edit{Name: "_meta", Value: fields[0]})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return params
}

// post sends a message and returns the messages that come back.
func (s *speaker) post(m jsonrpc.Message) [][]byte {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url, bytes.NewReader(m.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if s.modern {
		r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		r.Header.Set("Mcp-Method", m.Method)
		if name, ok := jsonrpc.StringField(m.Params, cmp.Or(protocol.NamedBy(m.Method), "-")); ok {
			r.Header.Set("Mcp-Name", protocol.EncodeHeader(name))
		}
	} else {
		r.Header.Set("Mcp-Session-Id", s.token)
		r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	response, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return [][]byte{body}
	}
	var all [][]byte
	for line := range bytes.Lines(body) {
		if data, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data: ")); ok && len(data) > 0 {
			all = append(all, data)
		}
	}
	return all
}

// parts returns the raw parts of a message, which have to be the same. The order of
// the members of the envelope does not matter.
func parts(message []byte) string {
	var m struct{ ID, Method, Params, Result, Error json.RawMessage }
	if err := json.Unmarshal(message, &m); err != nil {
		return fmt.Sprintf("%v: %s", err, message)
	}
	return fmt.Sprintf("id %s method %s params %s result %s error %s", m.ID, m.Method, m.Params, m.Result, m.Error)
}
