package gateway

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// refuse answers with an HTTP error status and the JSON-RPC error e.
func refuse(w http.ResponseWriter, status int, id jsonrpc.ID, e *jsonrpc.Error) {
	body := jsonrpc.NewError(id, e).Encode()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be
}

// refuse refuses a message that got no further, and counts it. What is refused
// before a message was read is the zero Message, and not counted.
func (g *Gateway) refuse(w http.ResponseWriter, status int, m jsonrpc.Message, e *jsonrpc.Error) {
	switch {
	case m.Method == "" && m.ID != "":
		g.tel.unmatched()
	case m.Method != "" && m.ID != "":
		g.tel.refused(m, jsonrpc.NewError(m.ID, e))
	case m.Method != "":
		g.tel.messages.Add(instrument.In, m)
	}
	refuse(w, status, m.ID, e)
}

// refuseSession refuses a message whose session could not be had.
func (g *Gateway) refuseSession(w http.ResponseWriter, m jsonrpc.Message, err error) {
	status, e := sessionRefusal(w.Header(), err)
	g.refuse(w, status, m, e)
}

// sessionRefusal is how a request is answered whose session could not be had.
func sessionRefusal(h http.Header, err error) (status int, e *jsonrpc.Error) {
	if errors.Is(err, session.ErrNotFound) {
		return http.StatusNotFound, jsonrpc.Errorf(protocol.CodeSessionNotFound,
			"session not found: send initialize without Mcp-Session-Id to start a new one")
	}
	if limit, ok := errors.AsType[*session.LimitError](err); ok {
		h.Set("Retry-After", "30")
		return http.StatusServiceUnavailable, jsonrpc.Errorf(jsonrpc.CodeInternal, "%v; try again later", limit)
	}
	h.Set("Retry-After", "1")
	return http.StatusServiceUnavailable, jsonrpc.Errorf(jsonrpc.CodeInternal, "the session store is not available; try again")
}
