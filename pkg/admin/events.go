package admin

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

const eventBuffer = 256 // events that wait for a slow client, per stream

// sessionEvents answers with the last events of one session.
func (a *api) sessionEvents(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("sessionId")
	events := a.cfg.Sessions.Events(id)
	if events == nil {
		if _, err := a.cfg.Sessions.Info(r.Context(), id); err != nil {
			a.sessionProblem(w, r, err)
			return
		}
		events = append([]session.Event{}, a.cfg.Sessions.Events(id)...) // Info may have loaded the session
	}
	a.writeJSON(w, r, http.StatusOK, EventList{Events: events, Count: len(events)})
}

// events streams the events of all sessions, or with ?session= of one session,
// as server-sent events. The event "lost" reports events that were dropped
// because the client reads too slowly.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	out := newEventStream(w)
	if r.Method == http.MethodHead { // a stream without a reader would keep its token and connection
		return
	}
	p := a.places[placeEvents].enter(r)
	defer a.places[placeEvents].leave(p)
	watch := a.cfg.Sessions.WatchEvents(eventBuffer)
	defer watch.Close()
	streamEvents(r.WithContext(p.ctx), out, watch)
	if p.isDisplaced() {
		_ = out.comment("ended: " + errDisplaced.Error())
	}
}

// streamEvents writes the events of watch until the client is gone, reads too
// slowly, or loses its place.
func streamEvents(r *http.Request, out eventStream, watch *session.EventWatch) {
	only := r.URL.Query().Get("session")
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	for err := out.comment("session events"); err == nil; {
		select {
		case ev := <-watch.C:
			if only == "" || ev.SessionID == only {
				data, _ := json.Marshal(ev)
				err = out.event(strconv.FormatInt(ev.Seq, 10), string(ev.Type), data)
			}
		case <-beat.C:
			err = out.comment("keep-alive")
		case <-r.Context().Done():
			return
		}
		if lost := watch.Lost(); err == nil && lost > 0 {
			err = writeLost(out, lost)
		}
	}
}

// writeLost reports that n events or messages are missing at this place.
func writeLost(out eventStream, n int64) error {
	data, _ := json.Marshal(Lost{Count: n})
	return out.event("", lostEvent, data)
}
