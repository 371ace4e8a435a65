package gateway

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// codeSessionNotFound is what the SDKs answer for an unknown session, next to
// the status 404 that makes a client initialize again.
const codeSessionNotFound = -32001

// refuse answers with an HTTP error status and the JSON-RPC error e, and
// returns the message it wrote.
func refuse(w http.ResponseWriter, status int, id jsonrpc.ID, e *jsonrpc.Error) jsonrpc.Message {
	m := jsonrpc.NewError(id, e)
	body := m.Encode()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be
	return m
}

// refuseSession answers a request whose session could not be had.
func refuseSession(w http.ResponseWriter, id jsonrpc.ID, err error) jsonrpc.Message {
	if errors.Is(err, session.ErrNotFound) {
		return refuse(w, http.StatusNotFound, id, jsonrpc.Errorf(codeSessionNotFound,
			"session not found: send initialize without Mcp-Session-Id to start a new one"))
	}
	if limit, ok := errors.AsType[*session.LimitError](err); ok {
		w.Header().Set("Retry-After", "30")
		return refuse(w, http.StatusServiceUnavailable, id, jsonrpc.Errorf(jsonrpc.CodeInternal, "%v; try again later", limit))
	}
	w.Header().Set("Retry-After", "1")
	return refuse(w, http.StatusServiceUnavailable, id, jsonrpc.Errorf(jsonrpc.CodeInternal, "the session store is not available; try again"))
}
