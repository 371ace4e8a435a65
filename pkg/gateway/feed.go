package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// Why a stream was not written any more, for its event and metric.
const (
	closedAnswered  = "answered"    // all is written
	closedCancelled = "cancelled"   // the client took the request back
	closedByClient  = "client"      // it went away
	closedSession   = "session"     // its session has ended
	closedShutdown  = "shutdown"    // the hub stops
	closedUnwritten = "write_error" // a write failed or took too long
	closedHalfOpen  = "half_open"   // pings that the client used to answer are not answered any more
	closedDisplaced = "displaced"   // the client reads it over another connection
)

// respond writes the response to a POST whose answers come on s: one JSON
// object, or a list of them, if they are all there is to say and come soon, and
// a stream of events otherwise.
func (g *Gateway) respond(w http.ResponseWriter, r *http.Request, s *stream, list bool) {
	rd := s.reader // nobody can displace it before the stream has begun
	defer s.detach(rd)
	beat := time.NewTicker(g.cfg.heartbeat())
	defer beat.Stop()
	patience := time.NewTimer(g.cfg.patience())
	defer patience.Stop()
	if s.log.epoch == "" {
		patience.Stop() // nothing is gained by beginning early
	}
	silent := false
	for !silent {
		said, finished := s.progress()
		if said {
			break
		}
		if finished {
			g.finishAtOnce(w, s, list)
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
	f := &feed{g: g, s: s, rd: rd, events: g.tel.startEvents(w, streamPost), beat: beat}
	f.end(f.begin(r, silent))
}

// finishAtOnce writes answers before which nothing was said.
func (g *Gateway) finishAtOnce(w http.ResponseWriter, s *stream, list bool) {
	answers := s.answers()
	switch {
	case len(answers) == 0:
		events := g.tel.startEvents(w, streamPost)
		events.comment("cancelled")
		events.end(closedCancelled)
	case list:
		writeJSON(w, http.StatusOK, append(append([]byte{'['}, bytes.Join(answers, []byte{','})...), ']'))
	default:
		writeJSON(w, cmp.Or(s.status, http.StatusOK), answers[0])
	}
}

// feed writes a stream to a connection. It is used by one goroutine.
type feed struct {
	g      *Gateway
	cs     *clientSession // of a GET stream, which ends with it
	s      *stream
	rd     *outlet
	events *eventStream
	beat   *time.Ticker
	probe  *prober // of a GET stream
}

// begin writes a stream from its beginning on, and says why it ended. With
// hello it writes something although there is nothing to say, since the headers
// go out with the first bytes.
func (f *feed) begin(r *http.Request, hello bool) string {
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

// run writes what comes until the stream, the client, the session or the hub
// is done, and says which.
func (f *feed) run(r *http.Request) string {
	var ended, draining <-chan struct{}
	if f.cs != nil {
		ended, draining = f.cs.ctx.Done(), f.g.draining
	}
	for {
		if why := f.flush(); why != "" {
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
			if errors.Is(context.Cause(f.cs.ctx), endedError{session.Shutdown}) {
				return f.shutdown()
			}
			return closedSession
		case <-draining:
			return f.shutdown()
		case <-r.Context().Done():
			return closedByClient
		}
	}
}

// flush writes what waits, and says why if that was the last.
func (f *feed) flush() string {
	for f.cs == nil || f.cs.ctx.Err() == nil { // what waits is not worth the wait when the session has ended
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

// end lets go of the stream and then of the connection.
func (f *feed) end(why string) {
	f.s.detach(f.rd)
	f.events.end(why)
}

// keepAlive keeps the connection from looking dead, and finds out whether it is.
func (f *feed) keepAlive() string {
	if f.probe == nil {
		if !f.events.comment("keep-alive") {
			return closedUnwritten
		}
		return ""
	}
	ping, alive := f.probe.beat()
	if !alive {
		return closedHalfOpen
	}
	ok := f.events.comment("keep-alive")
	if ok && ping != nil {
		f.probe.sent(*ping)
		ok = f.events.message("", ping.Encode()) // of this connection alone
	}
	if !ok {
		return closedUnwritten
	}
	return ""
}

// shutdown tells the client when to come back.
func (f *feed) shutdown() string {
	if f.s.log.primes {
		f.events.retry()
	}
	return closedShutdown
}
