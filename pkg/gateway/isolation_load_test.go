package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// secretPrefix begins what a call is told, and what all that belongs to it has
// to carry.
const secretPrefix = "secret-"

// sameIDs are the ids that every client uses, all at once. The last two are one
// number to those who read them as floating point, the first two one text.
var sameIDs = []jsonrpc.ID{`1`, `"1"`, `0`, `9007199254740993`, `9007199254740992`}

// 64 clients, half of them without sessions, call three sorts of servers with
// the same ids and the same progress token, are asked questions and cancel
// calls: whatever reaches a client is its own, and is of the call on whose
// stream it comes. make isolation makes 100,000 calls.
func TestNothingOfOneCallReachesAnother(t *testing.T) {
	const clients = 64
	all := clients * len(sameIDs) // calls at once
	calls := 20_000
	if n, err := strconv.Atoi(os.Getenv("MCPHUB_ISOLATION_CALLS")); err == nil {
		calls = n
	}
	r := start(t, setup{specs: parrots(t), untraced: true, quiet: true})
	audit := &audit{t: t}
	var lanes, streams sync.WaitGroup
	for n := range clients {
		c := &tenant{rig: r, audit: audit, name: fmt.Sprintf("%s%d-", secretPrefix, n), modern: n%2 == 1}
		if !c.modern {
			c.token = r.connect().token
			streams.Go(c.overhear)
		}
		for i, id := range sameIDs {
			lanes.Go(func() {
				l := &lane{tenant: c, id: id, name: fmt.Sprintf("%s%d-", c.name, i)}
				defer l.hangUp()
				for k := range (calls + all - 1) / all {
					if err := l.work(k+n, saying{Say: fmt.Sprintf("%s%d-", l.name, k)}); err != nil {
						audit.complain("%s%d: %v", l.name, k, err)
						return
					}
				}
			})
		}
	}
	lanes.Wait()
	audit.check(r)
	r.conserved(float64(len(audit.cancelled)))
	r.stop() // ends the streams
	streams.Wait()
	t.Logf("%d calls, %d of them cancelled; %d questions, %d notifications, %d messages without a call",
		audit.calls.Load(), len(audit.cancelled), audit.questions.Load(), audit.notes.Load(), audit.strays.Load())
	if audit.calls.Load() < int64(calls) {
		t.Errorf("only %d calls of %d", audit.calls.Load(), calls)
	}
}

// audit is what all clients together have seen.
type audit struct {
	t                               *testing.T
	calls, questions, notes, strays atomic.Int64
	complaints                      atomic.Int64

	mu        sync.Mutex
	cancelled []string
}

func (a *audit) complain(format string, args ...any) {
	if a.complaints.Add(1) <= 20 {
		a.t.Errorf(format, args...)
	}
}

// own complains about what is not all of the call, or client, with that name.
func (a *audit) own(name string, data []byte) {
	for rest := data; ; {
		at := bytes.Index(rest, []byte(secretPrefix))
		if at < 0 {
			return
		}
		if rest = rest[at:]; !bytes.HasPrefix(rest, []byte(name)) {
			a.complain("%s got %s", name, data)
			return
		}
		rest = rest[1:]
	}
}

// check compares what was cancelled with what the servers were told of that.
func (a *audit) check(r *rig) {
	var seen []string
	c := r.connect()
	until(a.t, "the servers have heard of all cancellations", func() bool {
		seen = nil
		for _, server := range []string{parrotName, "legacy", "modern"} {
			var result struct{ Heard heard }
			if err := json.Unmarshal(c.tool(server+"__heard", `{}`), &result); err != nil {
				a.t.Fatal(err)
			}
			seen = append(seen, result.Heard.Cancelled...)
			for _, swap := range result.Heard.Swapped {
				a.complain("%s: %s", server, swap)
			}
		}
		return len(seen) >= len(a.cancelled)
	})
	slices.Sort(seen)
	slices.Sort(a.cancelled)
	if !slices.Equal(seen, a.cancelled) {
		only := func(these, those []string) []string {
			return slices.DeleteFunc(slices.Clone(these), func(s string) bool { return slices.Contains(those, s) })
		}
		a.complain("%d calls were cancelled, the servers heard of %d, which are not these: of clients alone are %q, of servers alone %q",
			len(a.cancelled), len(seen), only(a.cancelled, seen), only(seen, a.cancelled))
	}
}

// tenant is a client among many.
type tenant struct {
	*rig
	audit  *audit
	name   string
	modern bool
	token  string // of the session, if it has one
}

// overhear reads what comes on a stream of the session's own until it ends.
func (c *tenant) overhear() {
	l := &lane{tenant: c}
	defer l.hangUp()
	response, err := l.send(http.MethodGet, "", "")
	if err != nil || response.StatusCode != http.StatusOK {
		c.audit.complain("GET: %v", err)
		return
	}
	_ = l.events(response, func(data []byte, _ jsonrpc.Message) error {
		c.audit.strays.Add(1)
		c.audit.own(c.name, data)
		return nil
	})
}

// lane makes one call of a client after the other, over a connection of its own.
type lane struct {
	*tenant
	id   jsonrpc.ID
	name string

	conn  net.Conn // nil: to be made
	read  *bufio.Reader
	aside *lane // for what has to be said during a call
}

func (l *lane) hangUp() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
	if l.aside != nil {
		l.aside.hangUp()
	}
}

// send writes an HTTP request and reads the head of the response.
func (l *lane) send(verb, tool, body string) (*http.Response, error) {
	if l.conn == nil {
		conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
		if err != nil {
			return nil, err
		}
		l.conn, l.read = conn, bufio.NewReader(conn)
	}
	head := "Mcp-Session-Id: " + l.token + "\r\nMcp-Protocol-Version: 2025-11-25\r\n"
	if l.modern {
		head = "Mcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: " + tool + "\r\n"
	}
	if verb == http.MethodPost {
		_ = l.conn.SetDeadline(time.Now().Add(6 * patience))
	}
	_, err := fmt.Fprintf(l.conn, "%s / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n%sContent-Length: %d\r\n\r\n%s",
		verb, head, len(body), body)
	if err != nil {
		return nil, err
	}
	return http.ReadResponse(l.read, nil)
}

// events hands on the messages of a stream, or the one that is the body.
func (l *lane) events(response *http.Response, take func([]byte, jsonrpc.Message) error) error {
	defer func() { _ = response.Body.Close() }()
	if response.Header.Get("Content-Type") != protocol.TypeEventStream {
		data, err := io.ReadAll(response.Body)
		if err != nil || len(data) == 0 {
			return err
		}
		m, err := jsonrpc.Parse(data)
		if err != nil {
			return fmt.Errorf("HTTP status %s: %w: %s", response.Status, err, data)
		}
		return take(data, m)
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: "))
		if !ok {
			continue
		}
		m, err := jsonrpc.Parse(data)
		if err == nil {
			err = take(data, m)
		}
		if err != nil {
			return err
		}
	}
}

// say sends a message during a call. It is one that gets no answer.
func (l *lane) say(body string) error {
	if l.aside == nil {
		l.aside = &lane{tenant: l.tenant}
	}
	response, err := l.aside.send(http.MethodPost, "", body)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("HTTP status %s to %s", response.Status, body)
	}
	return nil
}

// work makes the n-th call.
func (l *lane) work(n int, it saying) error {
	server := []string{parrotName, "legacy", "modern"}[n%3]
	it.Steps, it.Log = n/3%4, n/5%2 == 0
	switch n % 16 {
	case 5:
		it.Hang, it.Steps, it.Log = true, 1, false
	case 9:
		it.Ask = "elicitation/create"
	case 13:
		it.Ask = "sampling/createMessage"
	}
	l.audit.calls.Add(1)
	more := ""
	for {
		next, err := l.round(server, it, more)
		if err != nil || next == "" {
			return err
		}
		more = next
	}
}

// round sends the request and takes what comes. Where the answer is a question
// it returns the members of the request that answers it.
func (l *lane) round(server string, it saying, more string) (next string, err error) {
	arguments, _ := json.Marshal(it)
	meta := `"progressToken":"same"`
	if l.modern {
		meta += `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{}},` +
			`"io.modelcontextprotocol/clientInfo":{"name":"` + l.tenant.name + `","version":"1"},"io.modelcontextprotocol/logLevel":"debug"`
	}
	response, err := l.send(http.MethodPost, server+"__say", request(string(l.id), "tools/call",
		fmt.Sprintf(`{"name":"%s__say","arguments":%s,"_meta":{%s}%s}`, server, arguments, meta, more)))
	if err != nil {
		return "", err
	}
	var answer jsonrpc.Message
	steps, logs := 0, 0
	err = l.events(response, func(data []byte, m jsonrpc.Message) error {
		l.audit.own(it.Say, data)
		switch m.Method {
		case "":
			answer = m
		case "notifications/progress":
			steps++
			if !bytes.Contains(m.Params, []byte(`"progressToken":"same"`)) {
				return fmt.Errorf("progress with another token: %s", data)
			}
			if it.Hang {
				return l.cancel(it)
			}
		case "notifications/message":
			logs++
		default:
			l.audit.questions.Add(1)
			return l.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, replyTo(m.Method, it)))
		}
		return nil
	})
	l.audit.notes.Add(int64(steps + logs))
	switch {
	case it.Hang && answer.ID == "" && (err == nil || l.conn == nil):
		return "", nil
	case err != nil:
		return "", err
	case it.Hang || answer.ID != l.id:
		return "", fmt.Errorf("the answer is %s", answer.Encode())
	}
	fields, err := jsonrpc.Fields(answer.Result, "resultType", "requestState", "of", "answered")
	if err != nil {
		return "", fmt.Errorf("the answer is %s", answer.Encode())
	}
	if string(fields[0]) == `"input_required"` {
		l.audit.questions.Add(1)
		return fmt.Sprintf(`,"requestState":%s,"inputResponses":%s`, fields[1], replies(answer.Result, it)), nil
	}
	if string(fields[2]) != strconv.Quote(it.Say) {
		return "", fmt.Errorf("the answer is %s", answer.Encode())
	}
	return "", l.complete(server, it, steps, logs, string(fields[3]), more != "")
}

// complete checks that nothing is missing. Over a shared connection to a legacy
// server a log message or a question has a call only while there is no other.
func (l *lane) complete(server string, it saying, steps, logs int, answered string, again bool) error {
	wantLogs, wantAnswer := 0, `"no"`
	if it.Log {
		wantLogs = 1
	}
	if it.Ask != "" {
		wantAnswer = `"yes"`
	}
	switch {
	case it.Ask != "" && server == "modern" && !l.modern: // the hub called twice
		it.Steps, wantLogs = 2*it.Steps, 2*wantLogs
	case again && server != "modern": // what came before came with the question
		it.Steps, wantLogs = steps, logs
	case server == parrotName && logs < wantLogs:
		wantLogs = logs
	}
	if server == parrotName && answered == `"refused"` && it.Ask != "" {
		wantAnswer = answered
	}
	if steps != it.Steps || logs != wantLogs || answered != wantAnswer {
		return fmt.Errorf("%s: %d steps, %d log messages, answered %s; want %+v", server, steps, logs, answered, it)
	}
	return nil
}

// cancel takes the call back that is under way.
func (l *lane) cancel(it saying) error {
	l.audit.mu.Lock()
	l.audit.cancelled = append(l.audit.cancelled, it.Say)
	l.audit.mu.Unlock()
	if l.modern {
		l.hangUp()
		return io.EOF
	}
	return l.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + string(l.id) + `}}`)
}

// replyTo is the result that answers a question.
func replyTo(method string, it saying) string {
	if method == "sampling/createMessage" {
		return fmt.Sprintf(`{"role":"assistant","content":{"type":"text","text":%q},"model":"parrot"}`, it.Say)
	}
	return fmt.Sprintf(`{"action":"accept","content":{"said":%q}}`, it.Say)
}

// replies answers the questions of a result.
func replies(result json.RawMessage, it saying) string {
	var wanted struct {
		InputRequests map[string]struct{ Method string }
	}
	_ = json.Unmarshal(result, &wanted) // an answer that is missing will be missed
	var out []string
	for key, q := range wanted.InputRequests {
		out = append(out, strconv.Quote(key)+":"+replyTo(q.Method, it))
	}
	return "{" + strings.Join(out, ",") + "}"
}
