package gateway

import (
	"encoding/json"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// element is one message of a batch, or the reason why it is refused.
type element struct {
	jsonrpc.Message
	refusal *jsonrpc.Error
}

// batch handles several messages in one POST, specification 2025-03-26, basic, batching.
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
	out := cs.streamLog().NewPost(answers, requests...)
	cs.startBatch(r, lease, elements, out)
	if answers == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	g.sender.Respond(w, r, out, true)
}

// parseElements parses the messages of a batch. It refuses what is not a message, initialize, and requests with the
// same id, because their answers could not be told apart.
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

// expected returns the ids of the requests of a batch, and the number of its answers: one for each
// request, and one for each element that is not a message.
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
