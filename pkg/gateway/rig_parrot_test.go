package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// parrotName is the name of the child process that is a parrot.
const parrotName = "parrot"

// parrot is a server whose tool say repeats its argument in all messages that a server can send: the response,
// progress, log messages, requests. It speaks one era, over stdio or HTTP. The ids of its requests are the same in all
// sessions.
type parrot struct {
	modern bool

	mu          sync.Mutex
	sessions    int
	lastRequest map[string]int                  // number of the newest request of the server, by session
	waiting     map[string]chan jsonrpc.Message // by session and id of the request of the server
	inFlight    map[string]chan struct{}        // by session and id of the request of the client; closed when it is cancelled
	cancelled   []string                        // the arguments of cancelled calls
	swapped     []string                        // responses that belong to another request
}

// parrotReport is the result of the tool report.
type parrotReport struct {
	Cancelled []string `json:"cancelled"`
	Swapped   []string `json:"swapped"`
}

// sayArguments are the arguments of the tool say.
type sayArguments struct {
	Say     string `json:"say"`
	Steps   int    `json:"steps"` // of progress
	Log     bool   `json:"log"`
	Request string `json:"request"` // the method of a request to the client
	Hang    bool   `json:"hang"`    // until the call is cancelled
}

func newParrot(modern bool) *parrot {
	return &parrot{modern: modern, lastRequest: map[string]int{}, waiting: map[string]chan jsonrpc.Message{},
		inFlight: map[string]chan struct{}{}}
}

// serveParrot serves a parrot over stdio.
func serveParrot(in io.Reader, out io.Writer) {
	p := newParrot(false)
	var mu sync.Mutex
	send := func(m jsonrpc.Message) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = out.Write(append(m.Encode(), '\n'))
	}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		m, err := jsonrpc.Parse(line)
		if err != nil || p.accept("", m) {
			continue
		}
		gone := p.begin("", m.ID)
		go func() {
			defer p.end("", m.ID)
			if answer := p.answer("", m, gone, send); answer.ID != "" {
				send(answer)
			}
		}()
	}
}

// parrotOverHTTP serves a parrot over Streamable HTTP.
func parrotOverHTTP(t testing.TB, modern bool) (url string) {
	p := newParrot(modern)
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	m, perr := jsonrpc.Parse(body)
	session := r.Header.Get(protocol.HeaderSessionID)
	switch {
	case r.Method == http.MethodDelete:
		return
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case err != nil || perr != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	case p.accept(session, m):
		w.WriteHeader(http.StatusAccepted)
		return
	case m.Method == "initialize":
		p.mu.Lock()
		p.sessions++
		w.Header().Set(protocol.HeaderSessionID, fmt.Sprintf("session-%d", p.sessions))
		p.mu.Unlock()
	}
	gone := r.Context().Done()
	if !p.modern {
		gone = p.begin(session, m.ID)
		defer p.end(session, m.ID)
	}
	streams := false
	answer := p.answer(session, m, gone, func(m jsonrpc.Message) {
		if !streams {
			w.Header().Set("Content-Type", protocol.TypeEventStream)
		}
		streams = true
		_, _ = fmt.Fprintf(w, "data: %s\n\n", m.Encode())
		_ = http.NewResponseController(w).Flush()
	})
	switch {
	case answer.ID == "":
	case streams:
		_, _ = fmt.Fprintf(w, "data: %s\n\n", answer.Encode())
	default:
		w.Header().Set("Content-Type", protocol.TypeJSON)
		_, _ = w.Write(answer.Encode())
	}
}

func (p *parrot) begin(session string, id jsonrpc.ID) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := make(chan struct{})
	p.inFlight[session+" "+string(id)] = gone
	return gone
}

func (p *parrot) end(session string, id jsonrpc.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inFlight, session+" "+string(id))
}

// accept handles a message that gets no response. It reports false for a request.
func (p *parrot) accept(session string, m jsonrpc.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case m.Kind() == jsonrpc.Request:
		return false
	case m.Kind() == jsonrpc.Response:
		key := session + " " + string(m.ID)
		if reply := p.waiting[key]; reply != nil {
			delete(p.waiting, key)
			reply <- m
		}
	case m.Method == "notifications/cancelled":
		id, _ := jsonrpc.Fields(m.Params, "requestId")
		key := session + " " + string(id[0])
		if gone := p.inFlight[key]; gone != nil {
			delete(p.inFlight, key)
			close(gone)
		}
	}
	return true
}

func (p *parrot) answer(session string, m jsonrpc.Message, gone <-chan struct{}, send func(jsonrpc.Message)) jsonrpc.Message {
	const tools = `"tools":[{"name":"say","inputSchema":{"type":"object"}},{"name":"report","inputSchema":{"type":"object"}}]`
	const capabilities = `"capabilities":{"tools":{},"logging":{}}`
	switch m.Method {
	case "initialize":
		return jsonrpc.NewResult(m.ID, json.RawMessage(`{"protocolVersion":"2025-11-25",`+capabilities+`,"serverInfo":{"name":"parrot",`+
			`"version":"1"}}`))
	case "server/discover":
		if p.modern {
			return jsonrpc.NewResult(m.ID, json.RawMessage(`{"resultType":"complete","supportedVersions":["2026-07-28"],`+
				capabilities+`,"ttlMs":0,"cacheScope":"private"}`))
		}
	case "tools/list":
		if p.modern {
			return jsonrpc.NewResult(m.ID, json.RawMessage(`{"resultType":"complete","ttlMs":0,"cacheScope":"private",`+tools+`}`))
		}
		return jsonrpc.NewResult(m.ID, json.RawMessage(`{`+tools+`}`))
	case "ping", "logging/setLevel":
		return jsonrpc.NewResult(m.ID, json.RawMessage(`{}`))
	case "tools/call":
		if name, _ := jsonrpc.StringField(m.Params, "name"); name == "report" {
			return p.report(m.ID)
		}
		return p.say(session, m, gone, send)
	}
	return jsonrpc.NewError(m.ID, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no such method"))
}

func (p *parrot) report(id jsonrpc.ID) jsonrpc.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, _ := json.Marshal(parrotReport{p.cancelled, p.swapped})
	return jsonrpc.NewResult(id, append(append([]byte(`{"resultType":"complete","content":[],"report":`), b...), '}'))
}

// say is the tool say. It returns an empty message if the call was cancelled.
func (p *parrot) say(session string, m jsonrpc.Message, gone <-chan struct{}, send func(jsonrpc.Message)) jsonrpc.Message {
	fields, _ := jsonrpc.Fields(m.Params, "arguments", "_meta", "inputResponses", "requestState")
	token, _ := jsonrpc.Fields(fields[1], "progressToken")
	var it sayArguments
	_ = json.Unmarshal(fields[0], &it)
	for i := range it.Steps {
		send(jsonrpc.Message{Method: "notifications/progress",
			Params: fmt.Appendf(nil, `{"progressToken":%s,"progress":%d,"message":%q}`, token[0], i+1, it.Say)})
	}
	if it.Log {
		send(jsonrpc.Message{Method: "notifications/message", Params: fmt.Appendf(nil, `{"level":"info","data":%q}`, it.Say)})
	}
	if it.Hang {
		select {
		case <-gone:
		case <-time.After(6 * patience):
			it.Say = "never cancelled: " + it.Say
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cancelled = append(p.cancelled, it.Say)
		return jsonrpc.Message{}
	}
	answered := "no"
	switch {
	case it.Request != "" && p.modern && fields[2] == nil:
		return jsonrpc.NewResult(m.ID, fmt.Appendf(nil,
			`{"resultType":"input_required","requestState":%q,"inputRequests":{"q":{"method":%q,"params":%s}}}`,
			it.Say, it.Request, requestParams(it)))
	case it.Request != "" && p.modern:
		answered = p.compare(it, fields[2])
		_ = p.compare(it, fields[3])
	case it.Request != "":
		answered = p.request(session, it, send)
	}
	result := fmt.Appendf(nil, `{"content":[],"of":%q,"answered":%q}`, it.Say, answered)
	if p.modern {
		result = append([]byte(`{"resultType":"complete",`), result[1:]...)
	}
	return jsonrpc.NewResult(m.ID, result)
}

func requestParams(it sayArguments) []byte {
	if it.Request == "sampling/createMessage" {
		return fmt.Appendf(nil, `{"messages":[{"role":"user","content":{"type":"text","text":%q}}],"maxTokens":1}`, it.Say)
	}
	return fmt.Appendf(nil, `{"message":%q,"requestedSchema":{"type":"object","properties":{}}}`, it.Say)
}

// request sends a request to the client of a legacy session.
func (p *parrot) request(session string, it sayArguments, send func(jsonrpc.Message)) string {
	reply := make(chan jsonrpc.Message, 1)
	p.mu.Lock()
	p.lastRequest[session]++
	id := jsonrpc.ID(fmt.Sprint(p.lastRequest[session]))
	p.waiting[session+" "+string(id)] = reply
	p.mu.Unlock()
	send(jsonrpc.Message{ID: id, Method: it.Request, Params: requestParams(it)})
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	defer cancel()
	select {
	case m := <-reply:
		if m.Error != nil {
			return "refused"
		}
		return p.compare(it, m.Result)
	case <-ctx.Done():
		return "never"
	}
}

// compare records a response that belongs to another client.
func (p *parrot) compare(it sayArguments, answer []byte) string {
	if bytes.Contains(answer, []byte(it.Say)) && strings.Count(string(answer), secretPrefix) == strings.Count(string(answer), it.Say) {
		return "yes"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swapped = append(p.swapped, it.Say+" got "+string(answer))
	return "swapped"
}

// parrots returns the three kinds of servers.
func parrots(t *testing.T) []upstream.Spec {
	child := stdio(t, parrotName)
	return []upstream.Spec{child,
		{Name: "legacy", URL: parrotOverHTTP(t, false), Isolation: upstream.PerSession},
		{Name: "modern", URL: parrotOverHTTP(t, true)}}
}
