package canary

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// childVariable makes the test program a leaky server on stdin and stdout. Its
// value is the file to which the server writes everything that it receives.
const childVariable = "MCPHUB_TEST_CANARY_SERVER"

// canary is a secret that contains the path on which it was sent.
func canary(path string) string { return "canary." + path + ".end" }

// leaky is an MCP server that sends secrets wherever it can, and breaks the
// protocol. It is written by hand because no SDK does that.
type leaky struct {
	modern   bool
	received io.Writer // gets everything that the server receives
	sent     io.Writer // gets everything that it sends

	mu      sync.Mutex
	asked   int
	replies map[string]chan jsonrpc.Message
}

func newLeaky(modern bool, received, sent io.Writer) *leaky {
	return &leaky{modern: modern, received: received, sent: sent, replies: map[string]chan jsonrpc.Message{}}
}

// serveChild is the main function of the test program as a child process.
func serveChild(file string) int {
	received, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	fmt.Fprintln(received, os.Args, os.Getenv("TOKEN"))
	fmt.Fprintln(os.Stderr, "starting with", os.Getenv("TOKEN"))
	var mu sync.Mutex
	send := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(line)
	}
	s := newLeaky(false, received, io.Discard)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(received, lines.Text())
		m, err := jsonrpc.Parse(bytes.Clone(lines.Bytes()))
		if err != nil {
			continue
		}
		go s.handle(m, send)
	}
	return 0
}

// ServeHTTP serves Streamable HTTP.
func (s *leaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintln(s.received, r.Method, r.URL, r.Header, string(body))
	w.Header().Set("X-Secret", canary("response-header"))
	w.Header().Set("Set-Cookie", "k="+canary("response-cookie"))
	m, err := jsonrpc.Parse(body)
	if r.Method != http.MethodPost || err != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if m.Kind() != jsonrpc.Request {
		s.handle(m, nil)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Method == "initialize" {
		w.Header().Set("Mcp-Session-Id", canary("upstream-session"))
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintln(s.sent, w.Header())
	s.handle(m, func(line string) {
		fmt.Fprintln(s.sent, line, canary("event-id"))
		_, _ = fmt.Fprintf(w, "id: %s\ndata: %s\n\n", canary("event-id"), line)
		_ = http.NewResponseController(w).Flush()
	})
}

// handle handles a message; send sends one back.
func (s *leaky) handle(m jsonrpc.Message, send func(string)) {
	switch m.Kind() {
	case jsonrpc.Response:
		s.mu.Lock()
		reply := s.replies[string(m.ID)]
		s.mu.Unlock()
		if reply != nil {
			reply <- m
		}
	case jsonrpc.Request:
		send(string(s.answer(m, send).Encode()))
	}
}

func (s *leaky) answer(m jsonrpc.Message, send func(string)) jsonrpc.Message {
	result := s.result(m, send)
	if result == "" {
		return jsonrpc.Message{ID: m.ID, Error: json.RawMessage(`{"code":-32000,"message":"` +
			canary("error-message") + `","data":{"k":"` + canary("error-data") + `"}}`)}
	}
	if s.modern {
		result = string(hubtest.Complete(json.RawMessage(result)))
	}
	return jsonrpc.Message{ID: m.ID, Result: json.RawMessage(result)}
}

// secretURI is the URI of a resource. It contains secrets.
func secretURI(name string) string {
	return "res://user:" + canary(name+"-userinfo") + "@host/a?key=" + canary(name+"-query") + "#" + canary(name+"-fragment")
}

const leakyCapabilities = `"capabilities":{"tools":{},"prompts":{},"resources":{"subscribe":true},"logging":{},"completions":{}}`

// result returns the result of a request; "" stands for an error.
func (s *leaky) result(m jsonrpc.Message, send func(string)) string {
	if listed := s.list(m); listed != "" {
		return listed
	}
	info := `{"name":"leaky","version":"1","title":"` + canary("server-info") + `"}`
	switch m.Method {
	case "initialize":
		if s.modern {
			return ""
		}
		return `{"protocolVersion":"2025-11-25",` + leakyCapabilities + `,"serverInfo":` + info +
			`,"instructions":"` + canary("instructions") + `"}`
	case "server/discover":
		if !s.modern {
			return ""
		}
		return `{"supportedVersions":["2026-07-28"],` + leakyCapabilities + `,"_meta":{"io.modelcontextprotocol/serverInfo":` + info + `}}`
	case "ping", "logging/setLevel", "resources/unsubscribe":
		return `{}`
	case "resources/subscribe":
		send(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + secretURI("listed") + `"}}`)
		return `{}`
	case "tools/call":
		return s.call(m, send)
	case "prompts/get":
		return `{"messages":[{"role":"user","content":{"type":"text","text":"` + canary("prompt-result") + `"}}]}`
	case "resources/read":
		if strings.Contains(string(m.Params), "broken") {
			return ""
		}
		return `{"contents":[{"uri":"` + secretURI("listed") + `","text":"` + canary("resource-contents") + `"}]}`
	case "completion/complete":
		return `{"completion":{"values":["` + canary("completion-value") + `"]}}`
	}
	return ""
}

// list returns the result of a list. Tools come in two pages, and one resource
// comes twice.
func (s *leaky) list(m jsonrpc.Message) string {
	const schema = `"inputSchema":{"type":"object"}`
	switch m.Method {
	case "tools/list":
		if !strings.Contains(string(m.Params), canary("server-cursor")) {
			return `{"tools":[{"name":"everything",` + schema + `,"description":"` + canary("tool-description") +
				`"},{"name":"fail",` + schema + `}],"nextCursor":"` + canary("server-cursor") + `"}`
		}
		return `{"tools":[{"name":"refuse",` + schema + `},{"name":"hang",` + schema + `},{"name":"refuse",` +
			schema + `},{"name":"x","` + canary("twice") + `":1,"` + canary("twice") + `":2}]}`
	case "prompts/list":
		return `{"prompts":[{"name":"p"}]}`
	case "resources/list":
		one := `{"name":"r","uri":"` + secretURI("listed") + `"}`
		return `{"resources":[` + one + `,` + one + `]}`
	case "resources/templates/list":
		return `{"resourceTemplates":[{"name":"t","uriTemplate":"res://{+x}"}]}`
	}
	return ""
}

// call answers a call of a tool.
func (s *leaky) call(m jsonrpc.Message, send func(string)) string {
	name, _ := jsonrpc.StringField(m.Params, "name")
	switch name {
	case "fail":
		return `{"content":[{"type":"text","text":"` + canary("is-error") + `"}],"isError":true}`
	case "hang":
		time.Sleep(3 * time.Second) // the client gives up before
		return `{"content":[]}`
	case "everything":
		s.sendOthers(m, send)
		if s.modern && !strings.Contains(string(m.Params), "inputResponses") {
			return s.inputRequired()
		}
		if !s.modern {
			s.ask(send)
		}
		return `{"content":[{"type":"text","text":"` + canary("tool-result") + `"}],"structuredContent":{"k":"` +
			canary("structured") + `"},"_meta":{"k":"` + canary("result-meta") + `"}}`
	}
	return ""
}

// sendOthers sends messages that belong to the call m, and messages and lines that
// belong to no request.
func (s *leaky) sendOthers(m jsonrpc.Message, send func(string)) {
	if token := hubtest.ProgressToken(m.Params); token != nil {
		send(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + string(token) +
			`,"progress":1,"message":"` + canary("progress") + `"}}`)
	}
	send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","logger":"` +
		canary("log-logger") + `","data":"` + canary("log-data") + `"}}`)
	send(`{"jsonrpc":"2.0","method":"notifications/` + canary("server-notification") + `","params":{"k":"` +
		canary("server-notification-params") + `"}}`)
	send(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"` + canary("foreign-token") + `","progress":1}}`)
	send(`{"jsonrpc":"2.0","id":"` + canary("unmatched-id") + `","result":{"k":"` + canary("unmatched-result") + `"}}`)
	send(canary("not-json") + ` is no message`)
	send(`{"jsonrpc":"2.0","` + canary("bad-member") + `":{"` + canary("bad-key") + `":nonsense}}`)
	if s.modern {
		send(`{"jsonrpc":"2.0","id":1,"method":"` + canary("modern-question") + `"}`)
	}
}

// questions returns what the server asks the client, by a key that gives the order.
func questions() map[string]string {
	text := func(path string) string { return `{"type":"text","text":"` + canary(path) + `"}` }
	return map[string]string{
		"a": `"method":"elicitation/create","params":{"message":"` + canary("elicitation-question") +
			`","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`,
		"b": `"method":"elicitation/create","params":{"mode":"url","message":"m","elicitationId":"` +
			canary("elicitation-id") + `","url":"https://host/?k=` + canary("elicitation-url") + `"}`,
		"c": `"method":"sampling/createMessage","params":{"maxTokens":9,"messages":[{"role":"user","content":` +
			text("sampling-question") + `}]}`,
		"d": `"method":"roots/list","params":{}`,
	}
}

// ask asks the client as legacy servers do.
func (s *leaky) ask(send func(string)) {
	all := questions()
	all["e"] = `"method":"sampling/createMessage","params":{"maxTokens":9,"messages":[{"role":"user",` +
		`"content":{"type":"text","text":"refuse"}}]}`
	all["f"] = `"method":"` + canary("server-question") + `","params":{"k":"` + canary("server-question-params") + `"}`
	for _, key := range slices.Sorted(maps.Keys(all)) {
		s.mu.Lock()
		s.asked++
		id := fmt.Sprintf(`"q%d"`, s.asked)
		reply := make(chan jsonrpc.Message, 1)
		s.replies[id] = reply
		s.mu.Unlock()
		send(`{"jsonrpc":"2.0","id":` + id + `,` + all[key] + `}`)
		select {
		case <-reply:
		case <-time.After(10 * time.Second):
		}
	}
}

// inputRequired returns the result with which modern servers ask the client.
func (s *leaky) inputRequired() string {
	var requests []string
	for key, question := range questions() {
		requests = append(requests, fmt.Sprintf(`%q:{%s}`, key, question))
	}
	return `{"resultType":"input_required","inputRequests":{` + strings.Join(requests, ",") +
		`},"requestState":"` + canary("server-state") + `"}`
}

// faulty serves servers to which no hub can connect, by path.
func faulty(received, sent io.Writer) http.Handler {
	mux := http.NewServeMux()
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(received, r.URL)
			fmt.Fprintln(sent, text)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
	mux.HandleFunc("/refuses", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := jsonrpc.Parse(body)
		fmt.Fprintln(received, r.URL, r.Header)
		w.Header().Set("Content-Type", "application/json")
		answer := jsonrpc.NewError(m.ID, jsonrpc.Errorf(-32001, "%s: no access with %s at %s",
			canary("initialize-error"), r.Header.Get("Authorization"), r.URL)).Encode()
		fmt.Fprintln(sent, string(answer))
		_, _ = w.Write(answer)
	})
	mux.HandleFunc("/status", raw("HTTP/1.1 "+canary("bad-status")+"\r\n\r\n"))
	mux.HandleFunc("/header", raw("HTTP/1.1 200 OK\r\n"+canary("bad-header")+"\r\n\r\n"))
	mux.HandleFunc("/garbled", raw(canary("bad-http")+"\r\n\r\n"))
	answer := `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`
	mux.HandleFunc("/chatty", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s%s\r\n\r\n", len(answer), answer, canary("unsolicited"))))
	mux.HandleFunc("/moved", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://host/?k="+canary("location"))
		fmt.Fprintln(sent, w.Header())
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/prose", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/"+canary("content-type"))
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, canary("error-page"))
		fmt.Fprintln(sent, w.Header(), canary("error-page"))
	})
	endpoint := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, "event: endpoint\ndata: %s\n\n", url)
			fmt.Fprintln(sent, url)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(2 * time.Second):
			}
		}
	}
	mux.HandleFunc("/sse-foreign", endpoint("http://"+canary("sse-foreign-host")+"/?k="+canary("sse-foreign")))
	mux.HandleFunc("/sse-broken", endpoint("/garbled?session="+canary("sse-endpoint")))
	return mux
}
