package gateway

import (
	"context"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Forward implements routing.Caller.
func (c *multiRoundCall) Forward(ctx context.Context, server *upstream.Server, req upstream.Request) (jsonrpc.Message, error) {
	if server == nil {
		return jsonrpc.Message{}, errUnconfigured()
	}
	b, err := c.bridges.enter(server, c.client)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	defer b.leave()
	c.bridge.Store(b)
	c.askHeld(&b.unasked)
	if err := b.raiseLevel(ctx, server, c.client.logLevel); err != nil {
		c.log.DebugContext(ctx, "a server was not told the log level", "upstream", server.Name(), "err", instrument.Redacted(err))
	}
	if !server.Modern() && asksForTask(req) { // the member has no meaning in the protocol of the client
		if req, err = withoutTask(req); err != nil {
			return jsonrpc.Message{}, err
		}
	}
	req.Modern, req.Header, req.Sink, req.Spent, req.Memory = true, c.client.headers, c, &c.spent, &c.held
	return b.link.Call(ctx, req)
}

// askHeld asks the client for what waits for a call, before this one is sent to the server. The client is asked once,
// because all that waits asks for the same. If the call ends meanwhile, the requests wait for the next.
func (c *multiRoundCall) askHeld(held *heldRequests) {
	if !allowsInput(c.message.Method) {
		return
	}
	m, ok := held.first()
	if !ok {
		return
	}
	result, err := c.askNow(c.ctx, m)
	if err == nil || !c.isOver() {
		held.deliver(heldAnswer{result, err})
	}
}
