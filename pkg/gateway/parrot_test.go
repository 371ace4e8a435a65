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

// parrotName is that of the child that is a parrot.
const parrotName = "parrot"

// parrot is a server whose only tool repeats what it was told, in every way a
// server has: in its answer, in progress, in log messages, in questions. It
// speaks one era, over stdio or HTTP. Its own ids are the same in all sessions.
type parrot struct {
	modern bool

	mu        sync.Mutex
	sessions  int
	asked     map[string]int                  // questions, by session
	answers   map[string]chan jsonrpc.Message // by session and id of the question
	underWay  map[string]chan struct{}        // by session and id of the request; closed when it is cancelled
	cancelled []string                        // what was said in calls that were
	swapped   []string                        // answers that belong to another question
}

// heard is what the tool heard returns.
type heard struct {
	Cancelled []string `json:"cancelled"`
	Swapped   []string `json:"swapped"`
}

// saying is what a parrot is told.
type saying struct {
	Say   string `json:"say"`
	Steps int    `json:"steps"` // of progress
	Log   bool   `json:"log"`
	Ask   string `json:"ask"`  // the method of a question
	Hang  bool   `json:"hang"` // until the call is cancelled
}

func newParrot(modern bool) *parrot {
	return &parrot{modern: modern, asked: map[string]int{}, answers: map[string]chan jsonrpc.Message{}, underWay: map[string]chan struct{}{}}
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
		if err != nil || p.told("", m) {
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
	case p.told(session, m):
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
	p.underWay[session+" "+string(id)] = gone
	return gone
}

func (p *parrot) end(session string, id jsonrpc.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.underWay, session+" "+string(id))
}

// told takes what wants no answer, and reports whether m did not.
func (p *parrot) told(session string, m jsonrpc.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case m.Kind() == jsonrpc.Request:
		return false
	case m.Kind() == jsonrpc.Response:
		key := session + " " + string(m.ID)
		if reply := p.answers[key]; reply != nil {
			delete(p.answers, key)
			reply <- m
		}
	case m.Method == "notifications/cancelled":
		id, _ := jsonrpc.Fields(m.Params, "requestId")
		key := session + " " + string(id[0])
		if gone := p.underWay[key]; gone != nil {
			delete(p.underWay, key)
			close(gone)
		}
	}
	return true
}

func (p *parrot) answer(session string, m jsonrpc.Message, gone <-chan struct{}, send func(jsonrpc.Message)) jsonrpc.Message {
	const tools = `"tools":[{"name":"say","inputSchema":{"type":"object"}},{"name":"heard","inputSchema":{"type":"object"}}]`
	const capabilities = `"capabilities":{"tools":{},"logging":{}}`
	switch m.Method {
	case "initialize":
		return jsonrpc.NewResult(m.ID, json.RawMessage(`{"protocolVersion":"2025-11-25",`+capabilities+`,"serverInfo":{"name":"parrot","version":"1"}}`))
	case "server/discover":
		if p.modern {
			return jsonrpc.NewResult(m.ID, json.RawMessage(`{"resultType":"complete","supportedVersions":["2026-07-28"],`+capabilities+`,"ttlMs":0,"cacheScope":"private"}`))
		}
	case "tools/list":
		if p.modern {
			return jsonrpc.NewResult(m.ID, json.RawMessage(`{"resultType":"complete","ttlMs":0,"cacheScope":"private",`+tools+`}`))
		}
		return jsonrpc.NewResult(m.ID, json.RawMessage(`{`+tools+`}`))
	case "ping", "logging/setLevel":
		return jsonrpc.NewResult(m.ID, json.RawMessage(`{}`))
	case "tools/call":
		if name, _ := jsonrpc.StringField(m.Params, "name"); name == "heard" {
			return p.report(m.ID)
		}
		return p.say(session, m, gone, send)
	}
	return jsonrpc.NewError(m.ID, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no such method"))
}

func (p *parrot) report(id jsonrpc.ID) jsonrpc.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, _ := json.Marshal(heard{p.cancelled, p.swapped})
	return jsonrpc.NewResult(id, append(append([]byte(`{"resultType":"complete","content":[],"heard":`), b...), '}'))
}

// say is the tool. It returns an empty message if the call was cancelled.
func (p *parrot) say(session string, m jsonrpc.Message, gone <-chan struct{}, send func(jsonrpc.Message)) jsonrpc.Message {
	fields, _ := jsonrpc.Fields(m.Params, "arguments", "_meta", "inputResponses", "requestState")
	token, _ := jsonrpc.Fields(fields[1], "progressToken")
	var it saying
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
	case it.Ask != "" && p.modern && fields[2] == nil:
		return jsonrpc.NewResult(m.ID, fmt.Appendf(nil, `{"resultType":"input_required","requestState":%q,"inputRequests":{"q":{"method":%q,"params":%s}}}`,
			it.Say, it.Ask, questionOf(it)))
	case it.Ask != "" && p.modern:
		answered = p.compare(it, fields[2])
		_ = p.compare(it, fields[3])
	case it.Ask != "":
		answered = p.ask(session, it, send)
	}
	result := fmt.Appendf(nil, `{"content":[],"of":%q,"answered":%q}`, it.Say, answered)
	if p.modern {
		result = append([]byte(`{"resultType":"complete",`), result[1:]...)
	}
	return jsonrpc.NewResult(m.ID, result)
}

func questionOf(it saying) []byte {
	if it.Ask == "sampling/createMessage" {
		return fmt.Appendf(nil, `{"messages":[{"role":"user","content":{"type":"text","text":%q}}],"maxTokens":1}`, it.Say)
	}
	return fmt.Appendf(nil, `{"message":%q,"requestedSchema":{"type":"object","properties":{}}}`, it.Say)
}

// ask asks the client of a legacy session.
func (p *parrot) ask(session string, it saying, send func(jsonrpc.Message)) string {
	reply := make(chan jsonrpc.Message, 1)
	p.mu.Lock()
	p.asked[session]++
	id := jsonrpc.ID(fmt.Sprint(p.asked[session]))
	p.answers[session+" "+string(id)] = reply
	p.mu.Unlock()
	send(jsonrpc.Message{ID: id, Method: it.Ask, Params: questionOf(it)})
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

// compare notes an answer of somebody else.
func (p *parrot) compare(it saying, answer []byte) string {
	if bytes.Contains(answer, []byte(it.Say)) && strings.Count(string(answer), secretPrefix) == strings.Count(string(answer), it.Say) {
		return "yes"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swapped = append(p.swapped, it.Say+" got "+string(answer))
	return "swapped"
}

// parrots are the three sorts of servers, behind one hub.
func parrots(t *testing.T) []upstream.Spec {
	child := stdio(t, parrotName)
	return []upstream.Spec{child,
		{Name: "legacy", URL: parrotOverHTTP(t, false), Isolation: upstream.PerSession},
		{Name: "modern", URL: parrotOverHTTP(t, true)}}
}
