package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// maxStreams bounds the GET streams that one session may hold at once.
const maxStreams = 8

// stream is a GET stream of a session.
type stream struct {
	out *queue
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
	cs, lease, ok := g.enter(w, r, "")
	if !ok {
		return
	}
	defer lease.Release()
	s := &stream{out: newQueue(&cs.queued)}
	if !cs.attach(s) {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the session has %d streams already", maxStreams))
		return
	}
	defer s.out.take() // what nobody reads any more
	defer cs.detach(s)
	g.cfg.Sessions.Note(cs.id, session.EventStreamOpened, "get_sse")
	cs.learnRoots(false)
	cs.listen()
	why := g.feed(w, r, cs, s)
	g.tel.closed.WithLabelValues("get_sse", why).Inc()
	g.cfg.Sessions.Note(cs.id, session.EventStreamClosed, "get_sse: "+why)
}

// Why a stream ended, for its event and metric.
const (
	closedByClient  = "client"      // it went away
	closedSession   = "session"     // its session has ended
	closedShutdown  = "shutdown"    // the hub stops
	closedUnwritten = "write_error" // a write failed or took too long
	closedHalfOpen  = "half_open"   // pings that the client used to answer are not answered any more
)

// feed writes what comes until the client, the session or the hub goes away,
// and says which.
func (g *Gateway) feed(w http.ResponseWriter, r *http.Request, cs *clientSession, s *stream) string {
	events := g.startEvents(w, "get_sse")
	defer events.end()
	if !events.comment("stream of session " + cs.id) { // the headers go out with the first bytes
		return closedUnwritten
	}
	probe := &prober{cs: cs}
	defer probe.stop()
	beat := time.NewTicker(g.cfg.heartbeat())
	defer beat.Stop()
	for {
		ok := true
		select {
		case <-s.out.ready:
			for _, m := range s.out.take() {
				if ok = events.message(m); !ok {
					break
				}
			}
		case <-beat.C:
			ping, alive := probe.beat()
			if !alive {
				return closedHalfOpen
			}
			if ok = events.comment("keep-alive"); ok && ping != nil {
				g.tel.messages.Add(upstream.Out, *ping)
				ok = events.message(ping.Encode())
			}
		case <-cs.ctx.Done():
			if errors.Is(context.Cause(cs.ctx), endedError{session.Shutdown}) {
				return closedShutdown
			}
			return closedSession
		case <-g.draining:
			return closedShutdown
		case <-r.Context().Done():
			return closedByClient
		}
		if !ok {
			return closedUnwritten
		}
	}
}
