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

// startBatch handles the messages of a batch in their order. It releases the lease when the last call
// has ended.
func (cs *clientSession) startBatch(r *http.Request, lease *session.Lease, elements []element, out *stream.Stream) {
	var running atomic.Int64 // calls, and this function
	release := func() {
		if running.Add(-1) == 0 {
			lease.Release()
		}
	}
	running.Add(1)
	defer release()
	for _, e := range elements {
		request := e.Kind() == jsonrpc.Request
		switch {
		case e.refusal != nil && request:
			m := jsonrpc.NewError(e.ID, e.refusal)
			cs.tel.CountRefused(e.Message, m)
			cs.tel.Tap.Message(cs.ctx, instrument.In, e.Message, instrument.About{})
			cs.tel.Tap.Message(cs.ctx, instrument.Out, m, instrument.About{Method: e.Method})
			out.Answer(m.Encode())
		case e.refusal != nil:
			out.Answer(jsonrpc.NewError("", e.refusal).Encode())
		case !request:
			cs.accept(r, e.Message)
		default:
			running.Add(1)
			if refusal := cs.startCall(r, e.Message, out, release); refusal != nil {
				release()
				out.Answer(jsonrpc.NewError(e.ID, refusal).Encode())
			}
		}
	}
}

// element is one message of a batch, or the reason why it is refused.
type element struct {
	jsonrpc.Message
	refusal *jsonrpc.Error
}

// parseElements parses the messages of a batch. It refuses elements that are not messages, initialize, and requests
// with the same id, because their responses could not be matched.
func (c *core) parseElements(all []json.RawMessage) []element {
	elements := make([]element, len(all))
	count := map[jsonrpc.ID]int{}
	for i, raw := range all {
		m, err := c.parse(raw)
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

// expected returns the ids of the requests of a batch, and the number of its answers: one for each request, and one for
// each element that is not a message.
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
