package instrument

import (
	"context"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// MessageEvent is one message that the hub has sent to a peer or received from it.
type MessageEvent struct {
	Server    string // name of the server; empty if the peer is a client
	Direction Direction
	Message   jsonrpc.Message // aliases a buffer of the hub; do not retain it
	About     About
}

// About describes a message by facts that the message itself does not contain.
type About struct {
	Method  string    // of a response: the method of its request
	Target  string    // the tool or prompt
	Since   time.Time // of a response: when its request was sent or received
	Outcome string    // of a response: its error type, or "ok"
	Fault   Fault     // of a response: who caused its error
}

// Tap passes message events to the observers of sessions. The zero Tap passes none.
type Tap struct {
	enabled   func() bool
	onMessage func(ctx context.Context, e MessageEvent)
}

// NewTap makes a Tap that calls onMessage while enabled reports true. Neither may block. Without onMessage the Tap is
// the zero Tap.
func NewTap(enabled func() bool, onMessage func(ctx context.Context, e MessageEvent)) Tap {
	if onMessage == nil {
		return Tap{}
	}
	return Tap{enabled, onMessage}
}

// Enabled reports whether a session is observed. It is cheap, and callers call it before they make a MessageEvent.
func (t Tap) Enabled() bool { return t.enabled != nil && t.enabled() }

// Pass passes e to the observers. The values of ctx identify the session that e belongs to. It must not be called on
// a Tap that has no onMessage, whose Enabled always reports false.
func (t Tap) Pass(ctx context.Context, e MessageEvent) { t.onMessage(ctx, e) }
