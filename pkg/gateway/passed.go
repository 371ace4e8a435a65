package gateway

import (
	"context"
	"encoding/json"
	"strconv"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// said counts a notification that goes to a client, and shows it to whoever
// follows the session of ctx. Questions are counted by whoever asks.
func (g *Gateway) said(ctx context.Context, m jsonrpc.Message) {
	if m.Kind() == jsonrpc.Notification {
		g.tel.messages.Add(instrument.Out, m)
		g.show(ctx, instrument.Out, m, instrument.About{})
	}
}

// responded counts the response to a request of a client, and shows it.
func (g *Gateway) responded(ctx context.Context, op *operation, response jsonrpc.Message) {
	op.flight.Answer(response)
	g.show(ctx, instrument.Out, response, op.asked())
}

// show shows a message between client and hub that was counted, or is not to be.
func (g *Gateway) show(ctx context.Context, d instrument.Direction, m jsonrpc.Message, a instrument.About) {
	if g.cfg.Sessions.Tailed() {
		g.Passed(ctx, instrument.MessageEvent{Direction: d, Message: m, About: a})
	}
}

// heard shows what a connection that all share brought for the session of ctx,
// though it belongs to no call of it.
func (g *Gateway) heard(ctx context.Context, server string, m jsonrpc.Message) {
	if g.cfg.Sessions.Tailed() {
		g.Passed(ctx, instrument.MessageEvent{Server: server, Direction: instrument.In, Message: m})
	}
}

// Passed shows a message to whoever follows the session of ctx. It is meant for
// upstream.Config.OnMessage, too. It does not block, and keeps nothing of p.
func (g *Gateway) Passed(ctx context.Context, p instrument.MessageEvent) {
	id := session.IDFrom(ctx)
	if id == "" {
		return
	}
	m := p.Message
	told := session.Message{
		SessionID: id, Hop: "downstream", Server: p.Server, Direction: "in", Kind: instrument.KindOf(m),
		Method: p.About.Method, Target: p.About.Target, ID: json.RawMessage(m.ID),
		Size: len(m.Params) + len(m.Result) + len(m.Error), Outcome: p.About.Outcome, Fault: string(p.About.Fault),
	}
	if p.Server != "" {
		told.Hop = "backend"
	}
	if p.Direction == instrument.Out {
		told.Direction = "out"
	}
	if m.Method != "" {
		told.Method = m.Method
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		told.TraceID = span.TraceID().String()
	}
	g.judge(&told, m, p.About)
	body := m.Params
	switch {
	case m.Error != nil:
		body = m.Error
	case m.Result != nil:
		body = m.Result
	}
	g.cfg.Sessions.Passed(told, body)
}

// judge says how what m ends has gone, and how long it took.
func (g *Gateway) judge(told *session.Message, m jsonrpc.Message, a instrument.About) {
	switch {
	case m.Method == protocol.MethodCancelled:
		told.Outcome = "cancelled"
		if fields, err := jsonrpc.Fields(m.Params, "requestId"); err == nil {
			told.ID = fields[0]
		}
	case m.Error != nil:
		if _, err := strconv.Atoi(told.Outcome); err == nil || told.Outcome == "" { // it may have been translated since
			told.Outcome = strconv.Itoa(jsonrpc.ParseError(m.Error).Code)
		}
	case m.Kind() == jsonrpc.Response && told.Outcome == "":
		told.Outcome = "ok"
	}
	if !a.Since.IsZero() {
		told.Took(a.Since)
	}
}

// asked is what a message about the operation does not say itself.
func (o *operation) asked() instrument.About {
	return instrument.About{Method: o.name, Target: o.target, Since: o.start, Outcome: o.outcome, Fault: o.fault}
}

// toAsk is what is known of a request of a client before it is answered.
func (o *operation) toAsk() instrument.About { return instrument.About{Target: o.target} }
