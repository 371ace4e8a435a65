package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

const (
	watchBuffer = 256 // events that wait for a slow reader
	maxWatchers = 32  // streams of events at once
)

// sessionEvents answers with what happened to one session lately.
func (a *api) sessionEvents(w http.ResponseWriter, r *http.Request) {
	events := a.cfg.Sessions.Events(r.PathValue("sessionId"))
	if events == nil {
		if _, err := a.cfg.Sessions.Info(r.Context(), r.PathValue("sessionId")); err != nil {
			a.sessionProblem(w, r, err)
			return
		}
		events = append([]session.Event{}, a.cfg.Sessions.Events(r.PathValue("sessionId"))...) // it may have been loaded only now
	}
	a.answer(r.Context(), w, http.StatusOK, map[string]any{"events": events, "count": len(events)})
}

// events streams what happens to all sessions, or with ?session= to one, as
// server-sent events. A reader that is too slow is told how much it missed.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	eventStream(w)
	if r.Method == http.MethodHead { // would hold a place, and its connection, for no reader
		return
	}
	select {
	case a.watchers <- struct{}{}:
		defer func() { <-a.watchers }()
	default:
		w.Header().Set("Retry-After", "5")
		a.answer(r.Context(), w, http.StatusServiceUnavailable, problem{fmt.Sprintf("%d others watch already", maxWatchers)})
		return
	}
	watch := a.cfg.Sessions.Watch(watchBuffer)
	defer watch.Close()
	only := r.URL.Query().Get("session")
	out := newEventWriter(w)
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	for err := out.write(": session events\n\n"); err == nil; {
		select {
		case ev := <-watch.C:
			if only == "" || ev.SessionID == only {
				data, _ := json.Marshal(ev)
				err = out.write("id: %d\nevent: %s\ndata: %s\n\n", ev.Seq, ev.Type, data)
			}
		case <-beat.C:
			err = out.write(": keep-alive\n\n")
		case <-r.Context().Done():
			return
		}
		if lost := watch.Lost(); err == nil && lost > 0 {
			err = out.write("event: lost\ndata: {\"count\":%d}\n\n", lost)
		}
	}
}
