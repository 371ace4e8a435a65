package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// initialize answers initialize: it creates a session. No other request creates one.
func (l *legacySessions) initialize(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	s, e := l.newSession(r, m)
	if e != nil {
		l.refuse(w, http.StatusBadRequest, m, e)
		return
	}
	ctx, op := l.tel.StartOperation(r, "", s.ProtocolVersion, m)
	l.router.AwaitServers(ctx)
	s, token, err := l.create(ctx, r, s)
	if err != nil {
		if ctx.Err() != nil { // the client has gone
			err = fmt.Errorf("%w: %w", upstream.ErrCancelled, err)
		}
		status, e := sessionRefusal(w.Header(), err)
		op.End(ctx, jsonrpc.Message{}, fmt.Errorf("%w: %w", e, err))
		op.InFlight.Answer(jsonrpc.NewError(m.ID, e))
		refuse(w, status, m.ID, e)
		return
	}
	op.SetSession(s.ID)
	response := jsonrpc.NewResult(m.ID, l.router.InitializeResult(s.ProtocolVersion))
	op.End(ctx, response, nil)
	l.endPrevious(ctx, r)
	w.Header().Set(protocol.HeaderSessionID, token)
	op.InFlight.Answer(response)
	stream.WriteJSON(w, http.StatusOK, response.Encode())
}

// newSession reads the params of initialize. Names are compared exactly, as everywhere in the hub.
// clientInfo may be missing.
func (l *legacySessions) newSession(r *http.Request, m jsonrpc.Message) (session.Session, *jsonrpc.Error) {
	refusal := jsonrpc.Errorf(jsonrpc.CodeInvalidParams,
		"initialize needs the params protocolVersion, capabilities and clientInfo; capabilities take up to %d bytes", maxCapabilities)
	p, err := jsonrpc.Fields(m.Params, "protocolVersion", "capabilities", "clientInfo")
	if err != nil {
		return session.Session{}, refusal
	}
	version, _ := jsonrpc.StringField(m.Params, "protocolVersion")
	capabilities := p[1]
	if capabilities == nil {
		capabilities = json.RawMessage(`{}`)
	}
	info, err := jsonrpc.Fields(p[2], "name", "version")
	if version == "" || capabilities[0] != '{' || len(capabilities) > maxCapabilities || err != nil {
		return session.Session{}, refusal
	}
	var about [2]string
	for i, raw := range info {
		if raw != nil && (raw[0] != '"' || json.Unmarshal(raw, &about[i]) != nil) {
			return session.Session{}, refusal
		}
	}
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	return session.Session{
		ClientName: clip(cmp.Or(about[0], header(r, "X-Mcp-Client-Id", "X-Client-Id"))), ClientVersion: clip(about[1]),
		ProtocolVersion: protocol.NegotiateLegacyVersion(version),
		Capabilities:    bytes.Clone(capabilities), UserAgent: clip(r.UserAgent()), IP: ip, Principal: l.principal(r),
		Cwd: clipPath(header(r, "X-Mcp-Cwd", "X-Cwd")), Project: clip(header(r, "X-Mcp-Project", "X-Project")),
	}, nil
}

// create creates a session. If a limit forbids that, create ends the previous session of the client first.
func (l *legacySessions) create(ctx context.Context, r *http.Request, s session.Session) (session.Session, string, error) {
	created, token, err := l.cfg.Sessions.Create(ctx, s)
	if _, full := errors.AsType[*session.LimitError](err); full && l.endPrevious(ctx, r) {
		return l.cfg.Sessions.Create(ctx, s)
	}
	return created, token, err
}

// endPrevious ends the previous session of the client, if the client sent its token along with
// initialize. It reports whether there was one.
func (l *legacySessions) endPrevious(ctx context.Context, r *http.Request) bool {
	token := r.Header.Get(protocol.HeaderSessionID)
	if token == "" {
		return false
	}
	lease, err := l.cfg.Sessions.Acquire(ctx, token, l.principal(r))
	if err != nil {
		return false
	}
	id := lease.Session().ID
	lease.Release()
	if _, err := l.cfg.Sessions.End(ctx, id, session.Disconnect); err != nil {
		l.log.WarnContext(ctx, "the client's previous session is not removed from the store yet", "session", id,
			"err", instrument.Redacted(err))
	}
	return true
}
