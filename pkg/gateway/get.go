package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// get opens a stream for what the servers send that belongs to no request, or
// goes on with one that the client has lost.
func (g *Gateway) get(w http.ResponseWriter, r *http.Request) {
	if refuseModern(w, r) {
		return
	}
	if !accepts(r, protocol.TypeEventStream) {
		refuse(w, http.StatusNotAcceptable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	if !g.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	last, ok := g.lastEvent(w, r)
	if !ok {
		return
	}
	cs, lease, ok := g.enter(w, r, jsonrpc.Message{})
	if !ok {
		return
	}
	defer lease.Release()
	if last.stream == "" {
		g.listen(w, r, cs)
		return
	}
	s, rd, became := cs.log().resume(last)
	outcome := became
	if became == resumeFull {
		outcome = resumeRefused
	}
	g.tel.streams.countResumed(last.kind(), outcome)
	switch {
	case became == resumeReplayed:
		g.goOn(w, r, cs, s, rd)
	case became == resumeRefused:
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the stream has no event with this Last-Event-ID yet"))
	case became == resumeFull:
		tooManyStreams(w)
	case last.kind() == streamGet:
		g.listen(w, r, cs) // it has missed something, and hears the rest
	default:
		g.unknownOutcome(w, cs, last.requests)
	}
}

// lastEvent reads the event id that the client goes on from, if it names one.
func (g *Gateway) lastEvent(w http.ResponseWriter, r *http.Request) (eventID, bool) {
	values := r.Header.Values(protocol.HeaderLastEventID)
	if len(values) == 0 || (len(values) == 1 && values[0] == "") {
		return eventID{}, true
	}
	id, ok := parseEventID(values[0])
	if ok && len(values) == 1 {
		return id, true
	}
	g.tel.streams.countResumed(streamGet, resumeRefused)
	text := "this Last-Event-ID is none of the hub's"
	if len(values) > 1 {
		text = "there is more than one Last-Event-ID header"
	}
	refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", text))
	return eventID{}, false
}

func tooManyStreams(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session has %d streams already", maxStreams))
}

// listen opens a new GET stream.
func (g *Gateway) listen(w http.ResponseWriter, r *http.Request, cs *clientSession) {
	s := cs.log().listen()
	if s == nil {
		tooManyStreams(w)
		return
	}
	g.noted(cs, s.kind, streamGet, func() string {
		l := cs.listener()
		defer l.stop()
		return g.sender.listen(w, r, s, "stream of session "+cs.id, l.listener)
	})
}

// goOn resumes a stream after a Last-Event-ID.
func (g *Gateway) goOn(w http.ResponseWriter, r *http.Request, cs *clientSession, s *stream, rd *outlet) {
	g.noted(cs, s.kind, s.kind+" resumed", func() string {
		if s.kind != streamGet {
			return g.sender.resume(w, r, s, rd, nil)
		}
		l := cs.listener()
		defer l.stop()
		return g.sender.resume(w, r, s, rd, l.listener)
	})
}

// noted runs write, which writes a stream, between two events of the session.
func (g *Gateway) noted(cs *clientSession, kind, opened string, write func() string) {
	g.cfg.Sessions.Note(cs.id, session.EventStreamOpened, opened)
	why := write()
	g.cfg.Sessions.Note(cs.id, session.EventStreamClosed, kind+": "+why)
}

// sessionListener is the part of a session in its GET stream.
type sessionListener struct {
	*listener
	prober *prober
}

// listener prepares the session for a GET stream: what waited for one is sent now. The caller
// stops the result.
func (cs *clientSession) listener() sessionListener {
	p := &prober{cs: cs}
	cs.learnRoots(false)
	cs.listen()
	return sessionListener{prober: p, listener: &listener{
		ended:    cs.ctx.Done(),
		shutdown: func() bool { return errors.Is(context.Cause(cs.ctx), endedError{session.Shutdown}) },
		pinger:   p,
	}}
}

func (l sessionListener) stop() { l.prober.stop() }

// unknownOutcome answers requests whose stream is not known any more, so that nobody
// waits for ever. They are not counted as responses: the requests were answered
// or lost where they were taken.
func (g *Gateway) unknownOutcome(w http.ResponseWriter, cs *clientSession, requests []jsonrpc.ID) {
	events := g.tel.streams.start(w, streamPost)
	why := closedAnswered
	for _, id := range requests {
		m := jsonrpc.NewError(id, jsonrpc.Errorf(jsonrpc.CodeInternal,
			"the outcome of the request is not known: the hub was restarted, or what it kept is gone"))
		g.show(cs.ctx, instrument.Out, m, instrument.About{})
		if !events.message("", m.Encode()) {
			why = closedUnwritten
			break
		}
	}
	events.end(why)
}
