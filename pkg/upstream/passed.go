package upstream

import (
	"context"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// show shows a message of c that was counted. ctx belongs to what it is about.
func (c *Conn) show(ctx context.Context, d instrument.Direction, m jsonrpc.Message, a instrument.About) {
	if c.tel.Enabled() {
		c.tel.Pass(ctx, instrument.MessageEvent{Server: c.spec.Name, Direction: d, Message: m, About: a})
	}
}

// showAnswer is show for the response to a call.
func (c *Conn) showAnswer(ctx context.Context, req Request, sent time.Time, response jsonrpc.Message) {
	if c.tel.Enabled() {
		c.show(ctx, instrument.In, response, instrument.About{Method: req.Method, Target: req.Target, Since: sent,
			Outcome: Outcome(response, nil), Fault: FaultOf(response, nil)})
	}
}

// showReceived is show for what the server sent of its own accord.
func (c *Conn) showReceived(related *call, m jsonrpc.Message) {
	if c.tel.Enabled() {
		c.show(c.whose(related, m), instrument.In, m, instrument.About{})
	}
}

// whose returns the context of what m is about: a call, a question of the
// server, or nothing but the connection.
func (c *Conn) whose(related *call, m jsonrpc.Message) context.Context {
	var about context.Context
	switch m.Method {
	case protocol.MethodPing:
	case protocol.MethodProgress:
		about = c.reportedOn(related, m)
	case protocol.MethodCancelled:
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
