package gateway

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// element is one message of a batch, or why it is refused.
type element struct {
	jsonrpc.Message
	refusal *jsonrpc.Error
}

// batch takes several messages at once, specification 2025-03-26, basic, batching.
func (g *Gateway) batch(w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Header.Get(protocol.HeaderProtocolVersion) >= protocol.ModernVersion {
		refuse(w, http.StatusBadRequest, "", jsonrpc.ErrBatch)
		return
	}
	if !g.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	cs, lease, ok := g.enter(w, r, jsonrpc.Message{})
	if !ok {
		return
	}
	all, err := jsonrpc.ParseBatch(body)
	if cs.opened.ProtocolVersion != protocol.BatchVersion {
		_, err = jsonrpc.Parse(body)
	}
	if err != nil {
		lease.Release()
		refuse(w, http.StatusBadRequest, "", jsonrpc.AsError(err))
		return
	}
	elements := parseElements(all)
	requests, answers := expected(elements)
	out := cs.log().NewPost(answers, requests...)
	g.startAll(r, cs, lease, elements, out)
	if answers == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	g.sender.Respond(w, r, out, true)
}

// parseElements parses the messages of a batch. Refused are those that are
// none, initialize, and requests with the same id: whose answer is whose could
// not be told.
func parseElements(all []json.RawMessage) []element {
	elements := make([]element, len(all))
	count := map[jsonrpc.ID]int{}
	for i, raw := range all {
		m, err := jsonrpc.Parse(raw)
		if err != nil {
			elements[i].refusal = jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", jsonrpc.AsError(err).Message)
			continue
		}
		elements[i].Message = m
		if m.Kind() == jsonrpc.Request {
			count[m.ID]++
		}
	}
	for i := range elements {
		switch e := &elements[i]; {
		case e.refusal != nil || e.Kind() != jsonrpc.Request:
		case e.Method == protocol.MethodInitialize:
			e.refusal = jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "initialize cannot be part of a batch; send it alone")
		case count[e.ID] > 1:
			e.refusal = jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the batch has more than one request with this id")
		}
	}
	return elements
}

// expected returns the ids of the requests of a batch, and how many answers it
// gets: one for each request, and one for each message that is none.
func expected(elements []element) (requests []jsonrpc.ID, answers int) {
	for _, e := range elements {
		if e.ID != "" && e.Kind() == jsonrpc.Request {
			requests = append(requests, e.ID)
		}
		if e.refusal != nil || e.Kind() == jsonrpc.Request {
			answers++
		}
	}
	return requests, answers
}

// startAll takes the messages of a batch in their order. It releases the lease
// when the last call has ended.
func (g *Gateway) startAll(r *http.Request, cs *clientSession, lease *session.Lease, elements []element, out *stream.Stream) {
	var under atomic.Int64 // calls under way, and this
	release := func() {
		if under.Add(-1) == 0 {
			lease.Release()
		}
	}
	under.Add(1)
	defer release()
	for _, e := range elements {
		request := e.Kind() == jsonrpc.Request
		switch {
		case e.refusal != nil && request:
			m := jsonrpc.NewError(e.ID, e.refusal)
			g.tel.refused(e.Message, m)
			g.show(cs.ctx, instrument.In, e.Message, instrument.About{})
			g.show(cs.ctx, instrument.Out, m, instrument.About{Method: e.Method})
			out.Answer(m.Encode())
		case e.refusal != nil:
			out.Answer(jsonrpc.NewError("", e.refusal).Encode())
		case !request:
			g.take(r, cs, e.Message)
		default:
			under.Add(1)
			if refusal := g.start(r, cs, e.Message, out, release); refusal != nil {
				release()
				out.Answer(jsonrpc.NewError(e.ID, refusal).Encode())
			}
		}
	}
}
