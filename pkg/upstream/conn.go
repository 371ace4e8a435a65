package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// wire moves whole messages to one server and back.
type wire interface {
	// call sends a request and returns the response to it. Whatever else the
	// server sends meanwhile goes to Conn.receive.
	call(ctx context.Context, c *call, message []byte) (jsonrpc.Message, error)
	// send sends a notification or a response; header goes with it by HTTP.
	send(ctx context.Context, message []byte, header http.Header) error
	// negotiated is called once, with what initialize settled, before any
	// other call; listen asks for messages that belong to no call.
	negotiated(version string)
	listen(ctx context.Context)
	// bound is the server's session, if the wire has one.
	bound() string
	// close ends the connection and waits; with end it ends the server's
	// session too. It is called once, and bounds itself.
	close(end bool)
	// done is closed when the connection is lost; err then says why.
	done() <-chan struct{}
	err() error
}

// Conn is one initialized connection to a server. Its methods may be called
// concurrently.
type Conn struct {
	spec  Spec
	peer  []attribute.KeyValue // of all spans of calls
	tel   *telemetry
	own   *serverMetrics
	log   *slog.Logger
	sink  Sink
	wire  wire
	lost  func()          // called once, when the connection is lost or closed
	owned *owners         // of the server's connections
	wait  sync.WaitGroup  // for what start began
	quit  context.Context //nolint:containedctx // the life of the connection
	stop  context.CancelFunc
	init  Initialized
	close sync.Once
	who   Identity // on whose behalf, where a request does not say
	feed  *feed    // of a modern server
	many  bool     // serves several clients

	session string // public id of the client's, if it serves one; for spans
	tools   *toolParams

	isModern atomic.Bool                 // spoken to in a modern version
	agreed   atomic.Pointer[string]      // the protocol version; nil: none yet
	life     atomic.Pointer[established] // nil: not yet
	mu       sync.Mutex
	last     int64  // the id last given
	level    string // that requests of a modern connection ask for
	calls    map[jsonrpc.ID]*call
	tokens   map[jsonrpc.ID]*call // those whose caller wants progress, by call.progress

	abandoned map[jsonrpc.ID]time.Time // calls given up that the server may still be at, and until when that is to be feared
	asked     map[jsonrpc.ID]*inquiry  // questions of the server that wait for an answer

	taskTokens []taskToken // of calls that have become tasks, the oldest first

	// Goroutines that ask a client, that only send an answer, that send a cancellation.
	questions, answers, cancellations int
}

// call is a request under way.
type call struct {
	id    jsonrpc.ID
	sink  Sink            // nil: the connection's
	token json.RawMessage // the caller's progress token, nil if there is none

	// progress is the token that the server gets instead. It cannot be guessed: nobody can have a server report on
	// the call of another who shares the connection.
	progress jsonrpc.ID

	reply chan jsonrpc.Message

	origin askedFor               // of what the server asks meanwhile
	trace  instrument.MetaCarrier // of the call's span, for prepare
	header http.Header            // of a modern request by HTTP
	acked  chan<- json.RawMessage // of a stream of changes: gets what the server agreed to; it is no call
}

// What a server can keep the hub busy with at one time.
const (
	maxQuestions = 64  // requests that wait for the answer of a client
	maxAnswers   = 256 // answers that the hub gives itself, refusals among them
)

var errConnectTimeout = errors.New("did not become ready in time")

// initialize does the handshake of the legacy protocol, see
// specification 2025-11-25, basic/lifecycle.
func (c *Conn) initialize(ctx context.Context, who Identity) error {
	params, err := json.Marshal(struct {
		ProtocolVersion string          `json:"protocolVersion"`
		Capabilities    json.RawMessage `json:"capabilities"`
		ClientInfo      json.RawMessage `json:"clientInfo"`
	}{protocol.LatestLegacyVersion, who.Capabilities, who.ClientInfo})
	if err != nil {
		return err
	}
	response, err := c.call(ctx, Request{Method: protocol.MethodInitialize, Params: params})
	if err != nil {
		return err
	}
	if response.Error != nil {
		return serverError(c.spec.Name, fmt.Errorf("refused initialize: %w", c.spec.refusal(response.Error)))
	}
	if err := json.Unmarshal(response.Result, &c.init); err != nil || c.init.ProtocolVersion == "" {
		return serverError(c.spec.Name, fmt.Errorf("%w: its answer to initialize has no protocol version", ErrProtocol))
	}
	if !protocol.IsLegacyVersion(c.init.ProtocolVersion) {
		return serverError(c.spec.Name, fmt.Errorf("speaks protocol version %.20q, which the hub does not", c.init.ProtocolVersion))
	}
	c.settle(c.init.ProtocolVersion)
	return c.Notify(ctx, protocol.MethodInitialized, nil)
}

// refusal reads the error of a response for texts of the hub, which do not grow
// with what servers write, and do not repeat what the hub sent them in secret.
func (s Spec) refusal(raw json.RawMessage) *jsonrpc.Error {
	e := jsonrpc.ParseError(raw)
	return jsonrpc.Errorf(e.Code, "%.300s", s.masked(e.Message))
}

// Initialized returns what the server said when the connection was made. A
// resumed connection knows the protocol version only.
func (c *Conn) Initialized() Initialized { return c.init }

// Bound returns the server's session behind the connection.
func (c *Conn) Bound() Bound {
	if c.modern() {
		return Bound{} // there is none
	}
	return Bound{SessionID: c.wire.bound(), ProtocolVersion: c.init.ProtocolVersion}
}

// Done is closed when the connection is lost or closed.
func (c *Conn) Done() <-chan struct{} { return c.wire.done() }

// Err says why the connection was lost, after Done is closed.
func (c *Conn) Err() error { return c.wire.err() }

// Close ends the connection; with end it also ends the session that the server
// keeps for it. It waits for everything that the connection started, a few
// seconds at most.
func (c *Conn) Close(end bool) {
	c.close.Do(func() {
		c.mu.Lock()
		c.stop() // from here on, start refuses
		c.mu.Unlock()
		c.wire.close(end)
		c.wait.Wait()
		c.disown()
	})
}

// Notify sends a notification. What a modern server has no use for is not sent.
func (c *Conn) Notify(ctx context.Context, method string, params json.RawMessage) error {
	return c.notify(ctx, c.session, method, params)
}

// notify is Notify for the client's session with that id, or for none.
func (c *Conn) notify(ctx context.Context, session, method string, params json.RawMessage) error {
	if c.modern() && !c.takes(method) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, notifyTimeout, ErrTimeout)
	defer cancel()
	ctx, span := c.tel.startNotify(ctx, c, method, session)
	m := jsonrpc.Message{Method: method, Params: c.tel.inject(ctx, params)}
	c.tel.messages.Add(instrument.Out, m)
	c.show(ctx, instrument.Out, m, instrument.About{})
	start := time.Now()
	err := c.wire.send(ctx, m.Encode(), c.standard(method))
	if err != nil {
		err = serverError(c.spec.Name, err)
	}
	kind := ErrorType(jsonrpc.Message{}, err)
	endNotify(span, err)
	c.own.calls.Observe(ctx, instrument.Operation{Method: method, ErrorType: kind, Transport: networkTransport(c.spec), Version: c.version()}, time.Since(start))
	return err
}

const (
	notifyTimeout = 10 * time.Second
	cancelTimeout = 2 * time.Second // for a cancellation when the connection is being closed, which waits for it
)

// maxAbandoned bounds the calls given up that are remembered.
const maxAbandoned = 1024

// afterlife is how long a server may be taken to be at work for a call that was
// given up: long enough for one that heeds cancellations late, and short enough
// that the questions of others are not refused for long.
const afterlife = time.Minute

// Request is a call to a server.
type Request struct {
	Method string
	Params json.RawMessage // with the names that the server knows
	Target string          // the tool or prompt, for spans and metrics
	Sink   Sink            // takes what the server sends for this call; nil: the connection's
	Task   bool            // may be answered with a task, whose progress then goes to the connection's Sink

	// Modern: the caller speaks a modern version. Its request goes to a modern
	// server as it is, and the answer is not translated for a legacy client.
	Modern bool
	Header http.Header // Mcp-Param-* headers of the caller that the hub does not know

	// Spent, if set, grows by the time that the call waits for others than the
	// hub, in ns.
	Spent *atomic.Int64

	session  string    // public id of the caller's, for spans
	attempt  int       // at the same request; the first is 0
	identity *Identity // of the caller, where several share the connection
	stamped  bool      // gets the _meta of a modern request from the hub
}

// Call sends a request and returns the server's response with its raw result
// or error. An error means that there is none; see the errors of this package.
// If ctx ends first the server is told that the request is cancelled.
func (c *Conn) Call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	if c.modern() && !req.Modern {
		return c.translate(ctx, req)
	}
	return c.call(ctx, req)
}

// call sends one request and returns the response to it.
func (c *Conn) call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
	defer cancel()
	cl := c.begin(&call{sink: req.Sink})
	defer c.end(cl)
	ctx, op := c.tel.startCall(ctx, c, cl.id, req)
	c.mu.Lock()
	cl.origin = askedFor{ctx, cmp.Or(req.session, c.session)}
	c.mu.Unlock()
	params, err := c.prepare(ctx, cl, req)
	if err == nil && (req.stamped || c.modern()) {
		cl.header, err = c.mirror(ctx, req, params)
	}
	if err != nil {
		refusal := jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "invalid params: %v", err)
		op.end(jsonrpc.Message{}, refusal)
		return jsonrpc.Message{}, refusal
	}
	m := jsonrpc.Message{ID: cl.id, Method: req.Method, Params: params}
	flight := c.tel.messages.Begin(instrument.Out, m)
	sent := time.Now()
	c.show(ctx, instrument.Out, m, instrument.About{Target: req.Target})
	response, err := c.wire.call(ctx, cl, m.Encode())
	req.spend(sent)
	if err == nil {
		flight.Answer(response)
		c.showAnswer(ctx, req, sent, response)
	} else {
		if ctx.Err() != nil {
			err = c.abandon(ctx, cl, req.Method)
		}
		flight.Cancel(cancelReason(err))
		err = serverError(c.spec.Name, unknownMethod(req.Method, err))
	}
	if err == nil && req.Method == protocol.MethodToolsList && c.mirrors() {
		response = c.withoutPoison(ctx, response)
	}
	if err == nil && req.Task {
		c.keepTaskToken(cl, response)
	}
	if err == nil && req.Method == protocol.MethodToolsList && c.many {
		response.Result = protocol.WithoutTaskSupport(response.Result)
	}
	op.end(response, err)
	return response, err
}

// spend notes the time since then.
func (r Request) spend(since time.Time) {
	if r.Spent != nil {
		r.Spent.Add(int64(time.Since(since)))
	}
}

// abandon says why nobody waits for cl any more, and has the server told. The
// caller does not wait for that: the server may be hung.
func (c *Conn) abandon(ctx context.Context, cl *call, method string) error {
	cause := context.Cause(ctx)
	if !errors.Is(cause, ErrTimeout) && !errors.Is(cause, errConnectTimeout) {
		cause = fmt.Errorf("%w: %w", ErrCancelled, cause)
	}
	if method == protocol.MethodInitialize || (method == protocol.MethodServerDiscover && !c.modern()) {
		return cause // must not be cancelled, specification 2025-11-25, basic/utilities/cancellation, or may not be known
	}
	c.mu.Lock()
	if len(c.abandoned) < maxAbandoned { // enough to know that there are some
		c.abandoned[cl.id] = time.Now().Add(min(afterlife, c.spec.callTimeout()))
	}
	c.mu.Unlock()
	c.cancelled(ctx, cl, cause)
	return cause
}

// cancelled has the server told that nobody waits for cl any more.
func (c *Conn) cancelled(ctx context.Context, cl *call, cause error) {
	params := fmt.Appendf(nil, `{"requestId":%s,"reason":%s}`, cl.id, jsonrpc.String(reasonText(cause)))
	c.start(&c.cancellations, math.MaxInt, func(context.Context) {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), notifyTimeout, ErrTimeout)
		defer cancel()
		defer context.AfterFunc(c.quit, func() { time.AfterFunc(cancelTimeout, cancel) })()
		if err := c.notify(ctx, cl.origin.session, protocol.MethodCancelled, params); err != nil {
			c.log.DebugContext(ctx, "the server was not told of a cancellation", "err", instrument.Redacted(err))
		}
	})
}

func reasonText(cause error) string {
	if errors.Is(cause, ErrTimeout) || errors.Is(cause, errConnectTimeout) {
		return "timeout"
	}
	return "cancelled by the client"
}

func (c *Conn) begin(cl *call) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	cl.id, cl.reply = jsonrpc.ID(strconv.FormatInt(c.last, 10)), make(chan jsonrpc.Message, 1)
	c.calls[cl.id] = cl
	return cl
}

func (c *Conn) end(cl *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, cl.id)
	delete(c.tokens, cl.progress)
	select {
	case <-cl.reply: // it came when nobody waited for it any more
		c.tel.unmatched("response")
	default:
	}
}

// Server names the server at the other end.
func (c *Conn) Server() string { return c.spec.Name }
