package instrument

import (
	"context"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// MessageEvent is one message that the hub has sent to a peer or received from it.
type MessageEvent struct {
	Server    string // empty: the peer is a client
	Direction Direction
	Message   jsonrpc.Message // aliases a buffer of the hub: do not keep it
	About     About
}

// About is the context of a message that the message itself does not contain.
type About struct {
	Method  string    // of the request that a response answers
	Target  string    // the tool or prompt
	Since   time.Time // of a response: when its request was sent or received
	Outcome string    // of a response: its error type, or "ok"
	Fault   Fault     // of a response
}

// Tap passes message events to whoever follows a session. The zero Tap passes none.
type Tap struct {
	enabled   func() bool
	onMessage func(ctx context.Context, e MessageEvent)
}

// NewTap makes a Tap that calls onMessage while enabled reports true. Neither may block. Both
// may be nil: then the Tap passes nothing.
func NewTap(enabled func() bool, onMessage func(ctx context.Context, e MessageEvent)) Tap {
	if onMessage == nil {
		return Tap{}
	}
	return Tap{enabled, onMessage}
}

// Enabled reports whether anybody follows a session. It is cheap, and callers ask it before they
// make a MessageEvent.
func (t Tap) Enabled() bool { return t.enabled != nil && t.enabled() }

// Pass passes e. The values of ctx say which session it belongs to.
func (t Tap) Pass(ctx context.Context, e MessageEvent) { t.onMessage(ctx, e) }
