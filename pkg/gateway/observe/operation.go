package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// outcomeCancelled is the outcome of a request that its client has cancelled.
const outcomeCancelled = "cancelled"

// Operation is the SERVER span and the measurement of one inbound message. AddNotification may be called concurrently, also
// with the other methods; those are called by one goroutine at a time.
type Operation struct {
	Span     trace.Span
	InFlight instrument.InFlight // of a request; Respond, Answer or Cancel ends it
	Spent    atomic.Int64        // ns for which the request waited for others than the hub

	tel       *Telemetry
	start     time.Time
	method    string          // label of the method
	tool      string          // name in tools/call; empty for other methods
	version   string          // of the protocol
	sessionID string          // public id; empty: none
	name      string          // the method as the client wrote it
	target    string          // the tool or prompt; Other: one that is not offered
	params    json.RawMessage // of a request
	request   bool            // otherwise it is a notification

	outcome string // error type, or "ok"; set by End
	fault   instrument.Fault
}

// StartOperation begins the SERVER span of a message and counts the message. The parent of the span is the context
// in params._meta if there is one (SEP-414), else that of the HTTP headers.
func (t *Telemetry) StartOperation(r *http.Request, sessionID, version string, m jsonrpc.Message) (context.Context, *Operation) {
	ctx := r.Context()
	op := &Operation{tel: t, start: time.Now(), method: instrument.MethodLabel(m.Method), version: version,
		request: m.Kind() == jsonrpc.Request, name: m.Method, params: m.Params}
	var name, target string
	if m.Method == protocol.MethodToolsCall || m.Method == protocol.MethodPromptsGet {
		name, _ = jsonrpc.StringField(m.Params, "name")
		if target = instrument.Other; t.serverOf(m.Method, name) != "" {
			target = name
		}
	}
	if m.Method == protocol.MethodToolsCall {
		op.tool = name
	}
	op.target = target
	if op.request {
		op.InFlight = t.Messages.Begin(instrument.In, m)
	} else {
		t.Messages.Add(instrument.In, m)
	}
	if sessionID != "" {
		ctx = session.WithID(ctx, sessionID) // for the log
	}
	var links []trace.SpanStartOption
	if t.propagator != nil {
		ctx, links = t.extract(ctx, r, m)
	}
	ctx, op.Span = t.spans.Server(ctx, op.method, target, links...)
	if op.Span.IsRecording() {
		attrs := serveAttributes(r, version, target, m)
		if sessionID != "" {
			attrs = append(attrs, semconv.McpSessionID(sessionID))
		}
		op.Span.SetAttributes(attrs...)
	}
	op.sessionID = sessionID
	return ctx, op
}

// serveAttributes returns the attributes of the SERVER span of m.
func serveAttributes(r *http.Request, version, target string, m jsonrpc.Message) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 16)
	attrs = append(attrs, semconv.McpMethodNameKey.String(instrument.MethodLabel(m.Method)), semconv.NetworkTransportTCP,
		semconv.NetworkProtocolName("http"), semconv.NetworkProtocolVersion(strings.TrimPrefix(r.Proto, "HTTP/")),
		semconv.McpProtocolVersion(version), instrument.FaultAttribute(instrument.FaultNone))
	if m.ID != "" {
		attrs = append(attrs, semconv.JSONRPCRequestID(instrument.AttributeText(string(m.ID))))
	}
	switch m.Method {
	case protocol.MethodToolsCall:
		attrs = append(attrs, semconv.GenAIToolName(target), semconv.GenAIOperationNameExecuteTool)
	case protocol.MethodPromptsGet:
		attrs = append(attrs, semconv.GenAIPromptName(target))
	case protocol.MethodResourcesRead, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		if uri, ok := jsonrpc.StringField(m.Params, "uri"); ok {
			attrs = append(attrs, semconv.McpResourceURI(instrument.AttributeText(instrument.RedactedURI(uri))))
		}
	}
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		n, _ := strconv.Atoi(port)
		attrs = append(attrs, semconv.ClientAddress(host), semconv.ClientPort(n))
	}
	return attrs
}

// log writes a record at TRACE at the end of the operation.
func (o *Operation) log(ctx context.Context, kind string, fault instrument.Fault, took time.Duration) {
	if !o.tel.log.Enabled(ctx, instrument.LevelTrace) {
		return
	}
	o.tel.log.Log(o.withSession(ctx), instrument.LevelTrace, "message of the client", "method", o.method,
		"target", o.target, "request", o.request, "fault", string(fault), "error_type", kind, "took", took.String())
}

// logFailure writes one record at INFO for a request that failed, whoever is at fault. It has no text of client or server.
func (o *Operation) logFailure(ctx context.Context, fault instrument.Fault, took time.Duration) {
	if !o.request || fault == instrument.FaultNone || o.outcome == outcomeCancelled || !o.tel.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{slog.String("method", o.method)}
	if server := o.server(); server != "" {
		attrs = append(attrs, slog.String("upstream", server))
	}
	switch o.name {
	case protocol.MethodToolsCall:
		attrs = append(attrs, slog.String("tool", o.target))
	case protocol.MethodPromptsGet:
		attrs = append(attrs, slog.String("prompt", o.target))
	}
	attrs = append(attrs, slog.String("code", o.outcome), slog.String("fault", string(fault)), slog.String("took", took.String()))
	o.tel.log.LogAttrs(o.withSession(ctx), slog.LevelInfo, "a call failed", attrs...)
}

// server returns the server to which the request goes, or an empty string if it is not known or there is none.
func (o *Operation) server() string {
	if o.target != "" {
		return o.tel.serverOf(o.name, o.target)
	}
	if uri, ok := jsonrpc.StringField(o.params, "uri"); ok {
		return o.tel.serverOf(o.name, uri)
	}
	return ""
}

// withSession returns ctx with the session of the operation, which initialize has created after ctx was made.
func (o *Operation) withSession(ctx context.Context) context.Context {
	if session.IDFrom(ctx) == "" && o.sessionID != "" {
		return session.WithID(ctx, o.sessionID)
	}
	return ctx
}

// SetSession sets the public id of the session that the message has created.
func (o *Operation) SetSession(id string) {
	if o.sessionID = id; id != "" && o.Span.IsRecording() {
		o.Span.SetAttributes(semconv.McpSessionID(id))
	}
}

// End ends the span and records the duration. err is a refusal of the hub or the reason why there
// is no response. The request stays in flight until Respond is called, or until its InFlight is answered or cancelled.
func (o *Operation) End(ctx context.Context, response jsonrpc.Message, err error) {
	o.EndFor(ctx, context.Cause(ctx), response, err)
}

// EndFor is End for a call with a context of its own, which ended for cause.
func (o *Operation) EndFor(ctx context.Context, cause error, response jsonrpc.Message, err error) {
	fault := faultOf(response, err, cause)
	if refusal, refused := errors.AsType[*jsonrpc.Error](err); refused {
		response, err = jsonrpc.NewError("", refusal), nil
	}
	kind := upstream.ErrorType(response, err)
	if errors.Is(cause, ErrClientCancelled) {
		kind = outcomeCancelled
	}
	o.outcome, o.fault = cmp.Or(kind, "ok"), fault
	if code, isCode := codeOf(kind); isCode {
		if o.Span.IsRecording() {
			o.Span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		if instrument.IsCallerFault(code) {
			kind = ""
		}
	}
	if fault != instrument.FaultNone && o.Span.IsRecording() { // otherwise the attribute is there from the start
		o.Span.SetAttributes(instrument.FaultAttribute(fault))
	}
	if kind != "" && o.Span.IsRecording() {
		text := kind
		if response.Error != nil {
			text = instrument.RedactedResponse(response)
		} else if err != nil {
			text = instrument.Redacted(err)
		}
		o.Span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		o.Span.SetStatus(codes.Error, text)
	}
	o.Span.End()
	took := time.Since(o.start)
	o.log(ctx, kind, fault, took)
	o.logFailure(ctx, fault, took)
	op := instrument.Operation{Method: o.method, Tool: o.tool, ErrorType: kind, Transport: "tcp", Version: o.version}
	if o.request {
		o.tel.ObserveRequest(ctx, op, fault, took, time.Duration(o.Spent.Load()))
	} else {
		o.tel.served.Observe(ctx, op, took)
	}
}

// codeOf returns an error type as a JSON-RPC error code, and reports whether it is one.
func codeOf(kind string) (int, bool) {
	if kind == "" {
		return 0, false // the most common case, and a failed Atoi allocates
	}
	code, err := strconv.Atoi(kind)
	return code, err == nil
}

// AddNotification adds an event for a notification that is sent before the response. A nil operation
// does nothing.
func (o *Operation) AddNotification(method string) {
	if o != nil && o.Span.IsRecording() {
		o.Span.AddEvent("mcp.notification", trace.WithAttributes(semconv.McpMethodNameKey.String(instrument.MethodLabel(method))))
	}
}

// faultOf returns the fault of the outcome of a request. If there is a response, cause, the cause of the end of the
// context, does not matter.
func faultOf(response jsonrpc.Message, err, cause error) instrument.Fault {
	ended, isEnd := errors.AsType[EndedError](cause)
	limit, isLimit := errors.AsType[*session.LimitError](err)
	isEnd = isEnd && err != nil
	switch {
	case errors.Is(cause, ErrClientCancelled), isEnd && ended.Reason == session.ClientDelete, isLimit && limit.OfClient():
		return instrument.FaultClient
	case isEnd, isLimit, errors.Is(err, session.ErrUnavailable):
		return instrument.FaultHub
	}
	return upstream.FaultOf(response, err)
}

// Respond counts the response to a request as sent, and taps it for the session of ctx.
func (o *Operation) Respond(ctx context.Context, response jsonrpc.Message) {
	o.InFlight.Answer(response)
	o.tel.Tap.Message(ctx, instrument.Out, response, o.about())
}

// about returns the context of the response for the tap.
func (o *Operation) about() instrument.About {
	return instrument.About{Method: o.name, Target: o.target, Since: o.start, Outcome: o.outcome, Fault: o.fault}
}

// AboutRequest returns the context of the request for the tap.
func (o *Operation) AboutRequest() instrument.About { return instrument.About{Target: o.target} }
