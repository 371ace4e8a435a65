package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// plan is how a connection is to be made.
type plan struct {
	sink    Sink     // takes what belongs to no call
	many    bool     // it will serve several clients
	who     Identity // on whose behalf
	resume  Bound    // a legacy session to go on with
	era     protocol.Era
	session string       // public id of the client's; empty: none, or several
	known   *Initialized // what a modern server said before; it need not be asked again

	owner context.Context //nolint:containedctx // see LinkConfig.Owner
}

// life is what the context of the connection comes from.
func (p plan) life() context.Context {
	if p.owner == nil {
		return context.Background()
	}
	return context.WithoutCancel(p.owner)
}

// errProbed is why a connection cannot go on: the server ended when, or soon
// after, it was asked for its era.
var errProbed = errors.New("ended when it was asked which protocol versions it speaks")

// errEra is why a connection is of no use any more: the server answers as one
// of the other era does. Maybe it is another program by now.
var errEra = errors.New("does not speak the protocol version any more that it spoke before")

// negotiate agrees with the server on a protocol version.
func (c *Conn) negotiate(ctx context.Context, p plan) error {
	c.who = p.who
	switch {
	case p.era == protocol.Modern && p.known != nil:
		c.become(*p.known)
		return nil
	case p.resume.SessionID != "" && c.spec.URL != "" && !c.spec.SSE && protocol.IsLegacyVersion(p.resume.ProtocolVersion):
		// The server has seen the ids of an earlier process; they must not come again.
		c.last = time.Now().UnixMilli() << 10
		c.init.ProtocolVersion = p.resume.ProtocolVersion
		c.settle(p.resume.ProtocolVersion)
		return nil
	case p.era != protocol.Legacy:
		known, why, err := c.discover(ctx)
		if err != nil {
			return err
		}
		if known != nil {
			c.become(*known)
			return nil
		}
		if p.era == protocol.Modern {
			return serverError(c.spec.Name, fmt.Errorf("does not speak protocol version %s, which is what era: modern asks for: %w", protocol.ModernVersion, why))
		}
		err = c.initialize(ctx, p.who)
		if c.spec.URL == "" && ctx.Err() == nil && (errors.Is(err, ErrLost) || errors.Is(err, ErrDown)) {
			err = fmt.Errorf("%w: %w", errProbed, err) // some answer first and end then
		}
		return err
	}
	return c.initialize(ctx, p.who)
}

// become makes c a connection to a modern server.
func (c *Conn) become(known Initialized) {
	c.init = known
	c.isModern.Store(true)
	c.settle(known.ProtocolVersion)
}

// modern reports whether the server is spoken to in a modern version.
func (c *Conn) modern() bool { return c.isModern.Load() }

// discover asks the server which versions it speaks. If it is to be spoken to
// as a legacy server, it returns no result but why: whatever is no sign of a
// modern one means that, specification 2026-07-28, basic/versioning, backward
// compatibility.
func (c *Conn) discover(ctx context.Context) (known *Initialized, why, err error) {
	for range 2 { // a server may want the version that it named
		response, err := c.probe(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, ErrDown):
			return nil, nil, err
		case errors.Is(err, ErrLost) && c.spec.URL == "":
			return nil, nil, fmt.Errorf("%w: %w", errProbed, err)
		case err != nil:
			return nil, err, nil
		}
		if response.Error == nil {
			if known := readDiscovery(response.Result); known != nil {
				return known, nil, nil
			}
			return nil, errors.New("it names other versions"), nil
		}
		switch e := jsonrpc.ParseError(response.Error); e.Code {
		case protocol.CodeUnsupportedVersion:
			if !offersModern(e.Data) {
				return nil, c.spec.refusal(response.Error), nil
			}
		case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability: // it is modern, and nothing is known of it
			return nil, nil, serverError(c.spec.Name, fmt.Errorf("refused %s: %w", protocol.MethodServerDiscover, c.spec.refusal(response.Error)))
		default:
			return nil, c.spec.refusal(response.Error), nil
		}
	}
	return nil, nil, serverError(c.spec.Name, fmt.Errorf("%w: it refuses the protocol version %s that it says it speaks", ErrProtocol, protocol.ModernVersion))
}

func (c *Conn) probe(ctx context.Context) (jsonrpc.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, min(c.spec.probeTimeout(), c.spec.connectTimeout()/2), ErrTimeout)
	defer cancel()
	return c.call(ctx, Request{Method: protocol.MethodServerDiscover, stamped: true})
}

func offersModern(data json.RawMessage) bool {
	var d struct {
		Supported []string `json:"supported"`
	}
	return json.Unmarshal(data, &d) == nil && slices.Contains(d.Supported, protocol.ModernVersion)
}

// readDiscovery reads the result of server/discover, which may also come from
// a server that speaks legacy versions only: then it returns nil.
func readDiscovery(result json.RawMessage) *Initialized {
	var d struct {
		SupportedVersions []string        `json:"supportedVersions"`
		Capabilities      json.RawMessage `json:"capabilities"`
		Instructions      string          `json:"instructions"`
		Meta              struct {
			ServerInfo json.RawMessage `json:"io.modelcontextprotocol/serverInfo"`
		} `json:"_meta"`
	}
	if json.Unmarshal(result, &d) != nil || !slices.Contains(d.SupportedVersions, protocol.ModernVersion) {
		return nil
	}
	if len(d.Capabilities) == 0 || d.Capabilities[0] != '{' {
		d.Capabilities = json.RawMessage(`{}`)
	}
	return &Initialized{ProtocolVersion: protocol.ModernVersion, Capabilities: d.Capabilities, ServerInfo: d.Meta.ServerInfo,
		Instructions: d.Instructions, dual: slices.ContainsFunc(d.SupportedVersions, protocol.IsLegacyVersion)}
}

// fitsModern reports whether a modern server may refuse server/discover with
// this error: it must know the method, but something in it may have failed.
func fitsModern(response jsonrpc.Message) bool {
	switch jsonrpc.ParseError(response.Error).Code {
	case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion, jsonrpc.CodeInternal:
		return true
	}
	return false
}

// otherEra reports whether response is how a server of the other era answers a
// request of c: by an error that only modern servers have, or one to no request
// at all, as legacy servers answer what belongs to no session.
func (c *Conn) otherEra(response jsonrpc.Message, err error) bool {
	if c.spec.URL == "" {
		return false // a process stays what it is
	}
	if refused, ok := errors.AsType[statusError](err); ok && c.modern() {
		return refused.code == http.StatusBadRequest || refused.code == http.StatusNotFound || refused.code == http.StatusMethodNotAllowed
	}
	if err != nil || response.Error == nil {
		return errors.Is(err, errEra)
	}
	switch code := jsonrpc.ParseError(response.Error).Code; {
	case code == protocol.CodeUnsupportedVersion:
		return true
	case c.modern():
		return response.ID == jsonrpc.Null
	default:
		return code == protocol.CodeHeaderMismatch
	}
}
