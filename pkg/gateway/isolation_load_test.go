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

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// secretPrefix begins the secret of a call. All messages that belong to the call contain the secret.
const secretPrefix = "secret-"

// sameIDs are the request ids that every client uses at the same time. The last two are the same floating-point number,
// the first two the same text.
var sameIDs = []jsonrpc.ID{`1`, `"1"`, `0`, `9007199254740993`, `9007199254740992`}

// 64 clients, half of them without sessions, call three kinds of servers with the same ids and the same progress token,
// get server requests and cancel calls. Each message that a client receives must belong to the call on whose stream it
// arrives. make isolation makes 100,000 calls.
func TestNothingOfOneCallReachesAnother(t *testing.T) {
	const clients = 64
	all := clients * len(sameIDs) // calls at once
	calls := 20_000
	if n, err := strconv.Atoi(os.Getenv("MCPHUB_ISOLATION_CALLS")); err == nil {
		calls = n
	}
	r := start(t, setup{specs: parrots(t), untraced: true, quiet: true})
	audit := &isolationAudit{t: t}
	var lanes, streams sync.WaitGroup
	for n := range clients {
		c := &loadClient{rig: r, audit: audit, name: fmt.Sprintf("%s%d-", secretPrefix, n), modern: n%2 == 1}
		if !c.modern {
			c.token = r.connect().token
			streams.Go(c.readGETStream)
		}
		for i, id := range sameIDs {
			lanes.Go(func() {
				l := &loadCaller{loadClient: c, id: id, name: fmt.Sprintf("%s%d-", c.name, i)}
				defer l.closeConn()
				for k := range (calls + all - 1) / all {
					if err := l.call(k+n, sayArguments{Say: fmt.Sprintf("%s%d-", l.name, k)}); err != nil {
						audit.errorf("%s%d: %v", l.name, k, err)
						return
					}
				}
			})
		}
	}
	lanes.Wait()
	audit.checkCancelled(r)
	r.conserved(float64(len(audit.cancelled)))
	r.stop() // ends the streams
	streams.Wait()
	t.Logf("%d calls, %d of them cancelled; %d server requests, %d notifications, %d messages without a call",
		audit.calls.Load(), len(audit.cancelled), audit.serverRequests.Load(), audit.notifications.Load(), audit.unrelated.Load())
	if audit.calls.Load() < int64(calls) {
		t.Errorf("only %d calls of %d", audit.calls.Load(), calls)
	}
}

// isolationAudit collects what all clients together have received.
type isolationAudit struct {
	t                                               *testing.T
	calls, serverRequests, notifications, unrelated atomic.Int64
	errors                                          atomic.Int64

	mu        sync.Mutex
	cancelled []string
}

func (a *isolationAudit) errorf(format string, args ...any) {
	if a.errors.Add(1) <= 20 {
		a.t.Errorf(format, args...)
	}
}

// checkOwn reports an error if data contains the secret of another call or client than name.
func (a *isolationAudit) checkOwn(name string, data []byte) {
	for rest := data; ; {
		at := bytes.Index(rest, []byte(secretPrefix))
		if at < 0 {
			return
		}
		if rest = rest[at:]; !bytes.HasPrefix(rest, []byte(name)) {
			a.errorf("%s got %s", name, data)
			return
		}
		rest = rest[1:]
	}
}

// checkCancelled compares the cancelled calls with the cancellations that the servers received.
func (a *isolationAudit) checkCancelled(r *rig) {
	var seen []string
	c := r.connect()
	hubtest.Eventually(a.t, "the servers have received all cancellations", func() bool {
		seen = nil
		for _, server := range []string{parrotName, "legacy", "modern"} {
			var result struct{ Report parrotReport }
			if err := json.Unmarshal(c.tool(server+"__report", `{}`), &result); err != nil {
				a.t.Fatal(err)
			}
			seen = append(seen, result.Report.Cancelled...)
			for _, swap := range result.Report.Swapped {
				a.errorf("%s: %s", server, swap)
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
		a.errorf("%d calls were cancelled, the servers received %d cancellations; only of clients: %q, only of servers: %q",
			len(a.cancelled), len(seen), only(a.cancelled, seen), only(seen, a.cancelled))
	}
}

// loadClient is one of many clients.
type loadClient struct {
	*rig
	audit  *isolationAudit
	name   string
	modern bool
	token  string // of the session, if it has one
}

// readGETStream reads a GET stream of the session until it ends.
func (c *loadClient) readGETStream() {
	l := &loadCaller{loadClient: c}
	defer l.closeConn()
	response, err := l.send(http.MethodGet, "", "")
	if err != nil || response.StatusCode != http.StatusOK {
		c.audit.errorf("GET: %v", err)
		return
	}
	_ = l.events(response, func(data []byte, _ jsonrpc.Message) error {
		c.audit.unrelated.Add(1)
		c.audit.checkOwn(c.name, data)
		return nil
	})
}

// loadCaller makes the calls of a client one after the other, over a connection of its own.
type loadCaller struct {
	*loadClient
	id   jsonrpc.ID
	name string

	conn   net.Conn // nil: not connected
	read   *bufio.Reader
	second *loadCaller // sends messages during a call
}

func (l *loadCaller) closeConn() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
	if l.second != nil {
		l.second.closeConn()
	}
}

// send writes an HTTP request and reads the head of the response.
func (l *loadCaller) send(verb, tool, body string) (*http.Response, error) {
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
	_, err := fmt.Fprintf(l.conn, "%s / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\n%sContent-Length: %d\r\n\r\n%s",
		verb, head, len(body), body)
	if err != nil {
		return nil, err
	}
	return http.ReadResponse(l.read, nil)
}

// events calls take with each message of a stream, or with the message in the body.
func (l *loadCaller) events(response *http.Response, take func([]byte, jsonrpc.Message) error) error {
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

// sendMessage sends a message without response during a call.
func (l *loadCaller) sendMessage(body string) error {
	if l.second == nil {
		l.second = &loadCaller{loadClient: l.loadClient}
	}
	response, err := l.second.send(http.MethodPost, "", body)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("HTTP status %s for %s", response.Status, body)
	}
	return nil
}

// call makes the n-th call.
func (l *loadCaller) call(n int, it sayArguments) error {
	server := []string{parrotName, "legacy", "modern"}[n%3]
	it.Steps, it.Log = n/3%4, n/5%2 == 0
	switch n % 16 {
	case 5:
		it.Hang, it.Steps, it.Log = true, 1, false
	case 9:
		it.Request = "elicitation/create"
	case 13:
		it.Request = "sampling/createMessage"
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

// round sends the request and reads the response. If that is an input_required result, round returns the members of the
// retry.
func (l *loadCaller) round(server string, it sayArguments, more string) (next string, err error) {
	arguments, _ := json.Marshal(it)
	meta := `"progressToken":"same"`
	if l.modern {
		meta += `,"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{}},` +
			`"io.modelcontextprotocol/clientInfo":{"name":"` + l.loadClient.name +
			`","version":"1"},"io.modelcontextprotocol/logLevel":"debug"`
	}
	response, err := l.send(http.MethodPost, server+"__say", request(string(l.id), "tools/call",
		fmt.Sprintf(`{"name":"%s__say","arguments":%s,"_meta":{%s}%s}`, server, arguments, meta, more)))
	if err != nil {
		return "", err
	}
	var answer jsonrpc.Message
	steps, logs := 0, 0
	err = l.events(response, func(data []byte, m jsonrpc.Message) error {
		l.audit.checkOwn(it.Say, data)
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
			l.audit.serverRequests.Add(1)
			return l.sendMessage(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, inputResponse(m.Method, it)))
		}
		return nil
	})
	l.audit.notifications.Add(int64(steps + logs))
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
		l.audit.serverRequests.Add(1)
		return fmt.Sprintf(`,"requestState":%s,"inputResponses":%s`, fields[1], inputResponses(answer.Result, it)), nil
	}
	if string(fields[2]) != strconv.Quote(it.Say) {
		return "", fmt.Errorf("the answer is %s", answer.Encode())
	}
	return "", l.checkComplete(server, it, steps, logs, string(fields[3]), more != "")
}

// checkComplete checks that nothing is missing. Over a shared connection to a legacy server, a log message or a server
// request belongs to a call only if no other call is in flight.
func (l *loadCaller) checkComplete(server string, it sayArguments, steps, logs int, answered string, again bool) error {
	wantLogs, wantAnswer := 0, `"no"`
	if it.Log {
		wantLogs = 1
	}
	if it.Request != "" {
		wantAnswer = `"yes"`
	}
	switch {
	case it.Request != "" && server == "modern" && !l.modern: // the hub called twice
		it.Steps, wantLogs = 2*it.Steps, 2*wantLogs
	case again && server != "modern": // earlier messages came with the input_required result
		it.Steps, wantLogs = steps, logs
	case server == parrotName && logs < wantLogs:
		wantLogs = logs
	}
	if server == parrotName && answered == `"refused"` && it.Request != "" {
		wantAnswer = answered
	}
	if steps != it.Steps || logs != wantLogs || answered != wantAnswer {
		return fmt.Errorf("%s: %d steps, %d log messages, answered %s; want %+v", server, steps, logs, answered, it)
	}
	return nil
}

// cancel cancels the call in flight.
func (l *loadCaller) cancel(it sayArguments) error {
	l.audit.mu.Lock()
	l.audit.cancelled = append(l.audit.cancelled, it.Say)
	l.audit.mu.Unlock()
	if l.modern {
		l.closeConn()
		return io.EOF
	}
	return l.sendMessage(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + string(l.id) + `}}`)
}

// inputResponse returns the result of a server request.
func inputResponse(method string, it sayArguments) string {
	if method == "sampling/createMessage" {
		return fmt.Sprintf(`{"role":"assistant","content":{"type":"text","text":%q},"model":"parrot"}`, it.Say)
	}
	return fmt.Sprintf(`{"action":"accept","content":{"said":%q}}`, it.Say)
}

// inputResponses returns the responses to the input requests of a result.
func inputResponses(result json.RawMessage, it sayArguments) string {
	var wanted struct {
		InputRequests map[string]struct{ Method string }
	}
	_ = json.Unmarshal(result, &wanted) // a missing response makes the call fail
	var out []string
	for key, q := range wanted.InputRequests {
		out = append(out, strconv.Quote(key)+":"+inputResponse(q.Method, it))
	}
	return "{" + strings.Join(out, ",") + "}"
}
