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

// refuse answers a request with an HTTP error status and the JSON-RPC error e.
func refuse(w http.ResponseWriter, status int, id jsonrpc.ID, e *jsonrpc.Error) {
	body := jsonrpc.NewError(id, e).Encode()
	w.Header().Set("Content-Type", protocol.TypeJSON)
	w.Header().Set("Cache-Control", "no-store") // a GET may be refused now and not later
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and declared as JSON
}

// refuse rejects the message m and counts it. The zero Message means that no message was read; it is not counted.
func (c *core) refuse(w http.ResponseWriter, status int, m jsonrpc.Message, e *jsonrpc.Error) {
	switch {
	case m.Method == "" && m.ID != "":
		c.tel.CountUnmatched()
	case m.Method != "" && m.ID != "":
		c.tel.CountRefused(m, jsonrpc.NewError(m.ID, e))
	case m.Method != "":
		c.tel.Messages.Add(instrument.In, m)
	}
	refuse(w, status, m.ID, e)
}

// refuseSession rejects a message whose session is not available.
func (c *core) refuseSession(w http.ResponseWriter, m jsonrpc.Message, err error) {
	status, e := sessionRefusal(w.Header(), err)
	c.refuse(w, status, m, e)
}

// sessionRefusal returns the answer to a request whose session is not available because of err.
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

// refuseModern rejects a GET or DELETE of a modern client, whose protocol has neither. It reports whether it did.
func refuseModern(w http.ResponseWriter, r *http.Request) bool {
	version := r.Header.Get(protocol.HeaderProtocolVersion)
	if version < protocol.ModernVersion {
		return false
	}
	w.Header().Set("Allow", "POST")
	refuse(w, http.StatusMethodNotAllowed, "",
		jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "protocol version %.32q has no %s", version, r.Method))
	return true
}
