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

// childVariable makes the test binary a leaky server on stdin and stdout. Its
// value is the file that gets all it is sent.
const childVariable = "MCPHUB_TEST_CANARY_SERVER"

// canary is a secret that says which way it went.
func canary(path string) string { return "canary." + path + ".end" }

// leaky is an MCP server that says secrets wherever it can, and breaks the
// protocol. It is written by hand: no SDK does that.
type leaky struct {
	modern bool
	seen   io.Writer // gets everything that the server is sent
	said   io.Writer // gets everything that it says

	mu      sync.Mutex
	asked   int
	replies map[string]chan jsonrpc.Message
}

func newLeaky(modern bool, seen, said io.Writer) *leaky {
	return &leaky{modern: modern, seen: seen, said: said, replies: map[string]chan jsonrpc.Message{}}
}

// serveChild is the test binary as a child process.
func serveChild(file string) int {
	seen, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	fmt.Fprintln(seen, os.Args, os.Getenv("TOKEN"))
	fmt.Fprintln(os.Stderr, "starting with", os.Getenv("TOKEN"))
	var mu sync.Mutex
	say := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(line)
	}
	s := newLeaky(false, seen, io.Discard)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(seen, lines.Text())
		m, err := jsonrpc.Parse(bytes.Clone(lines.Bytes()))
		if err != nil {
			continue
		}
		go s.take(m, say)
	}
	return 0
}

// ServeHTTP serves Streamable HTTP.
func (s *leaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintln(s.seen, r.Method, r.URL, r.Header, string(body))
	w.Header().Set("X-Secret", canary("response-header"))
	w.Header().Set("Set-Cookie", "k="+canary("response-cookie"))
	m, err := jsonrpc.Parse(body)
	if r.Method != http.MethodPost || err != nil {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if m.Kind() != jsonrpc.Request {
		s.take(m, nil)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Method == "initialize" {
		w.Header().Set("Mcp-Session-Id", canary("upstream-session"))
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintln(s.said, w.Header())
	s.take(m, func(line string) {
		fmt.Fprintln(s.said, line, canary("event-id"))
		_, _ = fmt.Fprintf(w, "id: %s\ndata: %s\n\n", canary("event-id"), line)
		_ = http.NewResponseController(w).Flush()
	})
}

// take takes a message; say sends one back.
func (s *leaky) take(m jsonrpc.Message, say func(string)) {
	switch m.Kind() {
	case jsonrpc.Response:
		s.mu.Lock()
		reply := s.replies[string(m.ID)]
		s.mu.Unlock()
		if reply != nil {
			reply <- m
		}
	case jsonrpc.Request:
		say(string(s.answer(m, say).Encode()))
	}
}

func (s *leaky) answer(m jsonrpc.Message, say func(string)) jsonrpc.Message {
	result := s.ordinary(m, say)
	if result == "" {
		return jsonrpc.Message{ID: m.ID, Error: json.RawMessage(`{"code":-32000,"message":"` + canary("error-message") + `","data":{"k":"` + canary("error-data") + `"}}`)}
	}
	if s.modern {
		result = string(hubtest.Complete(json.RawMessage(result)))
	}
	return jsonrpc.Message{ID: m.ID, Result: json.RawMessage(result)}
}

// secretURI is a resource whose URI has secrets in it.
func secretURI(name string) string {
	return "res://user:" + canary(name+"-userinfo") + "@host/a?key=" + canary(name+"-query") + "#" + canary(name+"-fragment")
}

const leakyCapabilities = `"capabilities":{"tools":{},"prompts":{},"resources":{"subscribe":true},"logging":{},"completions":{}}`

// ordinary is the result of a request; "" is an error.
func (s *leaky) ordinary(m jsonrpc.Message, say func(string)) string {
	if listed := s.listed(m); listed != "" {
		return listed
	}
	info := `{"name":"leaky","version":"1","title":"` + canary("server-info") + `"}`
	switch m.Method {
	case "initialize":
		if s.modern {
			return ""
		}
		return `{"protocolVersion":"2025-11-25",` + leakyCapabilities + `,"serverInfo":` + info + `,"instructions":"` + canary("instructions") + `"}`
	case "server/discover":
		if !s.modern {
			return ""
		}
		return `{"supportedVersions":["2026-07-28"],` + leakyCapabilities + `,"_meta":{"io.modelcontextprotocol/serverInfo":` + info + `}}`
	case "ping", "logging/setLevel", "resources/unsubscribe":
		return `{}`
	case "resources/subscribe":
		say(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + secretURI("listed") + `"}}`)
		return `{}`
	case "tools/call":
		return s.call(m, say)
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

// listed is the result of a list. Tools come in two pages, and a resource twice.
func (s *leaky) listed(m jsonrpc.Message) string {
	const schema = `"inputSchema":{"type":"object"}`
	switch m.Method {
	case "tools/list":
		if !strings.Contains(string(m.Params), canary("server-cursor")) {
			return `{"tools":[{"name":"everything",` + schema + `,"description":"` + canary("tool-description") + `"},{"name":"fail",` + schema + `}],"nextCursor":"` + canary("server-cursor") + `"}`
		}
		return `{"tools":[{"name":"refuse",` + schema + `},{"name":"hang",` + schema + `},{"name":"refuse",` + schema + `},{"name":"x","` + canary("twice") + `":1,"` + canary("twice") + `":2}]}`
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
func (s *leaky) call(m jsonrpc.Message, say func(string)) string {
	name, _ := jsonrpc.StringField(m.Params, "name")
	switch name {
	case "fail":
		return `{"content":[{"type":"text","text":"` + canary("is-error") + `"}],"isError":true}`
	case "hang":
		time.Sleep(3 * time.Second) // the client gives up before
		return `{"content":[]}`
	case "everything":
		s.tell(m, say)
		if s.modern && !strings.Contains(string(m.Params), "inputResponses") {
			return s.wants()
		}
		if !s.modern {
			s.ask(say)
		}
		return `{"content":[{"type":"text","text":"` + canary("tool-result") + `"}],"structuredContent":{"k":"` + canary("structured") + `"},"_meta":{"k":"` + canary("result-meta") + `"}}`
	}
	return ""
}

// tell sends what belongs to the call m, and what belongs nowhere.
func (s *leaky) tell(m jsonrpc.Message, say func(string)) {
	if token := hubtest.ProgressToken(m.Params); token != nil {
		say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + string(token) + `,"progress":1,"message":"` + canary("progress") + `"}}`)
	}
	say(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","logger":"` + canary("log-logger") + `","data":"` + canary("log-data") + `"}}`)
	say(`{"jsonrpc":"2.0","method":"notifications/` + canary("server-notification") + `","params":{"k":"` + canary("server-notification-params") + `"}}`)
	say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"` + canary("foreign-token") + `","progress":1}}`)
	say(`{"jsonrpc":"2.0","id":"` + canary("unmatched-id") + `","result":{"k":"` + canary("unmatched-result") + `"}}`)
	say(canary("not-json") + ` is no message`)
	say(`{"jsonrpc":"2.0","` + canary("bad-member") + `":{"` + canary("bad-key") + `":nonsense}}`)
	if s.modern {
		say(`{"jsonrpc":"2.0","id":1,"method":"` + canary("modern-question") + `"}`)
	}
}

// questions are what the server wants to know, in the order they are asked in.
func questions() map[string]string {
	text := func(path string) string { return `{"type":"text","text":"` + canary(path) + `"}` }
	return map[string]string{
		"a": `"method":"elicitation/create","params":{"message":"` + canary("elicitation-question") + `","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`,
		"b": `"method":"elicitation/create","params":{"mode":"url","message":"m","elicitationId":"` + canary("elicitation-id") + `","url":"https://host/?k=` + canary("elicitation-url") + `"}`,
		"c": `"method":"sampling/createMessage","params":{"maxTokens":9,"messages":[{"role":"user","content":` + text("sampling-question") + `}]}`,
		"d": `"method":"roots/list","params":{}`,
	}
}

// ask asks the client as legacy servers do.
func (s *leaky) ask(say func(string)) {
	all := questions()
	all["e"] = `"method":"sampling/createMessage","params":{"maxTokens":9,"messages":[{"role":"user","content":{"type":"text","text":"refuse"}}]}`
	all["f"] = `"method":"` + canary("server-question") + `","params":{"k":"` + canary("server-question-params") + `"}`
	for _, key := range slices.Sorted(maps.Keys(all)) {
		s.mu.Lock()
		s.asked++
		id := fmt.Sprintf(`"q%d"`, s.asked)
		reply := make(chan jsonrpc.Message, 1)
		s.replies[id] = reply
		s.mu.Unlock()
		say(`{"jsonrpc":"2.0","id":` + id + `,` + all[key] + `}`)
		select {
		case <-reply:
		case <-time.After(10 * time.Second):
		}
	}
}

// wants asks the client as modern servers do.
func (s *leaky) wants() string {
	var requests []string
	for key, question := range questions() {
		requests = append(requests, fmt.Sprintf(`%q:{%s}`, key, question))
	}
	return `{"resultType":"input_required","inputRequests":{` + strings.Join(requests, ",") + `},"requestState":"` + canary("server-state") + `"}`
}

// faulty are servers that cannot be connected to, by path.
func faulty(seen, said io.Writer) http.Handler {
	mux := http.NewServeMux()
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(seen, r.URL)
			fmt.Fprintln(said, text)
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
		fmt.Fprintln(seen, r.URL, r.Header)
		w.Header().Set("Content-Type", "application/json")
		answer := jsonrpc.NewError(m.ID, jsonrpc.Errorf(-32001, "%s: no access with %s at %s", canary("initialize-error"), r.Header.Get("Authorization"), r.URL)).Encode()
		fmt.Fprintln(said, string(answer))
		_, _ = w.Write(answer)
	})
	mux.HandleFunc("/status", raw("HTTP/1.1 "+canary("bad-status")+"\r\n\r\n"))
	mux.HandleFunc("/header", raw("HTTP/1.1 200 OK\r\n"+canary("bad-header")+"\r\n\r\n"))
	mux.HandleFunc("/garbled", raw(canary("bad-http")+"\r\n\r\n"))
	answer := `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`
	mux.HandleFunc("/chatty", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s\r\n\r\n", len(answer), answer, canary("unsolicited"))))
	mux.HandleFunc("/moved", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://host/?k="+canary("location"))
		fmt.Fprintln(said, w.Header())
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/prose", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/"+canary("content-type"))
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, canary("error-page"))
		fmt.Fprintln(said, w.Header(), canary("error-page"))
	})
	endpoint := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(w, "event: endpoint\ndata: %s\n\n", url)
			fmt.Fprintln(said, url)
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
