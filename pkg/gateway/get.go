package gateway

import (
	"net/http"
	"time"

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
	g.tel.resumed.WithLabelValues(last.kind(), string(outcome)).Inc()
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
	g.tel.resumed.WithLabelValues(streamGet, string(resumeRefused)).Inc()
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
	g.follow(w, cs, s, s.reader, streamGet, "stream of session "+cs.id, func(f *feed) string { return f.begin(r, false) })
}

// goOn goes on with a stream after a Last-Event-ID.
func (g *Gateway) goOn(w http.ResponseWriter, r *http.Request, cs *clientSession, s *stream, rd *outlet) {
	g.follow(w, cs, s, rd, s.kind+" resumed", "resumed", func(f *feed) string { return f.run(r) })
}

// follow writes a stream to the connection of a GET.
func (g *Gateway) follow(w http.ResponseWriter, cs *clientSession, s *stream, rd *outlet, what, hello string, run func(*feed) string) {
	defer s.detach(rd)
	beat := time.NewTicker(g.cfg.heartbeat())
	defer beat.Stop()
	f := &feed{g: g, s: s, rd: rd, events: g.tel.startEvents(w, s.kind), beat: beat}
	g.cfg.Sessions.Note(cs.id, session.EventStreamOpened, what)
	if s.kind == streamGet {
		f.cs, f.probe = cs, &prober{cs: cs}
		defer f.probe.stop()
		cs.learnRoots(false)
		cs.listen()
	}
	why := closedUnwritten
	if f.events.comment(hello) { // the headers go out with the first bytes
		why = run(f)
	}
	f.end(why)
	g.cfg.Sessions.Note(cs.id, session.EventStreamClosed, s.kind+": "+why)
}

// unknownOutcome answers requests whose stream is not known any more, so that nobody
// waits for ever. They are not counted as responses: the requests were answered
// or lost where they were taken.
func (g *Gateway) unknownOutcome(w http.ResponseWriter, cs *clientSession, requests []jsonrpc.ID) {
	events := g.tel.startEvents(w, streamPost)
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
