package gateway

import (
	"bytes"
	"cmp"
	"net/http"
	"time"
)

// sender writes streams to HTTP responses. Its methods may be called concurrently.
type sender struct {
	metrics   *streamMetrics
	heartbeat time.Duration   // pause between comments on a silent stream
	patience  time.Duration   // wait for an answer before the response becomes an event stream
	draining  <-chan struct{} // closed when the hub stops
}

// respond writes the response to a POST whose answers come on s: one JSON object, or a list of
// them, if there is nothing else to send and they come soon, and an event stream otherwise.
func (x *sender) respond(w http.ResponseWriter, r *http.Request, s *stream, list bool) {
	rd := s.reader // nobody can displace it before the stream has begun
	defer s.detach(rd)
	beat := time.NewTicker(x.heartbeat)
	defer beat.Stop()
	patience := time.NewTimer(x.patience)
	defer patience.Stop()
	if s.log.epoch == "" {
		patience.Stop() // a stream without event ids gains nothing by an early start
	}
	silent := false
	for !silent {
		said, finished := s.progress()
		if said {
			break
		}
		if finished {
			x.finishAtOnce(w, s, list)
			return
		}
		select {
		case <-rd.wake:
		case <-patience.C:
			silent = true
		case <-beat.C:
			silent = true
		case <-r.Context().Done():
			return
		}
	}
	f := &delivery{s: s, rd: rd, events: x.metrics.start(w, streamPost), beat: beat}
	f.end(f.begin(r, silent))
}

// finishAtOnce writes answers that nothing precedes.
func (x *sender) finishAtOnce(w http.ResponseWriter, s *stream, list bool) {
	answers := s.answers()
	switch {
	case len(answers) == 0:
		events := x.metrics.start(w, streamPost)
		events.comment("cancelled")
		events.end(closedCancelled)
	case list:
		writeJSON(w, http.StatusOK, append(append([]byte{'['}, bytes.Join(answers, []byte{','})...), ']'))
	default:
		writeJSON(w, cmp.Or(s.status, http.StatusOK), answers[0])
	}
}

// listener is what a GET stream depends on besides its connection.
type listener struct {
	ended    <-chan struct{} // closed when the session ends
	shutdown func() bool     // whether the session ended because the hub stops
	pinger   pinger
}

// pinger checks whether the client still reads a stream. One goroutine uses it.
type pinger interface {
	// beat is called at each heartbeat. It returns a ping to write, or nil, and whether the
	// client still answers.
	beat() (ping []byte, alive bool)
	// sending is called before the ping that beat returned is written.
	sending()
}

// listen writes a GET stream from its beginning to the response, after a comment, and returns
// the reason why it ended.
func (x *sender) listen(w http.ResponseWriter, r *http.Request, s *stream, comment string, l *listener) string {
	return x.follow(w, s, s.reader, comment, l, func(f *delivery) string { return f.begin(r, false) })
}

// resume writes the rest of a stream to the response of a GET with a Last-Event-ID, and returns
// the reason why it ended. l is nil for the stream of a POST.
func (x *sender) resume(w http.ResponseWriter, r *http.Request, s *stream, rd *outlet, l *listener) string {
	return x.follow(w, s, rd, "resumed", l, func(f *delivery) string { return f.run(r) })
}

func (x *sender) follow(w http.ResponseWriter, s *stream, rd *outlet, comment string, l *listener, run func(*delivery) string) string {
	defer s.detach(rd)
	beat := time.NewTicker(x.heartbeat)
	defer beat.Stop()
	f := &delivery{listener: l, s: s, rd: rd, events: x.metrics.start(w, s.kind), beat: beat}
	if l != nil {
		f.draining = x.draining
	}
	why := closedUnwritten
	if f.events.comment(comment) { // the headers are sent with the first bytes
		why = run(f)
	}
	f.end(why)
	return why
}

// delivery writes one stream to one connection. One goroutine uses it.
type delivery struct {
	*listener                 // of a GET stream, which ends with its session; nil: none
	draining  <-chan struct{} // nil: the stream outlasts the drain
	s         *stream
	rd        *outlet
	events    *eventStream
	beat      *time.Ticker
}

// begin writes a stream from its beginning and returns the reason why it ended. With hello it
// writes something even if there is no message yet, because the headers are sent with the first bytes.
func (f *delivery) begin(r *http.Request, hello bool) string {
	ok := true
	switch id := f.s.begin(); {
	case id != "":
		ok = f.events.prime(id)
	case hello:
		ok = f.events.comment("keep-alive")
	}
	if !ok {
		return closedUnwritten
	}
	return f.run(r)
}

// run writes messages until the stream, the client, the session or the hub ends it, and returns
// the reason.
func (f *delivery) run(r *http.Request) string {
	var ended <-chan struct{}
	if f.listener != nil {
		ended = f.ended
	}
	for {
		if why := f.flush(ended); why != "" {
			return why
		}
		select {
		case <-f.rd.wake:
		case <-f.beat.C:
			if why := f.keepAlive(); why != "" {
				return why
			}
		case <-f.rd.displaced:
			return closedDisplaced
		case <-ended:
			if f.shutdown() {
				return f.stopping()
			}
			return closedSession
		case <-f.draining:
			return f.stopping()
		case <-r.Context().Done():
			return closedByClient
		}
	}
}

// flush writes the waiting messages, and returns a reason if the last one was written. It stops
// when the session ends.
func (f *delivery) flush(ended <-chan struct{}) string {
	for !isClosed(ended) {
		e, id, why := f.s.next(f.rd)
		if why == closedCancelled {
			f.events.comment("cancelled") // a cancelled request gets no response
		}
		if e == nil {
			return why
		}
		if !f.events.message(id, e.data) {
			return closedUnwritten
		}
		f.s.wrote(f.rd, e)
	}
	return ""
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// end detaches the stream and ends the connection.
func (f *delivery) end(why string) {
	f.s.detach(f.rd)
	f.events.end(why)
}

// keepAlive writes a comment, so that no proxy takes the connection for dead, and a ping where
// the pinger wants one.
func (f *delivery) keepAlive() string {
	if f.listener == nil {
		if !f.events.comment("keep-alive") {
			return closedUnwritten
		}
		return ""
	}
	ping, alive := f.pinger.beat()
	if !alive {
		return closedHalfOpen
	}
	ok := f.events.comment("keep-alive")
	if ok && ping != nil {
		f.pinger.sending()
		ok = f.events.message("", ping) // without an id: it concerns this connection alone
	}
	if !ok {
		return closedUnwritten
	}
	return ""
}

// stopping tells the client when to reconnect.
func (f *delivery) stopping() string {
	if f.s.log.primes {
		f.events.retry()
	}
	return closedShutdown
}
