package stream

import (
	"cmp"
	"net/http"
	"time"
)

// Sender writes streams to HTTP responses. Its methods may be called concurrently.
type Sender struct {
	Metrics   *Metrics
	Heartbeat time.Duration   // interval of comments, and of pings on GET streams
	Patience  time.Duration   // wait for an answer before the response becomes an event stream
	Draining  <-chan struct{} // closed when the hub stops
}

// Respond writes the response to a POST whose answers come on s: one JSON object, or a list of
// them, if there is nothing else to send and they come soon, and an event stream otherwise.
func (x *Sender) Respond(w http.ResponseWriter, r *http.Request, s *Stream, list bool) {
	rd := s.reader // it cannot be displaced before the first event id is written
	defer s.detach(rd)
	beat := time.NewTicker(x.Heartbeat)
	defer beat.Stop()
	patience := time.NewTimer(x.Patience)
	defer patience.Stop()
	if s.log.epoch == "" {
		patience.Stop() // an early start lets the client resume, which is not possible without event ids
	}
	silent := false
	for !silent {
		hasMessages, finished := s.progress()
		if hasMessages {
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
	f := &writer{s: s, rd: rd, events: x.Metrics.Start(w, KindPost), beat: beat}
	f.end(f.begin(r, silent))
}

// finishAtOnce writes the answers of a stream that has no other messages.
func (x *Sender) finishAtOnce(w http.ResponseWriter, s *Stream, list bool) {
	answers := s.Messages()
	switch {
	case len(answers) == 0:
		events := x.Metrics.Start(w, KindPost)
		events.Comment("cancelled")
		events.End(Cancelled)
	case list:
		writeList(w, answers)
	default:
		WriteJSON(w, cmp.Or(s.Status, http.StatusOK), answers[0])
	}
}

// Listener is what a GET stream depends on besides its connection.
type Listener struct {
	Ended    <-chan struct{} // closed when the session ends
	Shutdown func() bool     // whether the session ended because the hub stops
	Pinger   Pinger
}

// Pinger checks whether the client still reads a stream. One goroutine uses it.
type Pinger interface {
	// Beat is called at each heartbeat. It returns a ping to write, or nil, and whether the
	// client still answers.
	Beat() (ping []byte, alive bool)
	// Sending is called before the ping that Beat returned is written.
	Sending()
}

// Listen writes a GET stream from its beginning to the response, after a comment, and returns
// the reason why it ended.
func (x *Sender) Listen(w http.ResponseWriter, r *http.Request, s *Stream, comment string, l *Listener) Reason {
	return x.follow(w, s, s.reader, comment, l, func(f *writer) Reason { return f.begin(r, false) })
}

// Resume writes the rest of a stream to the response of a GET with a Last-Event-ID, and returns
// the reason why it ended. l is nil for the stream of a POST.
func (x *Sender) Resume(w http.ResponseWriter, r *http.Request, s *Stream, rd *Reader, l *Listener) Reason {
	return x.follow(w, s, rd, "resumed", l, func(f *writer) Reason { return f.run(r) })
}

// follow writes a comment and then what run writes, and returns the reason why the stream ended.
func (x *Sender) follow(w http.ResponseWriter, s *Stream, rd *Reader, comment string, l *Listener, run func(*writer) Reason) Reason {
	defer s.detach(rd)
	beat := time.NewTicker(x.Heartbeat)
	defer beat.Stop()
	f := &writer{Listener: l, s: s, rd: rd, events: x.Metrics.Start(w, s.Kind), beat: beat}
	if l != nil {
		f.draining = x.Draining
	}
	why := WriteFailed
	if f.events.Comment(comment) { // the headers are sent with the first bytes
		why = run(f)
	}
	f.end(why)
	return why
}

// writer writes one stream to one connection. One goroutine uses it.
type writer struct {
	*Listener                 // of a GET stream, which ends with its session; nil: none
	draining  <-chan struct{} // nil: the stream outlasts the drain
	s         *Stream
	rd        *Reader
	events    *Events
	beat      *time.Ticker
}

// begin writes a stream from its beginning and returns the reason why it ended. With hello it
// writes something even if there is no message yet, because the headers are sent with the first bytes.
func (f *writer) begin(r *http.Request, hello bool) Reason {
	ok := true
	switch id := f.s.begin(); {
	case id != "":
		ok = f.events.prime(id)
	case hello:
		ok = f.events.Comment("keep-alive")
	}
	if !ok {
		return WriteFailed
	}
	return f.run(r)
}

// run writes messages until the stream, the client, the session or the hub ends it, and returns
// the reason.
func (f *writer) run(r *http.Request) Reason {
	var ended <-chan struct{}
	if f.Listener != nil {
		ended = f.Ended
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
			return Displaced
		case <-ended:
			if f.Shutdown() {
				return f.stopping()
			}
			return SessionEnded
		case <-f.draining:
			return f.stopping()
		case <-r.Context().Done():
			return ClientGone
		}
	}
}

// flush writes the waiting messages. It returns a reason if the stream has ended, or an empty string. It stops when the
// session ends.
func (f *writer) flush(ended <-chan struct{}) Reason {
	for !isClosed(ended) {
		e, id, why := f.s.next(f.rd)
		if why == Cancelled {
			f.events.Comment("cancelled") // a cancelled request gets no response
		}
		if e == nil {
			return why
		}
		if !f.events.Message(id, e.data) {
			return WriteFailed
		}
		f.s.wrote(f.rd, e)
	}
	return ""
}

// isClosed reports whether ch is closed. A nil channel is not.
func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// end detaches the stream and ends the connection.
func (f *writer) end(why Reason) {
	f.s.detach(f.rd)
	f.events.End(why)
}

// keepAlive writes a comment, so that no proxy closes an idle connection, and a ping if the pinger returns one.
func (f *writer) keepAlive() Reason {
	if f.Listener == nil {
		if !f.events.Comment("keep-alive") {
			return WriteFailed
		}
		return ""
	}
	ping, alive := f.Pinger.Beat()
	if !alive {
		return HalfOpen
	}
	ok := f.events.Comment("keep-alive")
	if ok && ping != nil {
		f.Pinger.Sending()
		ok = f.events.Message("", ping) // without an id: it concerns this connection alone
	}
	if !ok {
		return WriteFailed
	}
	return ""
}

// stopping tells the client when to reconnect, and returns the reason Shutdown.
func (f *writer) stopping() Reason {
	if f.s.log.primes {
		f.events.retry()
	}
	return Shutdown
}
