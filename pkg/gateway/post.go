package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

const (
	bodyTimeout = 30 * time.Second // for a client to send its request
)

// post takes one message of a client, or several.
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
		g.modern(w, r, m)
		return
	}
	if !g.checkHeaders(w, r, m) {
		return
	}
	if m.Kind() == jsonrpc.Request && m.Method == protocol.MethodInitialize {
		g.initialize(w, r, m)
		return
	}
	cs, lease, ok := g.enter(w, r, m)
	if !ok {
		return
	}
	if m.Kind() == jsonrpc.Request {
		g.request(w, r, cs, lease, m)
		return
	}
	defer lease.Release()
	if !g.take(r, cs, m) {
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "no question with this id waits for an answer"))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// take takes a message that wants no answer. It reports false for an answer to
// what was never asked.
func (g *Gateway) take(r *http.Request, cs *clientSession, m jsonrpc.Message) bool {
	if m.Kind() == jsonrpc.Response {
		if cs.answered(m) { // and counted by whoever asked
			return true
		}
		g.tel.unmatched()
		g.show(cs.ctx, instrument.In, m, instrument.About{Outcome: "unmatched"})
		return cs.hasAsked(m.ID) // too late is no mistake, specification 2025-11-25, basic/utilities/cancellation
	}
	ctx, op := g.tel.startServe(r, cs.id, cs.opened.ProtocolVersion, m)
	g.show(ctx, instrument.In, m, op.toAsk())
	cs.notified(ctx, m)
	op.end(ctx, jsonrpc.Message{}, nil)
	return true
}

// readBody reads the body, and answers the request itself where that fails.
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
	if err == nil { // otherwise net/http still reads on before it answers
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fail(http.StatusRequestEntityTooLarge, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the message is longer than %d bytes", tooLong.Limit))
	} else if err != nil {
		return fail(http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeParse, "the message could not be read"))
	}
	return body, true
}

// accepts reports whether the client takes the media type.
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

// checkHeaders refuses what two readers could understand differently: a header
// of MCP that occurs twice. And it refuses protocol versions that the hub does
// not speak; a client that names none is taken at its session's word.
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

// refuseModern refuses a GET or DELETE of a modern client: there is neither a
// session nor a stream of its own in that protocol.
func refuseModern(w http.ResponseWriter, r *http.Request) bool {
	version := r.Header.Get(protocol.HeaderProtocolVersion)
	if version < protocol.ModernVersion {
		return false
	}
	w.Header().Set("Allow", "POST")
	refuse(w, http.StatusMethodNotAllowed, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "protocol version %.32q has no %s", version, r.Method))
	return true
}

// sessionToken returns the session header, and refuses where there is none.
func (g *Gateway) sessionToken(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (string, bool) {
	token := r.Header.Get(protocol.HeaderSessionID)
	if token == "" {
		g.refuse(w, http.StatusBadRequest, m, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"the Mcp-Session-Id header is missing; send initialize first and repeat the id it returns"))
	}
	return token, token != ""
}

// acquire leases the session that the request belongs to, and answers the
// request itself where it cannot be had.
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

// enter is acquire with the live half of the session. The caller releases the
// lease.
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
	return live.(*clientSession), lease, true //nolint:forcetypeassert // Open makes no other
}

func (g *Gateway) principal(r *http.Request) string {
	if g.cfg.Principal == nil {
		return ""
	}
	return g.cfg.Principal(r)
}

// delete ends the client's session.
func (g *Gateway) delete(w http.ResponseWriter, r *http.Request) {
	if refuseModern(w, r) {
		return
	}
	if !g.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	lease, ok := g.acquire(w, r, jsonrpc.Message{})
	if !ok {
		return
	}
	id := lease.Session().ID
	lease.Release()
	ctx := g.tel.below(context.WithoutCancel(r.Context()), r)
	if _, err := g.cfg.Sessions.End(ctx, id, endedByClient); err != nil {
		g.refuseSession(w, jsonrpc.Message{}, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
