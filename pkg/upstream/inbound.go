package upstream

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// inbound takes what arrives outside of the response to a call: requests, notifications and, on transports with one stream
// for everything, responses. It routes them. It is the transport.Handler of a Conn.
type inbound struct{ conn *Conn }

// unreadableMethod is the method of a request that cannot be read, in spans and metrics.
const unreadableMethod = "unreadable"

// Receive implements transport.Handler.
func (in inbound) Receive(id jsonrpc.ID, m jsonrpc.Message) {
	c, related := in.conn, in.conn.pending.get(id)
	if m.Kind() == jsonrpc.Request {
		r := c.requests.add(m)
		in.messageEvent(related, m)
		in.request(related, r)
		return
	}
	c.tel.messages.Add(instrument.In, m)
	in.messageEvent(related, m)
	start := time.Now()
	in.notification(related, m)
	c.tel.observeReceived(context.Background(), m.Method, "", time.Since(start))
}

// Deliver implements transport.Handler.
func (in inbound) Deliver(m jsonrpc.Message) {
	delivered, otherType := in.conn.pending.deliver(m)
	if !delivered {
		in.conn.tel.unmatched("response") // to a cancelled call, to none, or a second one
		if !hasID(m) {
			in.conn.tel.log.WarnContext(in.conn.background.ctx, "the server sent a response without the id of a request",
				"is_error", m.Error != nil, "bytes", len(m.Result)+len(m.Error))
		}
	}
	if otherType {
		in.conn.tel.repaired(jsonrpc.RepairedID)
	}
}

// Fail implements transport.Handler.
func (in inbound) Fail(u *jsonrpc.Unreadable) bool {
	c := in.conn
	switch {
	case !u.IsMethod:
		return c.pending.fail(u.IDs, transport.UnreadableError(u))
	case len(u.IDs) == 1 && c.dialect().era() == protocol.Legacy:
		c.requests.answer(c.requests.add(jsonrpc.Message{ID: u.IDs[0], Method: unreadableMethod}), nil, u.Reason)
		return true
	}
	return false
}

// Lost implements transport.Handler.
func (in inbound) Lost(reason error) {
	in.conn.onLost()
	in.conn.tel.lost(reason)
}

// request answers a request of the server, or forwards it to the sink that it belongs to.
func (in inbound) request(related *call, r *serverRequest) {
	c := in.conn
	switch {
	case r.Method == protocol.MethodPing:
		c.requests.answer(r, json.RawMessage(`{}`), nil)
	case c.dialect().era() == protocol.Modern: // must send none, specification 2026-07-28, basic/utilities/mrtr
		c.tel.unmatched("question")
		c.requests.answer(r, nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"in protocol version %s a server sends no requests; it asks for input in the result of a request", protocol.ModernVersion))
	default:
		sink, of := in.route(related, r.Method)
		c.requests.forward(r, sink, of, related == nil && !c.shared)
	}
}

// notification handles a notification of the server, or forwards it to the sink that it belongs to.
func (in inbound) notification(related *call, m jsonrpc.Message) {
	c := in.conn
	m, forClients := c.dialect().receive(related, m)
	if !forClients {
		return
	}
	m.Params = instrument.CheckedContext(m.Params, c.tel.baggage)
	switch m.Method {
	case protocol.MethodProgress:
		in.progress(related, m)
	case protocol.MethodCancelled:
		if id, ok := idField(m, "requestId"); ok {
			c.requests.cancelled(id)
		}
	default:
		sink, _ := in.route(related, m.Method)
		sink.Notify(m)
	}
}

// progress forwards notifications/progress with the caller's token. Progress of a call that has ended and did not
// become a task, or that asked for none, is dropped.
func (in inbound) progress(related *call, m jsonrpc.Message) {
	c := in.conn
	progressToken, ok := idField(m, "progressToken")
	if !ok {
		c.tel.unmatched("progress")
		return
	}
	cl, token := c.pending.withToken(progressToken, related)
	if token == nil {
		c.tel.unmatched("progress")
		return
	}
	params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "progressToken", Value: token})
	if err != nil {
		c.tel.unmatched("progress")
		return
	}
	m.Params = params
	c.sinkOf(cl).Notify(m)
}

// idField returns a member of the params of m as an id. It reports false if there is none.
func idField(m jsonrpc.Message, name string) (jsonrpc.ID, bool) {
	fields, err := jsonrpc.Fields(m.Params, name)
	if err != nil || fields[0] == nil {
		return "", false
	}
	return jsonrpc.ID(fields[0]), true
}

// route returns the sink for an unsolicited message of the server, and for whom the message is: the sink of the call on
// whose stream it arrived, else that of the only call under way, else that of the connection. Changes of a shared
// server are for all clients, and so is the end of an elicitation, which does not say whose it is.
func (in inbound) route(related *call, method string) (Sink, origin) {
	c := in.conn
	forAll := (isChange(method) && (related == nil || c.shared)) || (method == protocol.MethodElicitationComplete && c.shared)
	if !forAll && related == nil {
		related = c.pending.only(c.shared)
	}
	if forAll || related == nil {
		return c.sink, origin{session: c.tel.session}
	}
	return c.sinkOf(related), c.pending.originOf(related)
}

// isChange reports whether method is a notification of a change of the server, which is sent without a call.
func isChange(method string) bool {
	switch method {
	case protocol.MethodToolsListChanged, protocol.MethodPromptsListChanged, protocol.MethodResourcesListChanged,
		protocol.MethodResourcesUpdated:
		return true
	}
	return false
}

// messageEvent passes a message of the server to the followers of the session that it is about.
func (in inbound) messageEvent(related *call, m jsonrpc.Message) {
	if in.conn.tel.Enabled() {
		in.conn.tel.messageEvent(in.contextOf(related, m), instrument.In, m, instrument.About{})
	}
}

// contextOf returns the context of what m is about: a call, a server request, or just the connection.
func (in inbound) contextOf(related *call, m jsonrpc.Message) context.Context {
	c := in.conn
	var about context.Context
	switch m.Method {
	case protocol.MethodPing:
	case protocol.MethodProgress:
		if progressToken, ok := idField(m, "progressToken"); ok {
			related, _ = c.pending.withToken(progressToken, related)
		}
		about = c.pending.originOf(related).ctx
	case protocol.MethodCancelled:
		if id, ok := idField(m, "requestId"); ok {
			if r := c.requests.get(id); r != nil {
				about = r.about
			}
		}
	default:
		_, of := in.route(related, m.Method)
		about = of.ctx
	}
	if about == nil {
		return c.background.ctx
	}
	return about
}
