package gateway

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// A server may want to hear how the answer to its question comes along
// (specification 2025-11-25, basic/utilities/progress). It chooses a token for
// that, and other servers of the same client may choose the same one. The client
// gets one of the hub's instead: the id of the question.

// questionProgress is the way back of the progress of an answer.
type questionProgress struct {
	token  json.RawMessage // the server's
	report upstream.Reporter
}

// withToken gives a question that has its id, and a progress token, a token of
// the hub's. unexpect forgets it.
func (cs *clientSession) withToken(ctx context.Context, m jsonrpc.Message) jsonrpc.Message {
	report := upstream.ReporterOf(ctx)
	if report == nil || !bytes.Contains(m.Params, []byte(`"progressToken"`)) {
		return m
	}
	params, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil {
		return m
	}
	meta, err := jsonrpc.Fields(params[0], "progressToken")
	if err != nil || meta[0] == nil {
		return m
	}
	mapped, err := jsonrpc.Rewrite(params[0], jsonrpc.Edit{Name: "progressToken", Value: json.RawMessage(m.ID)})
	if err != nil {
		return m
	}
	if m.Params, err = jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta", Value: mapped}); err != nil {
		return m
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	put(&cs.progress, m.ID, questionProgress{meta[0], report})
	return m
}

// progressed passes the progress of an answer on to the server that waits for
// it. What is about no question under way is dropped.
func (cs *clientSession) progressed(ctx context.Context, m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "progressToken")
	var question questionProgress
	if err == nil && fields[0] != nil {
		cs.mu.Lock()
		question = cs.progress[jsonrpc.ID(fields[0])]
		cs.mu.Unlock()
	}
	if question.report == nil {
		cs.g.tel.dropped("unsupported")
		return
	}
	params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "progressToken", Value: question.token})
	if err == nil {
		err = question.report(ctx, params)
	}
	if err != nil {
		cs.g.log.DebugContext(ctx, "a notification of the client was not forwarded", "session", cs.id, "err", instrument.Redacted(err))
	}
}
