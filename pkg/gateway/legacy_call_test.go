package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestArgumentsAndResultsKeepTheirBytes(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}})
	c := r.connect()
	for _, arguments := range []string{
		`{}`, `null`, `[]`, `"x"`, `1.50`,
		`{"a": 1.50, "b":1e400 ,"c":12345678901234567890}`,
		`{"dup":1,"dup":2,"\u0064up":3}`,
		`{"text":"\u00e9 é \ud83d\ude00 😀 \/ <script>&amp;` + "\u2028" + ` \u0000","name":"two__echo","arguments":{"name":"x"}}`,
		`{"` + strings.Repeat("k", 1000) + `":"` + strings.Repeat("v", 100_000) + `"}`,
		strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500),
	} {
		params := fmt.Sprintf(`{ "x-before":{"a":[ ]}, "name" : "one__echo" , "arguments":%s, "x-after":1.0 }`, arguments)
		want := fmt.Sprintf(`{ "x-before":{"a":[ ]}, "name" : "echo" , "arguments":%s, "x-after":1.0 ,`, arguments)
		got := string(c.call("1", "tools/call", params).response(t).Result)
		// Tracing adds one member. No other may be added.
		before, _, found := strings.Cut(got, `"_meta":{"traceparent":"00-`)
		if !found || strings.ReplaceAll(before, " ", "") != strings.ReplaceAll(`{"content":[],"server":"one","params":`+want, " ", "") {
			t.Errorf("arguments %.100s arrived as %.400s", arguments, got)
		}
	}
	if got := c.tool("one__weird", `{}`); string(got) != weirdResult {
		t.Errorf("the result arrived as %s", got)
	}
}

func TestRequestIDsAreReturnedByteForByte(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	for _, id := range []string{`1`, `"1"`, `0`, `-1`, `9007199254740993`, `123456789012345678901234567890`, `"é"`, `"\u00e9"`, `1.50`,
		`1e2`, `""`,
		`"` + strings.Repeat("i", 10_000) + `"`} {
		for _, method := range []string{"ping", "tools/list", "tools/call", "no/such"} {
			m := c.call(id, method, `{"name":"one__echo"}`).response(t)
			if string(m.ID) != id {
				t.Errorf("%s with the id %.50s was answered with %.50s", method, id, m.ID)
			}
		}
	}
}

func TestErrorsOfServersAreForwardedUnchanged(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	for _, e := range []string{
		`{"code":-32601,"message":"not here"}`,
		`{"code":-32602,"message":"bad <&> \u00e9","data":{"a": 1.50,"b":[ ]}}`,
		`{"code":4711,"message":"custom","data":null,"extra":1.0}`,
		`{"code":-32000,"message":""}`,
	} {
		m := c.call("1", "tools/call", `{"name":"one__fail","arguments":{"error":`+e+`}}`).response(t)
		if string(m.Error) != e {
			t.Errorf("%s arrived as %s", e, m.Error)
		}
	}
	if got := c.tool("one__fail", `{}`); string(got) != `{"isError":true,"content":[]}` {
		t.Errorf("a tool's error arrived as %s", got)
	}
}

func TestPrefixedNamesAreRoutedToTheirServer(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}, untraced: true})
	c := r.connect()
	list := string(c.call("1", "tools/list", `{}`).response(t).Result)
	for _, server := range []string{"one", "two"} {
		want := strings.ReplaceAll(childTools, `"name":"`, `"name":"`+server+`__`)
		if !strings.Contains(list, strings.Trim(want, "[]")) {
			t.Errorf("tools/list is %s", list)
		}
		if got := string(c.tool(server+"__echo", `{}`)); !strings.Contains(got,
			fmt.Sprintf(`"server":%q,"params":{"name":"echo"`, server)) {
			t.Errorf("%s__echo returned %s", server, got)
		}
		p := c.call("1", "prompts/get", fmt.Sprintf(`{"name":"%s__greet","arguments":{"who":"%s__greet"}}`, server, server))
		if got := string(p.response(t).Result); !strings.HasPrefix(got,
			fmt.Sprintf(`{"server":%q,"params":{"name":"greet","arguments":{"who":"%s__greet"}`, server, server)) {
			t.Errorf("prompts/get of %s returned %s", server, got)
		}
		p = c.call("1", "completion/complete",
			fmt.Sprintf(`{"argument":{"name":"%s__greet","value":""}, "ref":{"type":"ref/prompt", "name":"%s__greet","title":"x"}}`,
				server, server))
		if got := string(p.response(t).Result); !strings.HasPrefix(got,
			fmt.Sprintf(`{"server":%q,"params":{"argument":{"name":"%s__greet","value":""}, "ref":{"type":"ref/prompt", "name":"greet",`+
				`"title":"x"}`, server, server)) {
			t.Errorf("completion for a prompt of %s returned %s", server, got)
		}
		for _, ref := range []string{"test://" + server + "/item/{id}", "test://" + server + "/one"} {
			p = c.call("1", "completion/complete", fmt.Sprintf(`{"ref":{"type":"ref/resource","uri":%q}}`, ref))
			if got := string(p.response(t).Result); !strings.HasPrefix(got,
				fmt.Sprintf(`{"server":%q,"params":{"ref":{"type":"ref/resource","uri":%q}`, server, ref)) {
				t.Errorf("completion for %s returned %s", ref, got)
			}
		}
		for _, uri := range []string{"test://" + server + "/one", "test://" + server + "/item/7"} {
			p = c.call("1", "resources/read", fmt.Sprintf(`{"uri":%q}`, uri))
			if got := string(p.response(t).Result); !strings.HasPrefix(got, fmt.Sprintf(`{"server":%q,"params":{"uri":%q`, server, uri)) {
				t.Errorf("reading %s returned %s", uri, got)
			}
		}
	}
	if got := string(c.call("1", "resources/read", `{"uri":"test://both"}`).response(t).Result); !strings.HasPrefix(got,
		`{"server":"one"`) {
		t.Errorf("a resource of two servers returned %s", got)
	}
}

func TestNamingConflictPrefixesOnlyNamesThatCollide(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")}, naming: catalog.Conflict})
	c := r.connect()
	if got := string(c.tool("echo", `{}`)); !strings.Contains(got, `"server":"one"`) {
		t.Errorf("echo returned %s", got)
	}
	if got := string(c.tool("one__grow", `{}`)); got != `{"content":[]}` {
		t.Errorf("one__grow returned %s", got)
	}
	if e := c.call("1", "tools/call", `{"name":"grow"}`).rpcError(t); e.Code != -32602 {
		t.Errorf("grow, which two servers have, returned %v", e)
	}
}

func TestUnknownNamesAreRefusedWithTheReason(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}})
	c := r.connect()
	for _, x := range []struct {
		method, params string
		code           int
		message        string
	}{
		{"tools/call", `{"name":"one__nothing"}`, -32602, `unknown tool: "one__nothing"`},
		{"tools/call", `{"name":"echo"}`, -32602, `unknown tool: "echo"`},
		{"tools/call", `{"name":7}`, -32602, "needs the name of a tool"},
		{"tools/call", `{}`, -32602, "needs the name of a tool"},
		{"tools/call", `[]`, -32602, "invalid params"},
		{"tools/call", `{"name":"one__echo","name":"two__echo"}`, -32602, "twice"},
		{"tools/call", `{"name":"one__echo","_meta":7}`, -32602, "invalid params"},
		{"prompts/get", `{"name":"none"}`, -32602, `unknown prompt: "none"`},
		{"prompts/get", `{}`, -32602, "needs the name of a prompt"},
		{"resources/read", `{"uri":"nowhere://x"}`, -32002, "resource not found"},
		{"resources/read", `{}`, -32602, "needs the uri"},
		{"resources/subscribe", `{"uri":"nowhere://x"}`, -32002, "resource not found"},
		{"completion/complete", `{}`, -32602, "needs a ref"},
		{"completion/complete", `{"ref":{"type":"ref/x"}}`, -32602, "unknown type of ref"},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"none"}}`, -32602, "unknown ref/prompt"},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"one__greet","name":"two__greet"}}`, -32602, "needs a ref"},
		{"completion/complete", `{"ref":{"type":"ref/prompt","NAME":"one__greet"}}`, -32602, "unknown ref/prompt"},
		{"logging/setLevel", `{"level":"loud"}`, -32602, "unknown log level"},
		{"logging/setLevel", `{}`, -32602, "unknown log level"},
		{"tools/list", `{"cursor":"x"}`, -32602, "cursor"},
		{"custom/echo", `{}`, -32601, "cannot tell which of its 2 servers"},
		{strings.Repeat("m", 5000), `{}`, -32601, "cannot tell"},
	} {
		p := c.call("1", x.method, x.params)
		if e := p.rpcError(t); p.status != 200 || e.Code != x.code || !strings.Contains(e.Message, x.message) || len(e.Message) > 500 {
			t.Errorf("%.50s %s: %d %s", x.method, x.params, p.status, p.body)
		}
	}
}

func TestBrokenServerAffectsOnlyItsOwnCalls(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{absent("broken"), stdio(t, "one"), stdio(t, "two")}})
	c := r.connect()
	if got := string(c.tool("one__echo", `{}`)); !strings.Contains(got, `"server":"one"`) {
		t.Errorf("one returned %s", got)
	}
	p := c.call("1", "tools/call", `{"name":"two__die"}`)
	if e := p.rpcError(t); e.Code != -32603 || !strings.Contains(e.Message, `server "two" was lost before it answered`) {
		t.Errorf("the call during which the server exited returned %s", p.body)
	}
	hubtest.Eventually(t, "two is down", func() bool { return r.pool.Server("two").Status().State == upstream.Down })
	p = c.call("1", "tools/call", `{"name":"two__echo"}`)
	if e := p.rpcError(t); !strings.Contains(e.Message, `server "two" is down`) || !strings.Contains(e.Message, "exit status 3") ||
		!strings.Contains(e.Message, "next attempt in") {
		t.Errorf("a call to the server that is down returned %s", p.body)
	}
	if list := string(c.call("1", "tools/list", `{}`).response(t).Result); !strings.Contains(list, "one__echo") ||
		strings.Contains(list, "broken__") {
		t.Errorf("tools/list is %s", list)
	}
	hubtest.Eventually(t, "two is up again", func() bool { return r.pool.Server("two").Status().State == upstream.Up })
	if got := string(c.tool("two__echo", `{}`)); !strings.Contains(got, `"server":"two"`) {
		t.Errorf("two returned %s", got)
	}
}

func TestRequestIDInFlightIsRefused(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c, other := r.connect(), r.connect()
	first := make(chan reply, 1)
	go func() { first <- c.call("1", "tools/call", `{"name":"one__hang"}`) }()
	hubtest.Eventually(t, "the call is in flight", func() bool { return other.state("one").Hanging == 1 })
	if p := c.call("1", "ping", `{}`); p.status != http.StatusBadRequest || p.rpcError(t).Code != -32600 ||
		string(p.response(t).ID) != "1" {
		t.Errorf("the same id: %d %s", p.status, p.body)
	}
	for _, id := range []string{`"1"`, `1.0`, `2`} {
		if p := c.call(id, "ping", `{}`); p.status != http.StatusOK {
			t.Errorf("the id %s: %d %s", id, p.status, p.body)
		}
	}
	if p := other.call("1", "ping", `{}`); p.status != http.StatusOK {
		t.Errorf("the id of another client: %d %s", p.status, p.body)
	}
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	if p := <-first; len(p.events) != 0 || p.body != ": cancelled\n\n" {
		t.Errorf("the cancelled call was answered with %q", p.body)
	}
	if p := c.call("1", "ping", `{}`); p.status != http.StatusOK {
		t.Errorf("the id after its call ended: %d %s", p.status, p.body)
	}
}

func TestRequestsBeyondTheLimitInFlightAreRefused(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(c *Config) { c.MaxInFlight = 2 }})
	c, other := r.connect(), r.connect()
	replies := make(chan reply, 2)
	for _, id := range []string{"1", "2"} {
		go func() { replies <- c.call(id, "tools/call", `{"name":"one__hang"}`) }()
	}
	hubtest.Eventually(t, "the calls are in flight", func() bool { return other.state("one").Hanging == 2 })
	if p := c.call("3", "ping", `{}`); p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" ||
		p.rpcError(t).Code != -32603 {
		t.Errorf("a request beyond the limit: %d %s", p.status, p.body)
	}
	if p := other.call("3", "ping", `{}`); p.status != http.StatusOK {
		t.Errorf("a request of another client: %d %s", p.status, p.body)
	}
	for _, id := range []string{"1", "2"} {
		c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"x"}}`)
		<-replies
	}
	if p := c.call("3", "ping", `{}`); p.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", p.status, p.body)
	}
}

func TestSubscribedURIsOfASessionAreLimited(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	uri := func(i int) string { return fmt.Sprintf(`{"uri":"test://one/item/%d%s"}`, i, strings.Repeat("x", 8000)) }
	refused := 0
	for i := range 12 {
		if m := c.call("1", "resources/subscribe", uri(i)).response(t); m.Error != nil {
			refused++
			if e := jsonrpc.ParseError(m.Error); e.Code != -32602 || !strings.Contains(e.Message, "too many subscriptions") {
				t.Errorf("refused with %s", m.Error)
			}
		}
	}
	if refused != 4 {
		t.Errorf("%d of 12 long subscriptions were refused", refused)
	}
	if m := c.call("1", "resources/subscribe", uri(0)).response(t); m.Error != nil {
		t.Errorf("subscribing again was refused: %s", m.Error)
	}
	if err := r.sessions.Flush(t.Context()); err != nil {
		t.Errorf("the session does not fit its record: %v", err)
	}
}

func TestChildProcessesDoNotInheritTheEnvironmentOfTheHub(t *testing.T) {
	t.Setenv("MCPHUB_CANARY", "secret")
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	if env := r.connect().state("one").Env; len(env) != 2 {
		t.Errorf("the environment of the child process is %q", env)
	}
}

func TestLongResponseArrivesComplete(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, untraced: true, gateway: func(c *Config) { c.Patience = patience }})
	c := r.connect()
	text := strings.Repeat("0123456789", 100_000)
	response := c.do(t.Context(), http.MethodPost, request("1", "tools/call", `{"name":"one__echo","arguments":{"text":"`+text+`"}}`),
		"Mcp-Session-Id: "+c.token)
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || !bytes.Contains(body, []byte(text)) || !json.Valid(body) {
		t.Errorf("%d bytes arrived: %v", len(body), err)
	}
}

func TestToolOfServerThatWasNeverUpFailsAtOnceWithTheReason(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{absent("dead"), stdio(t, "one")}})
	c := r.connect()
	began := time.Now()
	e := c.call("1", "tools/call", `{"name":"dead__x"}`).rpcError(t)
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the request took %s", took)
	}
	for _, want := range []string{`server "dead" is down`, "could not be started", "next attempt in"} {
		if !strings.Contains(e.Message, want) {
			t.Errorf("the error %q does not contain %q", e.Message, want)
		}
	}
	if e := c.call("2", "tools/call", `{"name":"one__x"}`).rpcError(t); !strings.Contains(e.Message, `unknown tool: "one__x"`) {
		t.Errorf("the error for a server that is up is %q", e.Message)
	}
}
