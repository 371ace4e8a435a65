package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// telemetry is what the gateway reports to.
type telemetry struct {
	log        *slog.Logger
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	spans      instrument.Spans
	parent     TraceParent
	baggage    []string // members that go further

	duration *instrument.OperationHistogram // one operation; written by served
	served   *instrument.Recorder
	asked    *instrument.OperationHistogram // one question to a client
	strays   *prometheus.CounterVec         // by reason
	drops    *prometheus.CounterVec         // by reason
	streams  *stream.Metrics
	outcomes *prometheus.CounterVec        // requests, by method and fault
	usual    map[ending]prometheus.Counter // those of outcomes that are there from the start: found quicker
	overhead *prometheus.HistogramVec      // s, by method
	messages *instrument.Messages
	lookup   func(method, name string) bool
}

func newTelemetry(cfg Config) *telemetry {
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if cfg.TracerProvider != nil {
		tp = cfg.TracerProvider
	}
	f := promauto.With(cfg.Registerer)
	tracer := tp.Tracer("github.com/mcphub-go/mcphub/pkg/gateway")
	t := &telemetry{
		log:    cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		tracer: tracer, spans: instrument.NewSpans(tracer), propagator: cfg.Propagator,
		parent: cfg.TraceParent, baggage: cfg.Baggage,
		duration: instrument.NewServerOperations(cfg.Registerer),
		asked:    instrument.NewClientOperations(cfg.Registerer),
		strays:   instrument.NewUnmatched(cfg.Registerer, "downstream", "response"),
		messages: instrument.NewMessages(cfg.Registerer, "downstream"),
		outcomes: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_operations_total",
			Help: "Requests of clients, by whose doing it is how they ended."}, []string{"mcp_method_name", "fault"}),
		overhead: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcphub_proxy_overhead_seconds",
			Help:    "Part of the time of a forwarded request that went by in the hub.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}}, []string{"mcp_method_name"}),
		drops: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_notifications_dropped_total",
			Help: "Notifications that reached no client."}, []string{"reason"}),
		usual: map[ending]prometheus.Counter{},
		lookup: func(method, name string) bool {
			s := cfg.Catalog.Snapshot()
			_, ok := s.Tool(name)
			if method == protocol.MethodPromptsGet {
				_, ok = s.Prompt(name)
			}
			return ok
		},
	}
	t.served = instrument.NewOperations(cfg.Registerer, "downstream", t.duration, cfg.ToolLabels).Recorder("", func(tool string) bool {
		_, ok := cfg.Catalog.Snapshot().Tool(tool)
		return ok
	})
	for _, method := range instrument.RequestLabels() {
		for _, fault := range instrument.Faults() {
			t.usual[ending{method, fault}] = t.outcomes.WithLabelValues(method, string(fault))
		}
	}
	t.streams = stream.NewMetrics(cfg.Registerer, t.dropped)
	for _, r := range []string{"no_stream", "slow_reader", "ambiguous", "unsupported"} {
		t.drops.WithLabelValues(r)
	}
	return t
}

// ending is how a request ended.
type ending struct {
	method string
	fault  instrument.Fault
}

// counted counts the end of a request.
func (t *telemetry) counted(method string, fault instrument.Fault) {
	if c := t.usual[ending{method, fault}]; c != nil {
		c.Inc()
		return
	}
	t.outcomes.WithLabelValues(method, string(fault)).Inc() // a method that is not for clients to call
}

// refused counts a request that is answered at once, before anything is done
// with it.
func (t *telemetry) refused(request, answer jsonrpc.Message) {
	flight := t.messages.Begin(instrument.In, request)
	flight.Answer(answer)
}

// unmatched notes an answer of a client to nothing that waits for one.
func (t *telemetry) unmatched() { t.strays.WithLabelValues("response").Inc() }

func (t *telemetry) dropped(reason string) { t.drops.WithLabelValues(reason).Inc() }

// operation is the span and the measurement of one inbound message.
type operation struct {
	tel                   *telemetry
	span                  trace.Span
	start                 time.Time
	method, tool, version string
	id                    string // of the session; "": none
	name                  string // the method, as the client wrote it
	target                string // tool or prompt; Other: none that is offered
	request               bool
	flight                instrument.InFlight // of a request
	spent                 atomic.Int64        // ns, that the request waited for others than the hub

	outcome string // set by end: an upstream.Outcome
	fault   instrument.Fault
}

// startServe begins the SERVER span of a message. Its parent is the context in
// params._meta if there is one (SEP-414), else that of the HTTP headers.
func (t *telemetry) startServe(r *http.Request, sessionID, version string, m jsonrpc.Message) (context.Context, *operation) {
	ctx := r.Context()
	op := &operation{tel: t, start: time.Now(), method: instrument.MethodLabel(m.Method), version: version,
		request: m.Kind() == jsonrpc.Request, name: m.Method}
	var name, target string
	if m.Method == protocol.MethodToolsCall || m.Method == protocol.MethodPromptsGet {
		name, _ = jsonrpc.StringField(m.Params, "name")
		if target = instrument.Other; t.lookup(m.Method, name) {
			target = name
		}
	}
	if m.Method == protocol.MethodToolsCall {
		op.tool = name
	}
	op.target = target
	if op.request {
		op.flight = t.messages.Begin(instrument.In, m)
	} else {
		t.messages.Add(instrument.In, m)
	}
	if sessionID != "" {
		ctx = session.WithID(ctx, sessionID) // for the log
	}
	var links []trace.SpanStartOption
	if t.propagator != nil {
		ctx, links = t.extract(ctx, r, m)
	}
	ctx, op.span = t.spans.Server(ctx, op.method, target, links...)
	if op.span.IsRecording() {
		attrs := serveAttributes(r, version, target, m)
		if sessionID != "" {
			attrs = append(attrs, semconv.McpSessionID(sessionID))
		}
		op.span.SetAttributes(attrs...)
	}
	op.id = sessionID
	return ctx, op
}

func serveAttributes(r *http.Request, version, target string, m jsonrpc.Message) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 16)
	attrs = append(attrs, semconv.McpMethodNameKey.String(instrument.MethodLabel(m.Method)), semconv.NetworkTransportTCP,
		semconv.NetworkProtocolName("http"), semconv.NetworkProtocolVersion(strings.TrimPrefix(r.Proto, "HTTP/")),
		semconv.McpProtocolVersion(version), instrument.FaultAttribute(instrument.FaultNone))
	if m.ID != "" {
		attrs = append(attrs, semconv.JSONRPCRequestID(clip(string(m.ID))))
	}
	switch m.Method {
	case protocol.MethodToolsCall:
		attrs = append(attrs, semconv.GenAIToolName(target), semconv.GenAIOperationNameExecuteTool)
	case protocol.MethodPromptsGet:
		attrs = append(attrs, semconv.GenAIPromptName(target))
	case protocol.MethodResourcesRead, protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		if uri, ok := jsonrpc.StringField(m.Params, "uri"); ok {
			attrs = append(attrs, semconv.McpResourceURI(clip(instrument.RedactedURI(uri))))
		}
	}
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		n, _ := strconv.Atoi(port)
		attrs = append(attrs, semconv.ClientAddress(host), semconv.ClientPort(n))
	}
	return attrs
}

// logged says at TRACE that the message has been dealt with.
func (o *operation) logged(ctx context.Context, kind string, fault instrument.Fault, took time.Duration) {
	if !o.tel.log.Enabled(ctx, instrument.LevelTrace) {
		return
	}
	if session.IDFrom(ctx) == "" && o.id != "" { // initialize has made it
		ctx = session.WithID(ctx, o.id)
	}
	o.tel.log.Log(ctx, instrument.LevelTrace, "message of the client", "method", o.method, "target", o.target, "request", o.request,
		"fault", string(fault), "error_type", kind, "took", took.String())
}

// session notes the public id of the session the message belongs to.
func (o *operation) session(id string) {
	if o.id = id; id != "" && o.span.IsRecording() {
		o.span.SetAttributes(semconv.McpSessionID(id))
	}
}

// end finishes the span and records the duration. err is a refusal of the hub
// or the reason why there is no response. The flight of a request goes on until
// the response is handed over.
func (o *operation) end(ctx context.Context, response jsonrpc.Message, err error) {
	o.endFor(ctx, context.Cause(ctx), response, err)
}

// endFor is end for a call that has a context of its own, which ended for cause.
func (o *operation) endFor(ctx context.Context, cause error, response jsonrpc.Message, err error) {
	fault := faultOf(response, err, cause)
	if refusal, refused := errors.AsType[*jsonrpc.Error](err); refused {
		response, err = jsonrpc.NewError("", refusal), nil
	}
	kind := upstream.ErrorType(response, err)
	if errors.Is(cause, errClientCancelled) {
		kind = "cancelled"
	}
	o.outcome, o.fault = cmp.Or(kind, "ok"), fault
	if code, isCode := codeOf(kind); isCode {
		if o.span.IsRecording() {
			o.span.SetAttributes(semconv.RPCResponseStatusCode(kind))
		}
		if instrument.IsCallerFault(code) {
			kind = ""
		}
	}
	if fault != instrument.FaultNone && o.span.IsRecording() { // else it stands there from the start
		o.span.SetAttributes(instrument.FaultAttribute(fault))
	}
	if kind != "" && o.span.IsRecording() {
		text := kind
		if response.Error != nil {
			text = instrument.RedactedResponse(response)
		} else if err != nil {
			text = instrument.Redacted(err)
		}
		o.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		o.span.SetStatus(codes.Error, text)
	}
	o.span.End()
	took := time.Since(o.start)
	o.logged(ctx, kind, fault, took)
	o.tel.served.Observe(ctx, instrument.Operation{Method: o.method, Tool: o.tool, ErrorType: kind, Transport: "tcp", Version: o.version}, took)
	if !o.request {
		return
	}
	o.tel.counted(o.method, fault)
	if spent := o.spent.Load(); spent > 0 {
		o.tel.overhead.WithLabelValues(o.method).Observe(max(0, took-time.Duration(spent)).Seconds()) // spent counts twice what was asked of two servers at once
	}
}

// codeOf returns the code of JSON-RPC that an error type is, if it is one.
func codeOf(kind string) (int, bool) {
	if kind == "" {
		return 0, false // the most common, and a failed Atoi allocates
	}
	code, err := strconv.Atoi(kind)
	return code, err == nil
}

// said notes a notification that goes to the client before the answer; for no
// operation it does nothing.
func (o *operation) said(method string) {
	if o != nil && o.span.IsRecording() {
		o.span.AddEvent("mcp.notification", trace.WithAttributes(semconv.McpMethodNameKey.String(instrument.MethodLabel(method))))
	}
}

// faultOf says whose doing the outcome of a request is. What was answered in time
// does not depend on why its context has ended since.
func faultOf(response jsonrpc.Message, err, cause error) instrument.Fault {
	ended, isEnd := errors.AsType[endedError](cause)
	limit, isLimit := errors.AsType[*session.LimitError](err)
	isEnd = isEnd && err != nil
	switch {
	case errors.Is(cause, errClientCancelled), isEnd && ended.reason == session.ClientDelete, isLimit && limit.Scope == "client":
		return instrument.FaultClient
	case isEnd, isLimit, errors.Is(err, session.ErrUnavailable):
		return instrument.FaultHub
	}
	return upstream.FaultOf(response, err)
}
