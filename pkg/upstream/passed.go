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
func KindOf(m jsonrpc.Message) string {
	switch {
	case m.Error != nil:
		return "error"
	case m.Kind() == jsonrpc.Notification:
		return "notification"
	case m.Kind() == jsonrpc.Response:
		return "response"
	}
	return "request"
}

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

// passed counts a message of c, and shows it. ctx belongs to what it is about.
func (t *telemetry) passed(ctx context.Context, c *Conn, d Direction, m jsonrpc.Message, a Asked) {
	t.messages.Add(d, m)
	if t.isWatched() {
		t.onMessage(ctx, Passed{Server: c.spec.Name, Direction: d, Message: m, Asked: a})
	}
}

func (o onlooker) isWatched() bool { return o.watched != nil && o.watched() }

// answered is passed for the response to a call.
func (t *telemetry) answered(ctx context.Context, c *Conn, req Request, sent time.Time, response jsonrpc.Message) {
	if !t.isWatched() {
		t.messages.Add(In, response)
		return
	}
	t.passed(ctx, c, In, response, Asked{Method: req.Method, Target: req.Target, Since: sent,
		Outcome: Outcome(response, nil), Fault: FaultOf(response, nil)})
}

// responded is passed for the response to a request of the server.
func (t *telemetry) responded(c *Conn, d demand, m jsonrpc.Message) {
	if !t.isWatched() {
		t.messages.Add(Out, m)
		return
	}
	t.passed(d.of, c, Out, m, Asked{Method: d.method, Since: d.since, Outcome: Outcome(m, nil)})
}

// received counts what the server sent of its own accord, and shows it.
func (c *Conn) received(related *call, m jsonrpc.Message) {
	if !c.tel.isWatched() {
		c.tel.messages.Add(In, m)
		return
	}
	c.tel.passed(c.whose(related, m), c, In, m, Asked{})
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
			about = c.asked[jsonrpc.ID(fields[0])].of
			c.mu.Unlock()
		}
	default:
		_, about = c.concerns(related, m.Method)
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
	return related.ctx
}

// demand is a request of the server that waits for an answer.
type demand struct {
	id       jsonrpc.ID
	method   string
	since    time.Time
	of       context.Context         //nolint:containedctx // of the call that it belongs to, for who follows it
	withdraw context.CancelCauseFunc // nil: the hub answers at once
}

// newDemand is the request m, which belongs to of; nil: to no call.
func (c *Conn) newDemand(of context.Context, m jsonrpc.Message) demand {
	if of == nil {
		of = c.quit
	}
	return demand{id: m.ID, method: m.Method, since: time.Now(), of: of}
}
