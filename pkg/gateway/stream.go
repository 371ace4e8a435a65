package gateway

import (
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// maxStreams bounds the GET streams that one session may hold at once.
const maxStreams = 8

// stream is a GET stream of a session.
type stream struct {
	out chan []byte
}

// get opens a stream for what the servers send that belongs to no request.
func (g *Gateway) get(w http.ResponseWriter, r *http.Request) {
	if !accepts(r, typeEvents) {
		refuse(w, http.StatusNotAcceptable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	if !checkHeaders(w, r, "") {
		return
	}
	token, ok := sessionToken(w, r, "")
	if !ok {
		return
	}
	lease, err := g.cfg.Sessions.Acquire(r.Context(), token, g.principal(r))
	if err != nil {
		refuseSession(w, "", err)
		return
	}
	defer lease.Release()
	live, err := lease.Live(r.Context())
	if err != nil {
		refuseSession(w, "", err)
		return
	}
	cs := live.(*clientSession) //nolint:forcetypeassert // Open makes no other
	s := &stream{out: make(chan []byte, streamQueue)}
	if !cs.attach(s) {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session has %d streams already", maxStreams))
		return
	}
	defer cs.detach(s)
	g.feed(w, r, cs, s)
}

// feed writes what comes until the client, the session or the hub goes away.
func (g *Gateway) feed(w http.ResponseWriter, r *http.Request, cs *clientSession, s *stream) {
	events := g.startEvents(w, "get_sse")
	defer events.end()
	if !events.comment("stream of session " + cs.id) { // the headers go out with the first bytes
		return
	}
	beat := time.NewTicker(g.cfg.heartbeat())
	defer beat.Stop()
	for {
		ok := true
		select {
		case m := <-s.out:
			ok = events.message(m)
		case <-beat.C:
			ok = events.comment("keep-alive")
		case <-cs.ctx.Done():
			ok = false
		case <-g.draining:
			ok = false
		case <-r.Context().Done():
			ok = false
		}
		if !ok {
			return
		}
	}
}
