package canary

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// trusting is a client that sends secrets wherever it can and puts more of them
// into its answers to servers.
type trusting struct {
	t        *testing.T
	url      string
	token    string // of its session, if it has one
	received *hubtest.Buffer
	sent     *hubtest.Buffer
}

// headers sets the headers of a request.
func (c *trusting) headers(r *http.Request) {
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Authorization": "Bearer " + canary("client-authorization"),
		"Cookie":        "k=" + canary("client-cookie"), "X-Api-Key": canary("client-api-key"),
		"User-Agent": canary("user-agent"), "X-Mcp-Cwd": "/" + canary("cwd"), "X-Mcp-Project": canary("project"),
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "v=" + canary("tracestate-header"),
		"Baggage": "tenant=" + canary("baggage-tenant-header") + ",secret=" + canary("baggage-header"),
	} {
		r.Header.Set(name, value)
	}
	if c.token != "" {
		r.Header.Set("Mcp-Session-Id", c.token)
		r.Header.Set("Mcp-Protocol-Version", hubtest.LegacyVersion)
	}
}

// send sends body and returns the response, whose body is not read yet.
func (c *trusting) send(ctx context.Context, method, body string, edit func(*http.Request)) *http.Response {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.url+"?k="+canary("client-query"), strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	c.headers(r)
	if edit != nil {
		edit(r)
	}
	fmt.Fprintln(c.sent, r.URL, r.Header, body)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return response
}

// post posts body, answers the requests of servers that come before the response,
// and returns the response.
func (c *trusting) post(body string, edit func(*http.Request)) (last jsonrpc.Message) {
	c.t.Helper()
	response := c.send(c.t.Context(), http.MethodPost, body, edit)
	defer response.Body.Close()
	if c.token == "" {
		c.token = response.Header.Get("Mcp-Session-Id")
	}
	fmt.Fprintln(c.received, response.Status, response.Header)
	return c.read(response.Body)
}

// read reads one object or a stream.
func (c *trusting) read(body io.Reader) (last jsonrpc.Message) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(c.received, lines.Text())
		data, _ := strings.CutPrefix(lines.Text(), "data: ")
		m, err := jsonrpc.Parse([]byte(data))
		switch {
		case err != nil:
		case m.Kind() == jsonrpc.Request:
			c.post(string(answerTo(m).Encode()), nil)
		case m.Kind() == jsonrpc.Response:
			last = m
		}
	}
	return last
}

// ask sends a legacy request.
func (c *trusting) ask(method, params string) jsonrpc.Message {
	c.t.Helper()
	meta := `"_meta":{"progressToken":"` + canary("progress-token") + `","k":"` + canary("request-meta") +
		`","traceparent":"00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"v=` +
		canary("tracestate-meta") + `","baggage":"tenant=` + canary("baggage-tenant-meta") + `,secret=` + canary("baggage-meta") + `"}`
	if params != "" {
		params += ","
	}
	return c.post(`{"jsonrpc":"2.0","id":"`+canary("request-id")+`","method":"`+method+`","params":{`+params+meta+`}}`, nil)
}

// notify sends a notification.
func (c *trusting) notify(method, params string) {
	c.t.Helper()
	c.post(`{"jsonrpc":"2.0","method":"`+method+`","params":{`+params+`}}`, nil)
}

// answerTo returns the answer to a request of a server.
func answerTo(m jsonrpc.Message) jsonrpc.Message {
	result := answerText(m.Method, string(m.Params))
	if result == "" {
		return jsonrpc.Message{ID: m.ID, Error: json.RawMessage(`{"code":-1,"message":"` + canary("answer-error") +
			`","data":"` + canary("answer-error-data") + `"}`)}
	}
	return jsonrpc.Message{ID: m.ID, Result: json.RawMessage(result)}
}

func answerText(method, params string) string {
	switch {
	case method == "elicitation/create" && strings.Contains(params, `"url"`):
		return `{"action":"accept","_meta":{"k":"` + canary("elicitation-url-answer") + `"}}`
	case method == "elicitation/create":
		return `{"action":"accept","content":{"a":"` + canary("elicitation-answer") + `"}}`
	case method == "sampling/createMessage" && !strings.Contains(params, `"refuse"`):
		return `{"role":"assistant","model":"m","content":{"type":"text","text":"` + canary("sampling-answer") + `"}}`
	case method == "roots/list":
		return `{"roots":[{"uri":"file:///` + canary("roots") + `","name":"n"}]}`
	}
	return ""
}

const trustingCapabilities = `{"roots":{},"sampling":{},"elicitation":{"form":{},"url":{}}}`

// askModern sends a request of 2026-07-28, and sends it again with answers as long
// as the result is input_required.
func (c *trusting) askModern(method, target, params string) {
	c.t.Helper()
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":` + trustingCapabilities +
		`,"io.modelcontextprotocol/clientInfo":{"name":"` + canary("modern-client-name") +
		`","version":"1","title":"` + canary("modern-client-title") + `"},"io.modelcontextprotocol/logLevel":"debug","progressToken":1,"k":"` +
		canary("modern-meta") + `","traceparent":"00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",` +
		`"tracestate":"v=` + canary("tracestate-modern") + `","baggage":"secret=` + canary("baggage-modern") + `"}`
	original := params
	for range 12 {
		if params != "" && !strings.HasSuffix(params, ",") {
			params += ","
		}
		body := `{"jsonrpc":"2.0","id":"` + canary("modern-request-id") + `","method":"` + method + `","params":{` + params + meta + `}}`
		m := c.post(body, func(r *http.Request) {
			r.Header.Set("Mcp-Protocol-Version", hubtest.ModernVersion)
			r.Header.Set("Mcp-Method", method)
			if target != "" {
				r.Header.Set("Mcp-Name", target)
			}
		})
		var result struct {
			ResultType    string
			RequestState  json.RawMessage
			InputRequests map[string]struct {
				Method string
				Params json.RawMessage
			}
		}
		if json.Unmarshal(m.Result, &result) != nil || result.ResultType != "input_required" {
			return
		}
		answers := map[string]json.RawMessage{}
		for key, question := range result.InputRequests {
			answers[key] = json.RawMessage(`{"action":"decline"}`)
			if text := answerText(question.Method, string(question.Params)); text != "" {
				answers[key] = json.RawMessage(text)
			}
		}
		all, _ := json.Marshal(answers)
		params = original + `,"inputResponses":` + string(all)
		if result.RequestState != nil {
			params += `,"requestState":` + string(result.RequestState)
		}
	}
	c.t.Errorf("%s asks without end", target)
}

// listen opens the GET stream until ctx ends.
func (c *trusting) listen(ctx context.Context) {
	response := c.send(ctx, http.MethodGet, "", nil)
	go func() {
		defer response.Body.Close()
		c.read(response.Body)
	}()
}

// startTrusting opens a session.
func startTrusting(t *testing.T, url string, all *traffic) *trusting {
	t.Helper()
	c := &trusting{t: t, url: url, received: &all.toClients, sent: &all.fromClients}
	c.ask("initialize", `"protocolVersion":"2025-11-25",`+
		`"capabilities":{"experimental":{"k":"`+canary("capabilities")+`"},`+trustingCapabilities[1:]+
		`,"clientInfo":{"name":"`+canary("client-name")+`","version":"`+canary("client-version")+`","title":"`+canary("client-title")+`"}`)
	if c.token == "" {
		t.Fatalf("no session\n%s", c.received)
	}
	c.notify("notifications/initialized", "")
	return c
}

// legacyToServer sends everything that a legacy client can, to one server.
func (c *trusting) legacyToServer(server string) {
	c.t.Helper()
	arguments := `"arguments":{"k":"` + canary("tool-arguments") + `"}`
	for _, tool := range []string{"everything", "fail", "refuse"} {
		c.ask("tools/call", `"name":"`+server+`__`+tool+`",`+arguments)
	}
	c.ask("prompts/get", `"name":"`+server+`__p","arguments":{"k":"`+canary("prompt-arguments")+`"}`)
	c.ask("completion/complete", `"ref":{"type":"ref/prompt","name":"`+server+`__p"},"argument":{"name":"k",`+
		`"value":"`+canary("completion-argument")+`"}`)
	// This call is cancelled.
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	response := c.send(ctx, http.MethodPost,
		`{"jsonrpc":"2.0","id":"`+canary("cancelled-id")+`","method":"tools/call","params":{"name":"`+server+`__hang",`+arguments+`}}`, nil)
	c.notify("notifications/cancelled", `"requestId":"`+canary("cancelled-id")+`","reason":"`+canary("cancel-reason")+`"`)
	c.read(response.Body)
	response.Body.Close()
}

// legacyToHub sends what the hub answers itself or refuses.
func (c *trusting) legacyToHub() {
	c.t.Helper()
	c.ask("resources/read", `"uri":"`+secretURI("listed")+`"`)
	c.ask("resources/read", `"uri":"`+secretURI("broken")+`"`)
	c.ask("resources/subscribe", `"uri":"`+secretURI("listed")+`"`)
	c.ask("tools/list", `"cursor":"`+canary("cursor")+`"`)
	c.ask("tasks/get", `"taskId":"`+canary("task-id")+`"`)
	c.ask("logging/setLevel", `"level":"`+canary("log-level")+`"`)
	c.ask("tools/call", `"name":"`+canary("unknown-tool")+`","arguments":{}`)
	c.ask("prompts/get", `"name":"`+canary("unknown-prompt")+`"`)
	c.ask("completion/complete", `"ref":{"type":"`+canary("unknown-ref")+`"},"argument":{}`)
	c.ask(canary("unknown-method"), `"k":"`+canary("unknown-params")+`"`)
	c.notify("notifications/"+canary("unknown-notification"), `"k":"`+canary("unknown-notification-params")+`"`)
	for _, body := range []string{canary("malformed"), `{"jsonrpc":"2.0","params":{"` + canary("malformed-key") +
		`":{` + canary("malformed-value") + `}}}`,
		`{"jsonrpc":"` + canary("malformed-version") + `","method":"ping","id":1}`, `[{"k":"` + canary("malformed-batch") + `"}]`} {
		answer := string(c.post(body, nil).Error)
		if strings.Contains(answer, "canary.") {
			c.t.Errorf("the answer to a malformed message repeats it: %s", answer)
		}
	}
	for name, value := range map[string]string{
		"Last-Event-Id": canary("last-event-id"), "Mcp-Protocol-Version": canary("version-header"), "Origin": "http://" + canary("origin"),
		"Accept": canary("accept"),
	} {
		c.send(c.t.Context(), http.MethodGet, "", func(r *http.Request) { r.Header.Set(name, value) }).Body.Close()
		c.post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`, func(r *http.Request) { r.Header.Set(name, value) })
	}
	for _, token := range []string{hubtest.SessionID(c.token) + "." + canary("wrong-verifier"),
		canary("unknown-session"), hubtest.SessionID(c.token) + "x." + canary("unknown-verifier")} {
		c.post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`, func(r *http.Request) { r.Header.Set("Mcp-Session-Id", token) })
	}
}

// modernToServer sends everything that a modern client can, to one server.
func (c *trusting) modernToServer(server string) {
	c.t.Helper()
	arguments := `"arguments":{"k":"` + canary("modern-arguments") + `"}`
	for _, tool := range []string{"everything", "fail", "refuse"} {
		c.askModern("tools/call", server+"__"+tool, `"name":"`+server+`__`+tool+`",`+arguments)
	}
	c.askModern("prompts/get", server+"__p", `"name":"`+server+`__p","arguments":{"k":"`+canary("modern-prompt-arguments")+`"}`)
}

// modernToHub sends what the hub answers itself or refuses.
func (c *trusting) modernToHub() {
	c.t.Helper()
	c.askModern("resources/read", secretURI("listed"), `"uri":"`+secretURI("listed")+`"`)
	c.askModern("tools/call", "legacy__everything", `"name":"legacy__everything","arguments":{},"requestState":"`+canary("forged-state")+`"`)
	c.askModern(canary("modern-unknown-method"), "", `"k":"`+canary("modern-unknown-params")+`"`)
	c.askModern("tools/call", canary("other-name"), `"name":"`+canary("modern-unknown-tool")+`"`)
	c.askModern("tools/list", "", `"cursor":"`+canary("modern-cursor")+`"`)
}
