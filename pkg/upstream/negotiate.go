package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// negotiation is what a new connection has to agree on with the server.
type negotiation struct {
	era      protocol.Era  // AnyEra: the server is asked
	legacy   bool          // if the server is asked and speaks both eras: it is spoken to in the legacy one
	identity Identity      // of the client, or of the hub
	known    *Initialized  // what a modern server answered before: it is not asked again
	resume   ServerSession // of a legacy server, to continue
}

// negotiate agrees with the server on a protocol version, and sets the dialect of the connection.
func (c *Conn) negotiate(ctx context.Context, n negotiation) error {
	switch {
	case n.era == protocol.Modern && n.known != nil:
		c.setModern(newModernDialect(c, n.identity), *n.known)
		return nil
	case n.resume.SessionID != "" && c.spec.kind().HasSessions() && protocol.IsLegacyVersion(n.resume.ProtocolVersion):
		c.pending.skipIDs(time.Now()) // the server has seen those of an earlier process
		c.init.ProtocolVersion = n.resume.ProtocolVersion
		c.setVersion(n.resume.ProtocolVersion)
		return nil
	case n.era == protocol.Legacy:
		return c.initialize(ctx, n.identity)
	}
	modern := newModernDialect(c, n.identity)
	wait := min(c.spec.probeTimeout(), c.spec.connectTimeout()/2)
	if n.era == protocol.Modern && c.spec.kind().IsProcess() {
		wait = maxStartLimit // there is nothing else to try, and it may still be starting
	}
	known, refusal, err := c.discover(ctx, modern, wait)
	switch {
	case err != nil:
		return err
	case known != nil && n.legacy && known.dual:
		return c.preferLegacy(ctx, n.identity, modern, *known, wait)
	case known != nil:
		c.setModern(modern, *known)
		return nil
	case n.era == protocol.Modern:
		return serverError(c.spec.Name, fmt.Errorf("does not speak protocol version %s, which is what era: modern asks for: %w",
			protocol.ModernVersion, refusal))
	}
	err = c.initialize(ctx, n.identity)
	if _, refused := errors.AsType[*jsonrpc.Error](err); refused && transport.IsTimeout(refusal) {
		// It was still starting when it was asked, and is not any more.
		if known, _, _ := c.discover(ctx, modern, wait); known != nil {
			if n.legacy && known.dual {
				return fmt.Errorf("%w: %w", errKeepsEra, err)
			}
			c.setModern(modern, *known)
			return nil
		}
	}
	if c.spec.kind().IsProcess() && ctx.Err() == nil && (errors.Is(err, ErrLost) || errors.Is(err, ErrDown)) {
		err = fmt.Errorf("%w: %w", errProbed, err) // some servers answer server/discover and then exit
	}
	return err
}

// preferLegacy initializes a connection to a server of both eras, which clients of both eras will share. If the server
// refuses, or keeps no session that its requests could belong to, the modern era is the better choice. A process may
// keep to the era of the first message, so that only a new one can tell.
func (c *Conn) preferLegacy(ctx context.Context, identity Identity, modern *modernDialect, known Initialized,
	wait time.Duration) error {
	initCtx, cancel := context.WithTimeoutCause(ctx, wait, ErrTimeout) // it is awake: it has just answered
	defer cancel()
	err := c.initialize(initCtx, identity)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && c.spec.kind().IsProcess():
		return fmt.Errorf("%w: %w", errKeepsEra, err)
	case errors.Is(err, ErrDown), err != nil && c.transport.SessionID() != "":
		return err
	case err != nil, c.spec.kind().HasSessions() && c.transport.SessionID() == "":
		c.setModern(modern, known)
	}
	return nil
}

// setModern makes c a connection to a modern server.
func (c *Conn) setModern(d *modernDialect, known Initialized) {
	c.init = known
	c.setDialect(d)
	c.setVersion(known.ProtocolVersion)
}

// initialize does the handshake of the legacy era, see specification 2025-11-25, basic/lifecycle.
func (c *Conn) initialize(ctx context.Context, identity Identity) error {
	params, err := json.Marshal(struct {
		ProtocolVersion string          `json:"protocolVersion"`
		Capabilities    json.RawMessage `json:"capabilities"`
		ClientInfo      json.RawMessage `json:"clientInfo"`
	}{protocol.LatestLegacyVersion, identity.Capabilities, identity.ClientInfo})
	if err != nil {
		return err
	}
	response, err := c.Call(ctx, Request{Method: protocol.MethodInitialize, Params: params})
	if err != nil {
		return err
	}
	if response.Error != nil {
		return serverError(c.spec.Name, fmt.Errorf("refused initialize: %w", c.spec.refusal(response.Error)))
	}
	if err := json.Unmarshal(response.Result, &c.init); err != nil || c.init.ProtocolVersion == "" {
		return serverError(c.spec.Name, fmt.Errorf("%w: its answer to initialize has no protocol version", transport.ErrProtocol))
	}
	if !protocol.IsLegacyVersion(c.init.ProtocolVersion) {
		return serverError(c.spec.Name, fmt.Errorf("speaks protocol version %.20q, which the hub does not", c.init.ProtocolVersion))
	}
	c.setVersion(c.init.ProtocolVersion)
	return c.notify(ctx, protocol.MethodInitialized, nil)
}

// discover sends server/discover. For a modern server it returns the answer. For a legacy server it returns, as
// refusal, why the server is taken for one: every other answer means that, specification 2026-07-28, basic/versioning,
// backward compatibility.
func (c *Conn) discover(ctx context.Context, d *modernDialect, wait time.Duration) (known *Initialized, refusal, err error) {
	for range 2 { // a server may demand the version that it named
		response, err := c.probe(ctx, d, wait)
		switch {
		case ctx.Err() != nil || errors.Is(err, ErrDown):
			return nil, nil, err
		case errors.Is(err, ErrLost) && c.spec.kind().IsProcess():
			return nil, nil, fmt.Errorf("%w: %w", errProbed, err)
		case err != nil:
			return nil, err, nil
		}
		if response.Error == nil {
			if known := parseDiscovery(response.Result); known != nil {
				return known, nil, nil
			}
			return nil, errors.New("it names other versions"), nil
		}
		refusal := c.spec.refusal(response.Error)
		switch e := jsonrpc.ParseError(response.Error); e.Code {
		case protocol.CodeUnsupportedVersion:
			if !offersModern(e.Data) {
				return nil, refusal, nil
			}
		case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability: // it is modern, but nothing is known of it
			return nil, nil, serverError(c.spec.Name, fmt.Errorf("refused %s: %w", protocol.MethodServerDiscover, refusal))
		default:
			return nil, refusal, nil
		}
	}
	return nil, nil, serverError(c.spec.Name,
		fmt.Errorf("%w: it refuses the protocol version %s that it says it speaks", transport.ErrProtocol, protocol.ModernVersion))
}

// probing is the modern dialect on a connection whose era is not known yet: a legacy server may not know
// server/discover, and so must not get a cancellation of it.
type probing struct{ *modernDialect }

func (probing) canCancel(string) bool { return false }

func (c *Conn) probe(ctx context.Context, d *modernDialect, wait time.Duration) (jsonrpc.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, ErrTimeout)
	defer cancel()
	return c.roundTrip(ctx, probing{d}, Request{Method: protocol.MethodServerDiscover, addMeta: true})
}
