package upstream

import (
	"cmp"
	"context"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Passed is a message that went by between the hub and a peer.
type Passed struct {
	Server    string // "": the peer is a client
	Direction Direction
	Message   jsonrpc.Message // aliases what was read or is written, and must not be kept
	Asked     Asked
}

// Asked is what a message does not say itself: of a request, what it is about,
// and of a response, what it answers and how that went.
type Asked struct {
	Method  string
	Target  string    // the tool or prompt
	Since   time.Time // when the request went by; of responses
	Outcome string    // of a response, see Outcome
	Fault   Fault
}

// KindOf names what m is: request, response, notification or error.
func KindOf(m jsonrpc.Message) string { return kindOf(m).String() }

// Outcome is ErrorType with a word for success.
func Outcome(response jsonrpc.Message, err error) string {
	return cmp.Or(ErrorType(response, err), "ok")
}

// onlooker sees messages on behalf of whoever follows a session. The zero value
// sees nothing.
type onlooker struct {
	watched   func() bool
	onMessage func(ctx context.Context, p Passed)
}

func (o onlooker) isWatched() bool { return o.watched != nil && o.watched() }

// show shows a message of c that was counted. ctx belongs to what it is about.
func (c *Conn) show(ctx context.Context, d Direction, m jsonrpc.Message, a Asked) {
	if c.tel.isWatched() {
		c.tel.onMessage(ctx, Passed{Server: c.spec.Name, Direction: d, Message: m, Asked: a})
	}
}

// showAnswer is show for the response to a call.
func (c *Conn) showAnswer(ctx context.Context, req Request, sent time.Time, response jsonrpc.Message) {
	if c.tel.isWatched() {
		c.show(ctx, In, response, Asked{Method: req.Method, Target: req.Target, Since: sent,
			Outcome: Outcome(response, nil), Fault: FaultOf(response, nil)})
	}
}

// showReceived is show for what the server sent of its own accord.
func (c *Conn) showReceived(related *call, m jsonrpc.Message) {
	if c.tel.isWatched() {
		c.show(c.whose(related, m), In, m, Asked{})
	}
}

// whose returns the context of what m is about: a call, a question of the
// server, or nothing but the connection.
func (c *Conn) whose(related *call, m jsonrpc.Message) context.Context {
	var about context.Context
	switch m.Method {
	case "ping":
	case "notifications/progress":
		about = c.reportedOn(related, m)
	case "notifications/cancelled":
		if fields, err := jsonrpc.Fields(m.Params, "requestId"); err == nil {
			c.mu.Lock()
			if q := c.asked[jsonrpc.ID(fields[0])]; q != nil {
				about = q.of
			}
			c.mu.Unlock()
		}
	default:
		_, of := c.concerns(related, m.Method)
		about = of.ctx
	}
	if about == nil {
		return c.quit
	}
	return about
}

// reportedOn returns the context of the call whose progress m tells.
func (c *Conn) reportedOn(related *call, m jsonrpc.Message) context.Context {
	fields, err := jsonrpc.Fields(m.Params, "progressToken")
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.tokens[jsonrpc.ID(fields[0])] != nil {
		related = c.tokens[jsonrpc.ID(fields[0])]
	}
	if related == nil {
		return nil
	}
	return related.origin.ctx
}
