package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// askedBy begins a call during which the server asks, and returns its stream and
// the question.
func (c *peer) askedBy(server, method, params string) (*reader, jsonrpc.Message) {
	c.t.Helper()
	s := c.open(http.MethodPost, request(`"`+server+`"`, "tools/call", `{"name":"`+server+`__ask","arguments":{"method":"`+method+`","params":`+params+`}}`))
	m := s.message()
	if m.Method != method {
		c.t.Errorf("asked %s", m.Encode())
	}
	return s, m
}

// sharedAndOwn are a server that all clients share and one that each has alone.
func sharedAndOwn(t *testing.T) []upstream.Spec {
	own := stdio(t, "own")
	own.Isolation = upstream.PerSession
	return []upstream.Spec{stdio(t, "one"), own}
}

func TestQuestionsAndAnswersStayTheBytesThatTheyWere(t *testing.T) {
	r := start(t, setup{specs: sharedAndOwn(t), untraced: true})
	c := r.connect()
	for _, server := range []string{"one", "own"} {
		for _, x := range []struct{ method, question, answer string }{
			{"sampling/createMessage", `{"messages":[{"role":"user","content":[{"type":"tool_result","toolUseId":"t","content":[ ]}]}],"maxTokens":1e2,"includeContext":"thisServer",` +
				`"tools":[{"name":"w","inputSchema":{"type":"object","n":1.50}}],"toolChoice":{"mode":"required"},"x-unknown":{"a":[1.0]}, "_meta":{"z":0}}`,
				`{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"w","input":{"n":1.50}}],"model":"m","stopReason":"toolUse","x-unknown":[ 1e2 ]}`},
			{"elicitation/create", `{"mode":"form","message":"\u00e9","requestedSchema":{"type":"object","properties":{"n":{"type":"number","default":95.50},"b":{"type":"boolean","default":true},` +
				`"s":{"type":"string","default":"<John>"},"e":{"type":"array","items":{"anyOf":[{"const":"#F00","title":"Red"}]},"default":["#F00"]}}},"x":null}`,
				`{"action":"accept","content":{},"y":[ ]}`},
			{"elicitation/create", `{"message":"m","requestedSchema":{}}`, `{"action":"decline", "z":1.0}`},
		} {
			s, m := c.askedBy(server, x.method, x.question)
			if string(m.Params) != x.question {
				t.Errorf("%s: %s became\n%s", server, x.question, m.Params)
			}
			c.answers(m, `"result":`+x.answer)
			if m := s.message(); string(m.Result) != `{"content":[],"answer":`+x.answer+`}` {
				t.Errorf("%s: %s became\n%s", server, x.answer, m.Result)
			}
		}
	}
}

func TestAClientHearsThatAQuestionIsWithdrawnUnderItsOwnID(t *testing.T) {
	r := start(t, setup{specs: sharedAndOwn(t), untraced: true})
	c := r.connect()
	for _, server := range []string{"one", "own"} {
		s, m := c.askedBy(server, "sampling/createMessage", `{}`)
		c.tool(server+"__say", `{"method":"notifications/cancelled","params":{"requestId":"q1","reason":"enough"}}`)
		if got := s.message(); got.Method != "notifications/cancelled" || string(got.Params) != `{"requestId":`+string(m.ID)+`}` {
			t.Errorf("%s: heard %s, was asked as %s", server, got.Encode(), m.ID)
		}
		until(t, "nobody waits for the answer", func() bool { return c.asks() == 0 })
		if status := c.answers(m, `"result":{}`); status != http.StatusAccepted {
			t.Errorf("%s: a late answer: %d", server, status)
		}
		c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"` + server + `"}}`)
	}
}

func TestTheProgressOfAnAnswerReachesTheServerThatAsked(t *testing.T) {
	r := start(t, setup{specs: sharedAndOwn(t), untraced: true})
	ann, bob := r.connect(), r.connect()
	progress := func(c *peer, token string) {
		t.Helper()
		if p := c.post(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.50,"progressToken":` + token + `, "x":"` + c.id + `"}}`); p.status != http.StatusAccepted {
			t.Errorf("progress: %d %s", p.status, p.body)
		}
	}
	tokens, asked := map[string]bool{}, map[string]jsonrpc.Message{}
	streams := map[string]*reader{}
	for _, server := range []string{"one", "own"} { // both choose the same token
		streams[server], asked[server] = ann.askedBy(server, "sampling/createMessage", `{"n":1.50,"_meta":{"a":[ ],"progressToken":7},"progressToken":8}`)
		fields, _ := jsonrpc.Fields(asked[server].Params, "_meta")
		meta, _ := jsonrpc.Fields(fields[0], "progressToken")
		token := string(meta[0])
		if want := `{"n":1.50,"_meta":{"a":[ ],"progressToken":` + token + `},"progressToken":8}`; string(asked[server].Params) != want || token == "7" || tokens[token] {
			t.Errorf("%s asks %s", server, asked[server].Params)
		}
		tokens[token] = true
		progress(bob, token) // whose question it is not
		progress(ann, token)
	}
	progress(ann, "7")
	want := `{"progress":1.50,"progressToken":7, "x":"` + ann.id + `"}`
	for server, s := range streams {
		until(t, "the server hears of the progress", func() bool { return len(ann.state(server).Progress) > 0 })
		if got := ann.state(server).Progress; len(got) != 1 || !jsonEqual(string(got[0]), want) {
			t.Errorf("%s heard %s", server, got)
		}
		ann.answers(asked[server], `"result":{}`)
		s.message()
	}
	if n := len(bob.state("own").Progress); n != 0 {
		t.Errorf("the server of another client heard %d", n)
	}
	for token := range tokens {
		progress(ann, token) // too late
	}
	progress(ann, `{}`)
	until(t, "what is about no question is counted", func() bool { return r.dropped("unsupported") == 2+1+2+1 })
	for _, server := range []string{"one", "own"} {
		if n := len(ann.state(server).Progress); n != 1 {
			t.Errorf("%s heard %d", server, n)
		}
	}
	requests := &ann.live().requests
	requests.mu.Lock()
	defer requests.mu.Unlock()
	if len(requests.progress) != 0 {
		t.Errorf("%d tokens are kept", len(requests.progress))
	}
}

// jsonEqual compares what went through the child's record, which compacts.
func jsonEqual(a, b string) bool { return a == strings.ReplaceAll(b, ", ", ",") }

func TestAClientIsAskedOnlyInTheWayThatItKnows(t *testing.T) {
	for _, x := range []struct{ capabilities, params, refusal string }{
		{`{"elicitation":{}}`, `{}`, ""},
		{`{"elicitation":{}}`, `{"mode":"form"}`, ""},
		{`{"elicitation":{"form":{},"url":{}}}`, `{"mode":"form"}`, ""},
		{`{"elicitation":{"url":{}}}`, `{"mode":"url"}`, ""},
		{`{"elicitation":{"url":{}}}`, `{}`, "by form"},
		{`{"elicitation":{"form":{}}}`, `{"mode":"url"}`, "by URL"},
		{`{"sampling":{}}`, `{}`, "has not declared"},
	} {
		err := checkSupported([]byte(x.capabilities), jsonMessage("elicitation/create", x.params))
		if (err == nil) != (x.refusal == "") || (err != nil && !strings.Contains(err.Error(), x.refusal)) {
			t.Errorf("%s asked %s: %v", x.capabilities, x.params, err)
		}
	}
}
