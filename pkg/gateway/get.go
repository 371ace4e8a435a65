package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
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
	if last.Stream == "" {
		g.listen(w, r, cs)
		return
	}
	s, rd, became := cs.log().Resume(last)
	outcome := became
	if became == stream.Full {
		outcome = stream.Refused
	}
	g.tel.streams.CountResumed(last.Kind(), outcome)
	switch {
	case became == stream.Replayed:
		g.goOn(w, r, cs, s, rd)
	case became == stream.Refused:
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the stream has no event with this Last-Event-ID yet"))
	case became == stream.Full:
		tooManyStreams(w)
	case last.Kind() == stream.KindGet:
		g.listen(w, r, cs) // it has missed something, and hears the rest
	default:
		g.unknownOutcome(w, cs, last.Requests)
	}
}

// lastEvent reads the event id that the client goes on from, if it names one.
func (g *Gateway) lastEvent(w http.ResponseWriter, r *http.Request) (stream.EventID, bool) {
	values := r.Header.Values(protocol.HeaderLastEventID)
	if len(values) == 0 || (len(values) == 1 && values[0] == "") {
		return stream.EventID{}, true
	}
	id, ok := stream.ParseEventID(values[0])
	if ok && len(values) == 1 {
		return id, true
	}
	g.tel.streams.CountResumed(stream.KindGet, stream.Refused)
	text := "this Last-Event-ID is none of the hub's"
	if len(values) > 1 {
		text = "there is more than one Last-Event-ID header"
	}
	refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", text))
	return stream.EventID{}, false
}

func tooManyStreams(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session has %d streams already", stream.MaxStreams))
}

// listen opens a new GET stream.
func (g *Gateway) listen(w http.ResponseWriter, r *http.Request, cs *clientSession) {
	s := cs.log().NewGet()
	if s == nil {
		tooManyStreams(w)
		return
	}
	g.noted(cs, s.Kind, stream.KindGet, func() stream.Reason {
		l := cs.listener()
		defer l.stop()
		return g.sender.Listen(w, r, s, "stream of session "+cs.id, l.Listener)
	})
}

// goOn resumes a stream after a Last-Event-ID.
func (g *Gateway) goOn(w http.ResponseWriter, r *http.Request, cs *clientSession, s *stream.Stream, rd *stream.Reader) {
	g.noted(cs, s.Kind, s.Kind+" resumed", func() stream.Reason {
		if s.Kind != stream.KindGet {
			return g.sender.Resume(w, r, s, rd, nil)
		}
		l := cs.listener()
		defer l.stop()
		return g.sender.Resume(w, r, s, rd, l.Listener)
	})
}

// noted runs write, which writes a stream, between two events of the session.
func (g *Gateway) noted(cs *clientSession, kind, opened string, write func() stream.Reason) {
	g.cfg.Sessions.Note(cs.id, session.EventStreamOpened, opened)
	why := write()
	g.cfg.Sessions.Note(cs.id, session.EventStreamClosed, kind+": "+string(why))
}

// sessionListener is the part of a session in its GET stream.
type sessionListener struct {
	*stream.Listener
	prober *prober
}

// listener prepares the session for a GET stream: what waited for one is sent now. The caller
// stops the result.
func (cs *clientSession) listener() sessionListener {
	p := &prober{cs: cs}
	cs.learnRoots(false)
	cs.listen()
	return sessionListener{prober: p, Listener: &stream.Listener{
		Ended:    cs.ctx.Done(),
		Shutdown: func() bool { return errors.Is(context.Cause(cs.ctx), endedError{session.Shutdown}) },
		Pinger:   p,
	}}
}

func (l sessionListener) stop() { l.prober.stop() }

// unknownOutcome answers requests whose stream is not known any more, so that nobody
// waits for ever. They are not counted as responses: the requests were answered
// or lost where they were taken.
func (g *Gateway) unknownOutcome(w http.ResponseWriter, cs *clientSession, requests []jsonrpc.ID) {
	events := g.tel.streams.Start(w, stream.KindPost)
	why := stream.Answered
	for _, id := range requests {
		m := jsonrpc.NewError(id, jsonrpc.Errorf(jsonrpc.CodeInternal,
			"the outcome of the request is not known: the hub was restarted, or what it kept is gone"))
		g.show(cs.ctx, instrument.Out, m, instrument.About{})
		if !events.Message("", m.Encode()) {
			why = stream.WriteFailed
			break
		}
	}
	events.End(why)
}
