package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The limits of one connection for the requests of the server.
const (
	maxServerRequests = 64  // that wait for the answer of a client
	maxAnswers        = 256 // that the hub answers itself, refusals among them, and whose response is being sent
)

// serverRequest is a request of the server from its arrival to its response. It is measured: the hub is the server of
// such requests.
type serverRequest struct {
	jsonrpc.Message
	about    context.Context //nolint:containedctx // of the call that it belongs to, for message events
	inFlight instrument.InFlight
	start    time.Time
	cancel   context.CancelCauseFunc // nil: the hub answers at once
}

// serverRequests are the requests of the server on one connection. They wait on goroutines of background. It may be
// used concurrently.
type serverRequests struct {
	tel        *connTelemetry
	background *background
	timeout    time.Duration // for the answer of a client

	// The connection, which lies above:
	send   func(ctx context.Context, message []byte) error
	report Reporter
	isLost func() bool

	waiting, answering quota // of background

	memory *budget.Account // for the params of those that wait; nil: no limit

	mu   sync.Mutex
	byID map[jsonrpc.ID]*serverRequest // that wait for the answer of a client
}

func newServerRequests(tel *connTelemetry, b *background, timeout time.Duration) *serverRequests {
	return &serverRequests{tel: tel, background: b, timeout: timeout, waiting: quota{limit: maxServerRequests},
		answering: quota{limit: maxAnswers}, byID: map[jsonrpc.ID]*serverRequest{}}
}

// add counts a request that has arrived.
func (s *serverRequests) add(m jsonrpc.Message) *serverRequest {
	return &serverRequest{Message: m, about: s.background.ctx, inFlight: s.tel.messages.Begin(instrument.In, m), start: time.Now()}
}

// forward has sink answer r and sends the response. Too many requests at once are refused. NamesNoCall is for the sink.
func (s *serverRequests) forward(r *serverRequest, sink Sink, of origin, namesNoCall bool) {
	if of.ctx != nil {
		r.about = of.ctx
	}
	m := r.Message
	var held budget.Hold
	held.On(s.memory)
	if err := held.Grow(int64(len(m.Params))); err != nil {
		s.answer(r, nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the request was dropped: %v", err))
		return
	}
	m.Params = bytes.Clone(m.Params)
	ctx, cancel := context.WithCancelCause(s.background.ctx)
	r.cancel = cancel
	s.mu.Lock()
	s.byID[m.ID] = r // before the next message can cancel it
	s.mu.Unlock()
	started := s.background.start(&s.waiting, func(context.Context) {
		defer held.Release()
		ctx, stop := context.WithTimeoutCause(ctx, s.timeout, ErrTimeout)
		defer stop()
		ctx, span := s.tel.startServerRequest(ctx, of, m)
		m.Params = s.tel.inject(ctx, m.Params)
		if namesNoCall {
			ctx = withNoCall(ctx)
		}
		result, err := sink.Ask(withReporter(ctx, s.report), m)
		endServerRequest(ctx, span, err)
		defer s.remove(r)
		if errors.Is(context.Cause(ctx), errRequestCancelled) { // there must be no response
			s.drop(ctx, r, instrument.Withdrawn)
			return
		}
		s.respond(ctx, r, result, err)
	})
	if !started {
		held.Release()
		s.remove(r)
		s.answer(r, nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub is waiting for too many answers of clients"))
	}
}

// remove forgets r.
func (s *serverRequests) remove(r *serverRequest) {
	s.mu.Lock()
	if s.byID[r.ID] == r { // otherwise the server has used the id again
		delete(s.byID, r.ID)
	}
	s.mu.Unlock()
	r.cancel(nil)
}

// get returns the request with that id that waits for the answer of a client, or nil.
func (s *serverRequests) get(id jsonrpc.ID) *serverRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// cancelled ends a request that the server has cancelled.
func (s *serverRequests) cancelled(id jsonrpc.ID) {
	if r := s.get(id); r != nil {
		r.cancel(errRequestCancelled)
	}
}

// answer sends a response without blocking the caller, who may be the goroutine that reads from the server.
func (s *serverRequests) answer(r *serverRequest, result json.RawMessage, err error) {
	ctx := s.background.ctx
	switch {
	case s.background.start(&s.answering, func(ctx context.Context) { s.respond(ctx, r, result, err) }):
	case s.background.stopped():
		s.drop(ctx, r, instrument.ConnectionLost)
	default:
		s.tel.unmatched("overload")
		s.drop(ctx, r, instrument.Overloaded)
	}
}

// respond sends the response to r. A response that cannot be sent because the connection is lost is not counted as one;
// whether a sent one arrives is not known. About, which may have ended, is the context for log and measurements.
func (s *serverRequests) respond(about context.Context, r *serverRequest, result json.RawMessage, err error) {
	if s.background.stopped() || s.isLost() {
		s.drop(about, r, instrument.ConnectionLost)
		return
	}
	m := jsonrpc.NewResult(r.ID, result)
	if err != nil {
		m = jsonrpc.NewError(r.ID, jsonrpc.AsError(err))
	}
	s.responded(about, r, m)
	ctx, cancel := context.WithTimeoutCause(s.background.ctx, notifyTimeout, ErrTimeout)
	defer cancel()
	if err := s.send(ctx, m.Encode()); err != nil && !s.background.stopped() {
		s.tel.log.WarnContext(about, "an answer did not reach the server", "err", instrument.Redacted(err))
	}
}

// responded measures r, which ends with a response.
func (s *serverRequests) responded(ctx context.Context, r *serverRequest, response jsonrpc.Message) {
	r.inFlight.Answer(response)
	if s.tel.Enabled() {
		s.tel.messageEvent(r.about, instrument.Out, response,
			instrument.About{Method: r.Method, Since: r.start, Outcome: Outcome(response, nil)})
	}
	kind := ErrorType(response, nil)
	if response.Error != nil && instrument.IsCallerFault(jsonrpc.ParseError(response.Error).Code) {
		kind = ""
	}
	s.tel.observeReceived(ctx, r.Method, instrument.ErrorTypeLabel(kind), time.Since(r.start))
}

// drop measures r, which ends without a response.
func (s *serverRequests) drop(ctx context.Context, r *serverRequest, reason instrument.CancelReason) {
	r.inFlight.Cancel(reason)
	kind := string(reason)
	if reason == instrument.Withdrawn {
		kind = "cancelled"
	}
	s.tel.observeReceived(ctx, r.Method, instrument.ErrorTypeLabel(kind), time.Since(r.start))
}
