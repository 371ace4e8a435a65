package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

const (
	bodyTimeout = 30 * time.Second // for a client to send its request
)

// post handles a POST: one message of a client, or a batch.
func (g *Gateway) post(w http.ResponseWriter, r *http.Request) {
	body, ok := g.readBody(w, r)
	if !ok {
		return
	}
	if jsonrpc.IsBatch(body) {
		g.batch(w, r, body)
		return
	}
	m, err := jsonrpc.Parse(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, m.ID, jsonrpc.AsError(err))
		return
	}
	if isModern(r, m) {
		g.modern.serve(w, r, m)
		return
	}
	if !g.checkHeaders(w, r, m) {
		return
	}
	if m.Kind() == jsonrpc.Request && m.Method == protocol.MethodInitialize {
		g.legacy.initialize(w, r, m)
		return
	}
	cs, lease, ok := g.enter(w, r, m)
	if !ok {
		return
	}
	if m.Kind() == jsonrpc.Request {
		cs.serve(w, r, lease, m)
		return
	}
	defer lease.Release()
	if !cs.accept(r, m) {
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "no request with this id waits for a response"))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// readBody returns the body of a POST. If it is not acceptable readBody answers the request and returns
// false.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	fail := func(status int, e *jsonrpc.Error) ([]byte, bool) {
		refuse(w, status, "", e)
		return nil, false
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != protocol.TypeJSON {
		return fail(http.StatusUnsupportedMediaType, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "Content-Type must be application/json"))
	}
	if !accepts(r, protocol.TypeJSON) || !accepts(r, protocol.TypeEventStream) {
		return fail(http.StatusNotAcceptable, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"Accept must list both application/json and text/event-stream"))
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.cfg.maxRequestBytes()))
	if err == nil { // otherwise net/http reads on before it answers
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fail(http.StatusRequestEntityTooLarge, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the message is longer than %d bytes", tooLong.Limit))
	} else if err != nil {
		return fail(http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeParse, "the message could not be read"))
	}
	return body, true
}

// accepts reports whether the Accept header of r includes a media type.
func accepts(r *http.Request, want string) bool {
	group, _, _ := strings.Cut(want, "/")
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err == nil && params["q"] != "0" && (kind == want || kind == "*/*" || kind == group+"/*") {
				return true
			}
		}
	}
	return false
}

// checkHeaders rejects duplicate MCP headers and unsupported protocol versions. A client without a version header
// uses the version of its session.
func (g *Gateway) checkHeaders(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
	for _, name := range []string{protocol.HeaderSessionID, protocol.HeaderProtocolVersion} {
		if len(r.Header.Values(name)) > 1 {
			g.refuse(w, http.StatusBadRequest, m, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "there is more than one %s header", name))
			return false
		}
	}
	version := r.Header.Get(protocol.HeaderProtocolVersion)
	legacy := protocol.LegacyVersions()
	if version == "" || slices.Contains(legacy, version) {
		return true
	}
	g.refuse(w, http.StatusBadRequest, m, unsupportedVersion(version))
	return false
}

// sessionToken returns the session header, or rejects a request without one.
func (g *Gateway) sessionToken(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (string, bool) {
	token := r.Header.Get(protocol.HeaderSessionID)
	if token == "" {
		g.refuse(w, http.StatusBadRequest, m, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"the Mcp-Session-Id header is missing; send initialize first and repeat the id it returns"))
	}
	return token, token != ""
}

// acquire leases the session of a request. If that fails it answers the request.
func (g *Gateway) acquire(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (*session.Lease, bool) {
	token, ok := g.sessionToken(w, r, m)
	if !ok {
		return nil, false
	}
	lease, err := g.cfg.Sessions.Acquire(r.Context(), token, g.principal(r))
	if err != nil {
		g.refuseSession(w, m, err)
		return nil, false
	}
	return lease, true
}

// enter returns the live half of the session of a request. The caller releases the lease. If that fails
// enter answers the request.
func (g *Gateway) enter(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (*clientSession, *session.Lease, bool) {
	lease, ok := g.acquire(w, r, m)
	if !ok {
		return nil, nil, false
	}
	live, err := lease.Live(r.Context())
	if err != nil {
		lease.Release()
		g.refuseSession(w, m, err)
		return nil, nil, false
	}
	return live.(*clientSession), lease, true //nolint:forcetypeassert // Open returns no other type
}
