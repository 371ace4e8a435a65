package gateway

import (
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// get handles a GET: it opens a stream for the messages that belong to no request, or resumes a stream
// that the client has lost.
func (d *door) get(w http.ResponseWriter, r *http.Request) {
	if refuseModern(w, r) {
		return
	}
	if r.Header.Get(protocol.HeaderSessionID) == "" && answerWithoutSession(w, r) {
		return
	}
	if !accepts(r, protocol.TypeEventStream) {
		refuse(w, http.StatusNotAcceptable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	if !d.checkHeaders(w, r, jsonrpc.Message{}) {
		return
	}
	last, ok := d.lastEvent(w, r)
	if !ok {
		return
	}
	cs, lease, ok := d.enter(w, r, jsonrpc.Message{})
	if !ok {
		return
	}
	defer lease.Release()
	d.cfg.Sessions.LogUse(d.tel.WithRemoteParent(r.Context(), r), cs.id)
	if last.Stream == "" {
		d.listen(w, r, cs)
		return
	}
	s, rd, outcome := cs.streamLog().Resume(last)
	counted := outcome
	if outcome == stream.Full {
		counted = stream.Refused
	}
	d.streamMetrics.CountResumed(last.Kind(), counted)
	switch {
	case outcome == stream.Replayed:
		d.resume(w, r, cs, s, rd)
	case outcome == stream.Refused:
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"the stream has no event with this Last-Event-ID yet"))
	case outcome == stream.Full:
		tooManyStreams(w)
	case last.Kind() == stream.KindGet:
		d.listen(w, r, cs) // the client has missed messages, and gets the following ones
	default:
		d.unknownOutcome(w, cs, last.Requests)
	}
}

// answerWithoutSession answers a GET without a session that no client of Streamable HTTP sends: that of a browser, and
// that with which a client of HTTP+SSE (2024-11-05) begins. It reports whether it did.
func answerWithoutSession(w http.ResponseWriter, r *http.Request) bool {
	if wantsPage(r) {
		writePage(w, r, http.StatusOK)
		return true
	}
	if !accepts(r, protocol.TypeEventStream) || len(r.Header.Values(protocol.HeaderLastEventID)) > 0 {
		return false
	}
	refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the Mcp-Session-Id header is missing: "+
		`this endpoint speaks Streamable HTTP and not HTTP+SSE; in a client that is told "type": "sse", write "http". `+
		"A client of Streamable HTTP sends initialize by POST first and repeats the id it returns"))
	return true
}

// lastEvent returns the event id in Last-Event-ID, or the zero value if there is none. It rejects a request with an
// invalid id.
func (d *door) lastEvent(w http.ResponseWriter, r *http.Request) (stream.EventID, bool) {
	values := r.Header.Values(protocol.HeaderLastEventID)
	if len(values) == 0 || (len(values) == 1 && values[0] == "") {
		return stream.EventID{}, true
	}
	id, ok := stream.ParseEventID(values[0])
	if ok && len(values) == 1 {
		return id, true
	}
	d.streamMetrics.CountResumed(stream.KindGet, stream.Refused)
	text := "this Last-Event-ID was not issued by this hub"
	if len(values) > 1 {
		text = "there is more than one Last-Event-ID header"
	}
	refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "%s", text))
	return stream.EventID{}, false
}

// tooManyStreams refuses a GET stream beyond the limit of the session.
func tooManyStreams(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, "",
		jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session has %d streams already", stream.MaxStreams))
}

// listen opens a new GET stream.
func (d *door) listen(w http.ResponseWriter, r *http.Request, cs *clientSession) {
	s := cs.streamLog().NewGet()
	if s == nil {
		tooManyStreams(w)
		return
	}
	d.withEvents(cs, s.Kind, stream.KindGet, func() stream.Reason {
		l, stop := cs.listener()
		defer stop()
		return d.sender.Listen(w, r, s, "stream of session "+cs.id, l)
	})
}

// resume continues a stream after a Last-Event-ID.
func (d *door) resume(w http.ResponseWriter, r *http.Request, cs *clientSession, s *stream.Stream, rd *stream.Reader) {
	d.withEvents(cs, s.Kind, s.Kind+" resumed", func() stream.Reason {
		if s.Kind != stream.KindGet {
			return d.sender.Resume(w, r, s, rd, nil)
		}
		l, stop := cs.listener()
		defer stop()
		return d.sender.Resume(w, r, s, rd, l)
	})
}

// withEvents calls write, which writes a stream, between two events of the session.
func (d *door) withEvents(cs *clientSession, kind, opened string, write func() stream.Reason) {
	d.cfg.Sessions.AddEvent(cs.id, session.EventStreamOpened, opened)
	why := write()
	d.cfg.Sessions.AddEvent(cs.id, session.EventStreamClosed, kind+": "+string(why))
}

// unknownOutcome answers requests whose stream is no longer known, so that the client does not wait
// forever. The answers are not counted as responses: the requests ended where they were received.
func (d *door) unknownOutcome(w http.ResponseWriter, cs *clientSession, requests []jsonrpc.ID) {
	events := d.streamMetrics.Start(w, stream.KindPost)
	why := stream.Answered
	for _, id := range requests {
		m := jsonrpc.NewError(id, jsonrpc.Errorf(jsonrpc.CodeInternal,
			"the outcome of the request is not known: the hub was restarted, or what it kept is gone"))
		d.tel.Tap.Message(cs.ctx, instrument.Out, m, instrument.About{})
		if !events.Message("", m.Encode()) {
			why = stream.WriteFailed
			break
		}
	}
	events.End(why)
}
