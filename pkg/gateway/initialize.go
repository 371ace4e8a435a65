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
	"strconv"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// settleTimeout is how long a client that comes while servers are being
// started waits to see what they offer.
const settleTimeout = 5 * time.Second

// What a client says is kept in its session's record, which stores bound.
const (
	maxField         = 256      // bytes of each text that it says about itself
	maxPath          = 4 << 10  // bytes of its working directory
	maxCapabilities  = 32 << 10 // bytes
	maxSubscriptions = 64 << 10 // bytes of all URIs together
)

// initialize opens a session. It is the only thing that does.
func (g *Gateway) initialize(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	s, e := g.newSession(r, m)
	if e != nil {
		g.refuse(w, http.StatusBadRequest, m, e)
		return
	}
	ctx, op := g.tel.startServe(r, "", s.ProtocolVersion, m)
	g.settled(ctx)
	s, token, err := g.create(ctx, r, s)
	if err != nil {
		if ctx.Err() != nil { // there is nobody to have one
			err = fmt.Errorf("%w: %w", upstream.ErrCancelled, err)
		}
		status, e := sessionRefusal(w.Header(), err)
		op.end(ctx, jsonrpc.Message{}, fmt.Errorf("%w: %w", e, err))
		op.flight.Answer(jsonrpc.NewError(m.ID, e))
		refuse(w, status, m.ID, e)
		return
	}
	op.session(s.ID)
	response := jsonrpc.NewResult(m.ID, g.initializeResult(s.ProtocolVersion))
	op.end(ctx, response, nil)
	g.endPrevious(ctx, r)
	w.Header().Set(protocol.HeaderSessionID, token)
	op.flight.Answer(response)
	stream.WriteJSON(w, http.StatusOK, response.Encode())
}

// newSession reads what the client says of itself. Names are compared exactly,
// as everywhere in the hub; a client that says nothing of itself is let in.
func (g *Gateway) newSession(r *http.Request, m jsonrpc.Message) (session.Session, *jsonrpc.Error) {
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
		Capabilities:    bytes.Clone(capabilities), UserAgent: clip(r.UserAgent()), IP: ip, Principal: g.principal(r),
		Cwd: clipPath(header(r, "X-Mcp-Cwd", "X-Cwd")), Project: clip(header(r, "X-Mcp-Project", "X-Project")),
	}, nil
}

// header returns the first of the named headers that the request has.
func header(r *http.Request, names ...string) string {
	for _, name := range names {
		if v := r.Header.Get(name); v != "" {
			return v
		}
	}
	return ""
}

func clip(s string) string { return clipTo(s, maxField) }

func clipPath(s string) string { return clipTo(s, maxPath) }

func clipTo(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// create makes a session. Where a limit forbids it, the session that the client
// goes on from makes room.
func (g *Gateway) create(ctx context.Context, r *http.Request, s session.Session) (session.Session, string, error) {
	created, token, err := g.cfg.Sessions.Create(ctx, s)
	if _, full := errors.AsType[*session.LimitError](err); full && g.endPrevious(ctx, r) {
		return g.cfg.Sessions.Create(ctx, s)
	}
	return created, token, err
}

// endPrevious ends the session that the client had, if it sent its token along
// with initialize: it goes on with the new one. It reports whether there was one.
func (g *Gateway) endPrevious(ctx context.Context, r *http.Request) bool {
	token := r.Header.Get(protocol.HeaderSessionID)
	if token == "" {
		return false
	}
	lease, err := g.cfg.Sessions.Acquire(ctx, token, g.principal(r))
	if err != nil {
		return false
	}
	id := lease.Session().ID
	lease.Release()
	if _, err := g.cfg.Sessions.End(ctx, id, session.Disconnect); err != nil {
		g.log.WarnContext(ctx, "the client's previous session is not removed from the store yet", "session", id, "err", instrument.Redacted(err))
	}
	return true
}

// settled gives servers that are being started a moment to say what they have.
func (g *Gateway) settled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	g.cfg.Pool.Settled(ctx)
}

func (g *Gateway) initializeResult(version string) json.RawMessage {
	result := struct {
		ProtocolVersion string          `json:"protocolVersion"`
		Capabilities    json.RawMessage `json:"capabilities"`
		ServerInfo      json.RawMessage `json:"serverInfo"`
		Instructions    string          `json:"instructions,omitempty"`
	}{version, g.capabilities(), g.serverInfo(), g.instructions()}
	b, err := json.Marshal(result)
	if err != nil { // a server's capabilities that are no JSON do not get this far
		panic(err)
	}
	return b
}

// capabilities are what the servers can do, as far as the hub passes it on.
func (g *Gateway) capabilities() json.RawMessage {
	if g.only != nil {
		if init, ok := g.only.Initialized(); ok {
			return g.transparentCapabilities(init)
		}
	}
	// Tools, prompts and resources are always offered: a server that is down
	// now may bring some later.
	caps := map[string]json.RawMessage{
		"tools":   json.RawMessage(`{"listChanged":true}`),
		"prompts": json.RawMessage(`{"listChanged":true}`),
	}
	subscribe := false
	for _, s := range g.cfg.Pool.Servers() {
		init, _ := s.Initialized()
		fields, err := jsonrpc.Fields(init.Capabilities, "logging", "completions", "resources")
		if err != nil {
			continue
		}
		for i, name := range []string{"logging", "completions"} {
			if fields[i] != nil {
				caps[name] = json.RawMessage(`{}`)
			}
		}
		if sub, err := jsonrpc.Fields(fields[2], "subscribe"); err == nil && string(sub[0]) == "true" {
			subscribe = true
		}
	}
	if tasks := g.taskCapability(); tasks != nil {
		caps["tasks"] = tasks
	}
	caps["resources"] = json.RawMessage(`{"subscribe":` + strconv.FormatBool(subscribe) + `,"listChanged":true}`)
	b, _ := json.Marshal(caps)
	return b
}

// transparentCapabilities passes on what the only server said. Tasks are left
// out where all clients share a connection: the server could not tell theirs apart.
func (g *Gateway) transparentCapabilities(init upstream.Initialized) json.RawMessage {
	if !keepsTasks(g.only) {
		if caps, err := jsonrpc.Rewrite(init.Capabilities, jsonrpc.Edit{Name: "tasks"}); err == nil {
			return caps
		}
	}
	if len(init.Capabilities) == 0 {
		return json.RawMessage(`{}`)
	}
	return init.Capabilities
}

// instructions joins what the servers tell a model about themselves.
func (g *Gateway) instructions() string {
	var parts []string
	for _, s := range g.cfg.Pool.Servers() {
		init, _ := s.Initialized()
		switch {
		case init.Instructions == "":
		case g.only != nil:
			return init.Instructions
		default:
			parts = append(parts, "# "+s.Name()+"\n\n"+init.Instructions)
		}
	}
	return strings.Join(parts, "\n\n")
}
