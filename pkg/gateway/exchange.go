package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// exchange is one request of a client and the HTTP response to it: one JSON
// object if the answer is all there is, a stream of events if the server has
// something to say before. It is the upstream.Sink of the call.
type exchange struct {
	g    *Gateway
	cs   *clientSession
	id   jsonrpc.ID
	call context.Context      //nolint:containedctx // ends with the call
	out  *queue               // messages before the answer
	done chan jsonrpc.Message // the answer; one without id: there is none
	gone chan struct{}        // closed when nobody reads any more
}

// writeTimeout bounds each write to a client that does not read.
const writeTimeout = 30 * time.Second

func newExchange(call context.Context, g *Gateway, cs *clientSession, id jsonrpc.ID) *exchange {
	return &exchange{g: g, cs: cs, id: id, call: call, out: newQueue(&cs.queued),
		done: make(chan jsonrpc.Message, 1), gone: make(chan struct{})}
}

// Notify puts a notification of the server on the stream of this request.
func (x *exchange) Notify(m jsonrpc.Message) {
	if isListChanged(m.Method) { // the session's affair, whichever stream it came on
		x.cs.Notify(m)
		return
	}
	if reason := x.put(m); reason != "" {
		x.g.tel.dropped(reason)
	}
}

// Ask puts a question of the server on the stream of this request.
func (x *exchange) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(x.call, func() { cancel(context.Cause(x.call)) })
	defer stop()
	return x.cs.ask(ctx, m, func(m jsonrpc.Message) string {
		reason := x.put(m)
		if reason != "" && x.cs.send(m) == "" { // the client has lost this stream, but has another
			reason = ""
		}
		return reason
	})
}

// put queues m for the reader and says why if it cannot.
func (x *exchange) put(m jsonrpc.Message) (reason string) {
	select {
	case <-x.gone:
		return "no_stream"
	default:
	}
	if !x.out.push(m.Encode()) {
		return "slow_reader"
	}
	x.g.tel.messages.Add(upstream.Out, m)
	return ""
}

// finish hands over the answer.
func (x *exchange) finish(m jsonrpc.Message) { x.done <- m }

// serve writes the response until the answer is written or the client is gone.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	defer x.out.take() // what nobody reads any more
	defer close(x.gone)
	beat := time.NewTicker(x.g.cfg.heartbeat())
	defer beat.Stop()
	var s *eventStream // nil while the answer may still be one object
	stream := func() *eventStream {
		if s == nil {
			s = x.g.startEvents(w, "post_sse")
		}
		return s
	}
	defer func() {
		if s != nil {
			s.end()
		}
	}()
	for {
		select {
		case <-x.out.ready:
			if !x.flush(stream) {
				return
			}
		case <-beat.C:
			if !stream().comment("keep-alive") {
				return
			}
		case m := <-x.done:
			x.last(w, s, stream, m)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// flush writes what waits and reports whether the client got it.
func (x *exchange) flush(stream func() *eventStream) bool {
	for _, m := range x.out.take() {
		if !stream().message(m) {
			return false
		}
	}
	return true
}

// last writes what was said before the answer, and the answer.
func (x *exchange) last(w http.ResponseWriter, s *eventStream, stream func() *eventStream, answer jsonrpc.Message) {
	if x.out.len() > 0 {
		s = stream()
		if !x.flush(stream) {
			return
		}
	}
	switch {
	case answer.ID == "":
		stream().comment("cancelled")
	case s != nil:
		s.message(answer.Encode())
	default:
		writeJSON(w, answer)
	}
}

// writeJSON answers with one object.
func writeJSON(w http.ResponseWriter, m jsonrpc.Message) {
	body := m.Encode()
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(body))*time.Microsecond))
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}

// eventStream writes server-sent events.
type eventStream struct {
	g    *Gateway
	w    http.ResponseWriter
	ctl  *http.ResponseController
	kind string
}

func (g *Gateway) startEvents(w http.ResponseWriter, kind string) *eventStream {
	h := w.Header()
	h.Set("Content-Type", typeEvents)
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // reverse proxies must not collect events
	g.tel.streams.WithLabelValues(kind).Inc()
	return &eventStream{g: g, w: w, ctl: http.NewResponseController(w), kind: kind}
}

func (s *eventStream) end() {
	_ = s.ctl.SetWriteDeadline(time.Time{})
	s.g.tel.streams.WithLabelValues(s.kind).Dec()
}

// message writes one message as an event and reports whether the client got it.
func (s *eventStream) message(m []byte) bool {
	event := make([]byte, 0, len(m)+32)
	event = append(event, "event: message\ndata: "...)
	if bytes.ContainsAny(m, "\r\n") {
		m = jsonrpc.OneLine(bytes.Clone(m))
	}
	return s.write(append(append(event, m...), "\n\n"...))
}

func (s *eventStream) comment(text string) bool { return s.write([]byte(": " + text + "\n\n")) }

func (s *eventStream) write(b []byte) bool {
	_ = s.ctl.SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(b))*time.Microsecond))
	_, err := s.w.Write(b) //nolint:gosec // JSON in an event stream, and said to be
	return err == nil && s.ctl.Flush() == nil
}
