package upstream

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// telemetry is the telemetry of a Pool.
type telemetry struct {
	*metrics
	instrument.Tap
	log        *slog.Logger
	output     *slog.Logger // for what servers print
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator // nil: tracing is off, see instrument.CheckedContext
	spans      instrument.Spans
	baggage    []string // keys that are forwarded
}

func newTelemetry(cfg Config) *telemetry {
	t := &telemetry{metrics: newMetrics(cfg.Registerer, cfg.ToolLabels), log: cfg.Logger, propagator: cfg.Propagator, baggage: cfg.Baggage}
	if cfg.OnMessage != nil {
		t.Tap = instrument.NewTap(cfg.Watched, cfg.OnMessage)
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.output = cmp.Or(cfg.ServerLogger, t.log)
	var tp trace.TracerProvider = noop.NewTracerProvider()
	if cfg.TracerProvider != nil {
		tp = cfg.TracerProvider
	}
	t.tracer = tp.Tracer("github.com/mcphub-go/mcphub/pkg/upstream")
	t.spans = instrument.NewSpans(t.tracer)
	return t
}

// startMaintenance begins the INTERNAL span of work that the hub does with a server by itself. It belongs to no
// client's trace.
func (t *telemetry) startMaintenance(ctx context.Context, name, server string) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, name, trace.WithNewRoot(), //nolint:spancheck // ended by the caller
		trace.WithAttributes(attribute.String("mcphub.backend", server)))
}

// endSpan ends a span that is not of an operation.
func endSpan(span trace.Span, err error) {
	if kind := ErrorType(jsonrpc.Message{}, err); kind != "" && span.IsRecording() {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, instrument.Redacted(err))
	}
	span.End()
}

// inject puts the span of ctx into the _meta of params. Params that are not an object stay as they are.
func (t *telemetry) inject(ctx context.Context, params []byte) []byte {
	if t.propagator == nil {
		return instrument.CheckedContext(params, t.baggage)
	}
	return instrument.InjectMeta(ctx, t.propagator, params)
}

// injectHeader puts the span of ctx into the headers of an HTTP request.
func (t *telemetry) injectHeader(ctx context.Context, h http.Header) {
	if t.propagator != nil {
		t.propagator.Inject(ctx, instrument.HeaderCarrier(h))
	}
}

// setHTTPVersion notes the HTTP version of the server's answer in the span of ctx.
func setHTTPVersion(ctx context.Context, major, minor int) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		version := strconv.Itoa(major)
		if major == 1 {
			version += "." + strconv.Itoa(minor)
		}
		span.SetAttributes(semconv.NetworkProtocolVersion(version))
	}
}

// connTelemetry is what the spans, measurements, message events and log records of one connection have in common.
type connTelemetry struct {
	*telemetry
	own     *serverMetrics
	log     *slog.Logger
	output  *slog.Logger // for what the server prints
	server  string
	session string // public id of the client session that the connection serves; empty: none, or several
	network string // network.transport
	// The attributes of spans: with the server as the server of the hub's requests, and as the client of its own.
	asServer, asClient []attribute.KeyValue

	protocolVersion atomic.Pointer[string]      // nil: not negotiated yet
	mended          atomic.Uint32               // the kinds of repairs that were logged
	established     atomic.Pointer[established] // nil: not yet
}

// established is when a connection was ready for use, and what measures its duration, by error type.
type established struct {
	since     time.Time
	durations map[string]prometheus.Observer
}

// The error types of connections that the hub did not close.
const (
	durationSessionGone = "session_gone"    // the server does not know the session any more
	durationLost        = "connection_lost" // the process exited, or the server was not reachable any more
)

func newConnTelemetry(t *telemetry, own *serverMetrics, spec Spec, session string) *connTelemetry {
	c := &connTelemetry{telemetry: t, own: own, log: t.log.With("upstream", spec.Name), output: t.output.With("upstream", spec.Name),
		server: spec.Name, session: session}
	if session != "" {
		c.log, c.output = c.log.With("session", session), c.output.With("session", session)
	}
	network, application := spec.kind().Network()
	c.network = network
	common := []attribute.KeyValue{semconv.NetworkTransportKey.String(network)}
	if application != "" {
		common = append(common, semconv.NetworkProtocolName(application))
	}
	c.asServer = appendAddress(common, spec.URL, semconv.ServerAddress, semconv.ServerPort)
	c.asClient = appendAddress(common, spec.URL, semconv.ClientAddress, semconv.ClientPort)
	return c
}

func appendAddress(common []attribute.KeyValue, address string, host func(string) attribute.KeyValue,
	port func(int) attribute.KeyValue) []attribute.KeyValue {
	attrs := append([]attribute.KeyValue(nil), common...)
	if u, err := url.Parse(address); err == nil && address != "" {
		attrs = append(attrs, host(u.Hostname()))
		if n, err := strconv.Atoi(u.Port()); err == nil {
			attrs = append(attrs, port(n))
		}
	}
	return attrs
}

// version returns the protocol version that was negotiated, or "". It may be called at any time: a server may send
// requests before.
func (c *connTelemetry) version() string {
	if v := c.protocolVersion.Load(); v != nil {
		return *v
	}
	return ""
}

func (c *connTelemetry) setVersion(version string) { c.protocolVersion.Store(&version) }

// appendContext appends the protocol version and, in the legacy era, the session of the client that the message is
// about.
func (c *connTelemetry) appendContext(attrs []attribute.KeyValue, session string, modern bool) []attribute.KeyValue {
	if modern {
		return append(attrs, semconv.McpProtocolVersion(protocol.ModernVersion))
	}
	if v := c.version(); v != "" {
		attrs = append(attrs, semconv.McpProtocolVersion(v))
	}
	if session != "" {
		attrs = append(attrs, semconv.McpSessionID(session))
	}
	return attrs
}

// repaired counts a message that was repaired, and logs each kind of repair once.
func (c *connTelemetry) repaired(all jsonrpc.Repairs) {
	c.repairs.CountRepaired(all)
	if before := c.mended.Or(uint32(all)); uint32(all)&^before != 0 {
		c.log.Warn("the server sends messages that are not quite JSON-RPC; they are repaired", "repaired", all.Names())
	}
}

// connected notes that the connection is ready for use. The series that its end will be counted in exist from now on.
func (c *connTelemetry) connected() {
	durations := map[string]prometheus.Observer{}
	for _, kind := range []string{"", durationSessionGone, durationLost} {
		durations[kind] = c.durations.WithLabelValues(kind, c.version(), c.server)
	}
	c.established.Store(&established{time.Now(), durations})
}

// lost measures how long a connection was ready for use. One that never was is not measured.
func (c *connTelemetry) lost(reason error) {
	e := c.established.Load()
	if e == nil {
		return
	}
	kind := durationLost
	switch {
	case errors.Is(reason, transport.ErrClosed):
		kind = ""
	case errors.Is(reason, transport.ErrSessionGone):
		kind = durationSessionGone
	}
	e.durations[kind].Observe(time.Since(e.since).Seconds())
}

// messageEvent passes a message that was counted to the followers of its session. Ctx has the values of the call or
// session that it is about.
func (c *connTelemetry) messageEvent(ctx context.Context, d instrument.Direction, m jsonrpc.Message, about instrument.About) {
	if c.Enabled() {
		c.Pass(ctx, instrument.MessageEvent{Server: c.server, Direction: d, Message: m, About: about})
	}
}

// responseEvent is messageEvent for the response to a call.
func (c *connTelemetry) responseEvent(ctx context.Context, req Request, sent time.Time, response jsonrpc.Message) {
	if c.Enabled() {
		c.messageEvent(ctx, instrument.In, response, instrument.About{Method: req.Method, Target: req.Target, Since: sent,
			Outcome: Outcome(response, nil), Fault: FaultOf(response, nil)})
	}
}
