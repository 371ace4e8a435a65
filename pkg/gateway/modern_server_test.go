package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestModernServersGetTheBytesThatModernClientsSent(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", ""), stdio(t, "one")}, untraced: true})
	c := r.modern(canElicit).with(`,"io.modelcontextprotocol/clientInfo":{"name":"ann", "version":"1"},` +
		`"io.modelcontextprotocol/logLevel":"info","x/y":[1.50]`)
	for _, x := range []struct{ method, params, sent, name string }{
		{"tools/call", `{ "name":"two__echo", "arguments":{"n":1.50,"big":12345678901234567890,"s":"\u00e9</x>","d":1,"d":2}}`,
			`"two__echo"`, "echo"},
		{"prompts/get", `{"arguments":{"a":"\u00e9"},"name":"two__greet"}`, `"two__greet"`, "greet"},
		{"resources/read", `{"uri":"stub://one" ,"x":1e2}`, "", "stub://one"},
	} {
		const answer = `{"resultType":"complete" , "ttlMs":1, "cacheScope":"public", "content":[ ],"n":1.50,"big":12345678901234567890}`
		st.setAnswer(x.method, `"result":`+answer)
		if p := c.call(`"x"`, x.method, x.params); string(p.response(t).Result) != answer {
			t.Errorf("%s was answered %s", x.method, p.body)
		}
		v := st.last(x.method)
		want := c.body("0", x.method, x.params)
		if x.sent != "" {
			want = strings.Replace(want, x.sent, `"`+x.name+`"`, 1)
		}
		if !strings.Contains(want, `"params":`+string(v.Params)+"}") {
			t.Errorf("%s got %s of %s", x.method, v.Params, want)
		}
		if v.header.Get("Mcp-Name") != x.name || v.header.Get("Mcp-Method") != x.method ||
			v.header.Get("Mcp-Protocol-Version") != "2026-07-28" {
			t.Errorf("%s got %v", x.method, v.header)
		}
	}
	r.conserved(0)
}

func TestInputRequiredResultAndItsRetryPassUnmodified(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", ""), stdio(t, "one")}, untraced: true})
	c := r.modern(canElicit)
	const inputRequired = `{"resultType":"input_required", "inputRequests":{"k":{"method":"elicitation/create","params":{"n":1.50}}},` +
		`"requestState":"st\u00e4te =="}`
	st.setAnswer("tools/call", `"result":`+inputRequired)
	if p := c.tool("1", "two__echo", `{}`); string(p.response(t).Result) != inputRequired {
		t.Errorf("received %s", p.body)
	}
	const retry = `{"name":"two__echo","arguments":{},"inputResponses":{"k":{"action":"accept", "n":1.50}},"requestState":"st\u00e4te =="}`
	st.setAnswer("tools/call", `"result":{"resultType":"complete","content":[]}`)
	c.call("2", "tools/call", retry)
	if got := string(st.last("tools/call").Params); !strings.Contains(got, retry[len(`{"name":"two__echo",`):len(retry)-1]) {
		t.Errorf("the server got %s", got)
	}
	// A requestState that looks like one of the hub is still forwarded to the modern server.
	c.call("3", "tools/call", strings.Replace(retry, "st", "mcphub1.AAAAAAAAAA.", 1))
	if got := string(st.last("tools/call").Params); !strings.Contains(got, "mcphub1.AAAAAAAAAA.") {
		t.Errorf("the server got %s", got)
	}
	r.conserved(0)
}

func TestErrorsOfModernServersKeepTheirBytesAndGetTheirStatus(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", ""), stdio(t, "one")}, untraced: true})
	c := r.modern(`{}`)
	for _, x := range []struct {
		status, body string
		want         int
	}{
		{"400", `{"code":-32021, "message":"m","data":{"requiredCapabilities":{"sampling":{}}}}`, 400},
		{"400", `{"code":-32602,"message":"m" }`, 400},
		{"200", `{"code":-32602,"message":"m"}`, 400},
		{"404", `{"code":-32601,"message":"m","data":[1.50]}`, 404},
		{"200", `{"code":-32603,"message":"m"}`, 200},
		{"200", `{"code":7,"message":"m","data":null}`, 200},
	} {
		st.setAnswer("tools/call", x.status+` "error":`+x.body)
		p := c.tool("1", "two__echo", `{}`)
		if p.status != x.want || string(p.response(t).Error) != x.body {
			t.Errorf("%s became %d %s", x.body, p.status, p.body)
		}
	}
	r.conserved(0)
}

func TestHeadersOfArgumentsAreCheckedForwardedAndRecomputed(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", ""), stdio(t, "one")}})
	c := r.modern(`{}`)
	st.setAnswer("tools/call", `"result":{"resultType":"complete","content":[]}`)
	call := func(region string, headers ...string) reply {
		return c.call("1", "tools/call", `{"name":"two__there","arguments":{"region":`+region+`}}`, headers...)
	}
	if p := call(`"eu"`, "Mcp-Param-Region: eu", "Mcp-Param-Zone: a  b", "Mcp-Param-Zone: c"); p.status != 200 {
		t.Fatalf("%d %s", p.status, p.body)
	}
	v := st.last("tools/call")
	if v.header.Get("Mcp-Param-Region") != "eu" || len(v.header.Values("Mcp-Param-Zone")) != 2 {
		t.Errorf("the server got %v", v.header)
	}
	if p := call(`"\u00e9"`, "Mcp-Param-Region: "+protocol.EncodeHeader("é")); p.status != 200 ||
		st.last("tools/call").header.Get("Mcp-Param-Region") != protocol.EncodeHeader("é") {
		t.Errorf("%d %s: %v", p.status, p.body, st.last("tools/call").header)
	}
	for _, headers := range [][]string{{"Mcp-Param-Region: us"}, {}, {"Mcp-Param-Region: eu", "Mcp-Param-Region: eu"},
		{"Mcp-Param-Region: =?base64?!?="}} {
		if p := call(`"eu"`, headers...); p.status != 400 || p.rpcError(t).Code != -32020 || strings.Contains(p.rpcError(t).Message, "eu") {
			t.Errorf("%v: %d %s", headers, p.status, p.body)
		}
	}
	if p := call(`null`, "Mcp-Param-Region: eu"); p.status != 400 {
		t.Errorf("a header without argument: %d", p.status)
	}
}

func TestModernClientThatDisconnectsCancels(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", ""), stdio(t, "one")}, gateway: shortHeartbeat})
	c := r.modern(`{}`)
	s := c.stream("1", "tools/call", `{"name":"two__hang"}`)
	hubtest.Eventually(t, "the modern server has the call", func() bool { return st.value(&st.hanging) == 1 })
	s.cancel()
	hubtest.Eventually(t, "its stream is closed", func() bool { return st.value(&st.hanging) == 0 })
	s = c.stream("1", "tools/call", `{"name":"one__hang","arguments":{"a":1}}`)
	hubtest.Eventually(t, "the legacy server has the call", func() bool { return c.state("one").Hanging == 1 })
	s.cancel()
	hubtest.Eventually(t, "the legacy server gets the cancellation", func() bool { return len(c.state("one").Cancelled) == 1 })
	r.conserved(2)
	// the subscription stream of the stub
	hubtest.Eventually(t, "nothing is in flight between hub and servers", func() bool {
		return r.metric("mcphub_requests_in_flight", "hop", "backend") == 1
	})
	if got := r.metric("mcphub_streams_active", "stream", "post_sse"); got != 0 {
		t.Errorf("%v streams are open", got)
	}
}

func TestPagesOfMergedListsHaveTheConfiguredSize(t *testing.T) {
	st := newStub(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), st.spec("two", "")}, gateway: func(c *Config) { c.PageSize = 4 }})
	old, c := r.connect(), r.modern(`{}`)
	want := strings.Count(childTools, `"inputSchema"`) + 3
	for era, list := range map[string]func(params string) reply{
		"legacy": func(params string) reply { return old.call("1", "tools/list", params) },
		"modern": func(params string) reply { return c.call("1", "tools/list", params) },
	} {
		n, params := 0, `{}`
		for {
			p := list(params)
			result := p.response(t).Result
			page := strings.Count(has(t, result, "tools"), `"inputSchema"`)
			cursor := has(t, result, "nextCursor")
			if page > 4 || page == 0 || (page < 4 && cursor != "") {
				t.Errorf("%s: a page of %d, cursor %s", era, page, cursor)
			}
			if era == "modern" && (has(t, result, "resultType") != `"complete"` || has(t, result, "ttlMs") != "0" ||
				has(t, result, "cacheScope") != `"private"`) {
				t.Errorf("a modern page is %s", result)
			}
			if era == "legacy" && (has(t, result, "ttlMs") != "" || has(t, result, "resultType") != "") {
				t.Errorf("a legacy page is %s", result)
			}
			if n += page; cursor == "" || n > want {
				break
			}
			params = `{"cursor":` + cursor + `}`
		}
		if n != want {
			t.Errorf("%s: %d tools, want %d", era, n, want)
		}
		for _, cursor := range []string{`"x"`, `""`, `7`, `"-1"`, `null`} {
			if p := list(`{"cursor":` + cursor + `}`); cursor != `""` && cursor != `null` && p.rpcError(t).Code != -32602 {
				t.Errorf("%s: the cursor %s: %s", era, cursor, p.body)
			}
		}
	}
}

func TestMergedListsMayBeCachedAsLongAsTheShortestOfThem(t *testing.T) {
	st, st2 := newStub(t), newStub(t)
	st2.setAnswer("tools/list", `"result":{"resultType":"complete","ttlMs":3000,"cacheScope":"public","tools":[]}`)
	st2.setAnswer("prompts/list", `"result":{"resultType":"complete","ttlMs":9000,"cacheScope":"private","prompts":[]}`)
	r := start(t, setup{specs: []upstream.Spec{st.spec("two", ""), st2.spec("three", "")}})
	c := r.modern(`{}`)
	for method, want := range map[string][2]string{"tools/list": {"3000", `"public"`}, "prompts/list": {"7000", `"private"`}} {
		result := c.call("1", method, `{}`).response(t).Result
		if has(t, result, "ttlMs") != want[0] || has(t, result, "cacheScope") != want[1] {
			t.Errorf("%s: %s", method, result)
		}
	}
}

// shortHeartbeat makes responses to open requests begin at once.
func shortHeartbeat(c *Config) { c.Heartbeat = 10e6 }

func TestModernRequestsBeyondTheLimitAreRefusedWithRetryAfter(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(c *Config) { c.MaxInFlight = 1; shortHeartbeat(c) }})
	c := r.modern(`{}`)
	var open []*reader
	for range modernShare - 1 { // one request is left for the state
		open = append(open, c.stream("1", "tools/call", `{"name":"one__hang"}`))
	}
	hubtest.Eventually(t, "the calls hang", func() bool { return c.state("one").Hanging == modernShare-1 })
	open = append(open, c.stream("1", "tools/call", `{"name":"one__hang"}`))
	p := c.tool(`"more"`, "one__echo", `{}`)
	if p.status != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" || string(p.response(t).ID) != `"more"` {
		t.Errorf("%d %s", p.status, p.body)
	}
	for _, s := range open {
		s.cancel()
	}
	r.conserved(modernShare)
}
