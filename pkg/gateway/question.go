package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// answerable says why a client with these capabilities must not be asked what a
// server wants to know, and returns nil if it may. Over a shared connection
// servers are told more than a single client can do.
func answerable(capabilities json.RawMessage, m jsonrpc.Message) error {
	needs, ok := questions[m.Method]
	if !ok {
		return nil
	}
	has, err := jsonrpc.Fields(capabilities, needs)
	if err != nil || has[0] == nil {
		return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the client does not support %s: it has not declared the capability %q",
			upstream.MethodLabel(m.Method), needs)
	}
	if m.Method != "elicitation/create" {
		return nil
	}
	mode, _ := jsonrpc.StringField(m.Params, "mode")
	byURL := upstream.Declares(has[0], "url")
	switch {
	case mode == "url" && !byURL:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client does not support elicitation by URL")
	case mode != "url" && byURL && !upstream.Declares(has[0], "form"): // with neither it means forms
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client does not support elicitation by forms")
	}
	return nil
}

// questions are the requests of servers that need a capability of the client.
var questions = map[string]string{
	"sampling/createMessage": "sampling",
	"elicitation/create":     "elicitation",
	"roots/list":             "roots",
}

// awaited is a question to the client that waits for the answer.
type awaited struct {
	reply  chan jsonrpc.Message
	method string
	since  time.Time
	ctx    context.Context //nolint:containedctx // of its span; nil: it has none
}

// expect makes an id for a question to the client and the channel that gets
// the answer; nil if too many wait for one. unexpect forgets it.
func (cs *clientSession) expect(method string) (jsonrpc.ID, chan jsonrpc.Message) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.asks) >= maxAsks {
		return "", nil
	}
	cs.asked++
	id := jsonrpc.ID(fmt.Sprintf(`"hub-%s-%d"`, cs.prefix, cs.asked))
	reply := make(chan jsonrpc.Message, 1)
	put(&cs.asks, id, awaited{reply: reply, method: method, since: time.Now()})
	return id, reply
}

func (cs *clientSession) unexpect(id jsonrpc.ID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.asks, id)
	delete(cs.progress, id)
}

// asking notes the context of a question, which has its span.
func (cs *clientSession) asking(ctx context.Context, id jsonrpc.ID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if asked, ok := cs.asks[id]; ok {
		asked.ctx = ctx
		cs.asks[id] = asked
	}
}

// answered hands the client's answer to whoever asked. It reports false for an
// answer to no question.
func (cs *clientSession) answered(m jsonrpc.Message) bool {
	cs.mu.Lock()
	asked, ok := cs.asks[m.ID]
	delete(cs.asks, m.ID) // the first answer counts
	cs.mu.Unlock()
	ctx := asked.ctx
	if ctx == nil {
		ctx = cs.ctx
	}
	cs.g.passed(ctx, upstream.In, m, upstream.Asked{Method: asked.method, Since: asked.since})
	if ok {
		asked.reply <- m // has room for it
	}
	return ok
}
