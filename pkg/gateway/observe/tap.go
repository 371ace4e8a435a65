package observe

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

// Tap passes messages to the followers of their session. The context of a message has the session.
type Tap struct{ sessions *session.Manager }

// enabled reports whether any session is followed.
func (t Tap) enabled() bool { return t.sessions.HasTails() }

// Message passes a message between client and hub.
func (t Tap) Message(ctx context.Context, d instrument.Direction, m jsonrpc.Message, about instrument.About) {
	if t.enabled() {
		t.Pass(ctx, instrument.MessageEvent{Direction: d, Message: m, About: about})
	}
}

// FromServer passes a message that a shared connection has brought for the session of ctx, though it
// belongs to none of its calls.
func (t Tap) FromServer(ctx context.Context, server string, m jsonrpc.Message) {
	if t.enabled() {
		t.Pass(ctx, instrument.MessageEvent{Server: server, Direction: instrument.In, Message: m})
	}
}

// Pass passes a message of either hop.
func (t Tap) Pass(ctx context.Context, e instrument.MessageEvent) {
	id := session.IDFrom(ctx)
	if id == "" {
		return
	}
	m := e.Message
	out := session.Message{
		SessionID: id, Hop: instrument.HopDownstream, Server: e.Server, Direction: "in", Kind: instrument.KindOf(m),
		Method: e.About.Method, Target: e.About.Target, ID: json.RawMessage(m.ID),
		Size: len(m.Params) + len(m.Result) + len(m.Error), Outcome: e.About.Outcome, Fault: string(e.About.Fault),
	}
	if e.Server != "" {
		out.Hop = instrument.HopBackend
	}
	if e.Direction == instrument.Out {
		out.Direction = "out"
	}
	if m.Method != "" {
		out.Method = m.Method
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		out.TraceID = span.TraceID().String()
	}
	setOutcome(&out, m, e.About)
	t.sessions.PublishMessage(out, body(m))
}

// setOutcome sets the outcome and duration of the request that m ends.
func setOutcome(out *session.Message, m jsonrpc.Message, about instrument.About) {
	switch {
	case m.Method == protocol.MethodCancelled:
		out.Outcome = "cancelled"
		if fields, err := jsonrpc.Fields(m.Params, "requestId"); err == nil {
			out.ID = fields[0]
		}
	case m.Error != nil:
		if _, err := strconv.Atoi(out.Outcome); err == nil || out.Outcome == "" { // the code may have been translated since
			out.Outcome = strconv.Itoa(jsonrpc.ParseError(m.Error).Code)
		}
	case m.Kind() == jsonrpc.Response && out.Outcome == "":
		out.Outcome = "ok"
	}
	if !about.Since.IsZero() {
		out.SetDuration(about.Since)
	}
}

// body returns the params, result or error of m.
func body(m jsonrpc.Message) json.RawMessage {
	switch {
	case m.Error != nil:
		return m.Error
	case m.Result != nil:
		return m.Result
	}
	return m.Params
}
