package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

const (
	tailBuffer = 256                    // messages that wait for a slow reader
	maxTails   = 16                     // streams of messages at once
	lastWords  = 250 * time.Millisecond // for what the end of a session brings about
)

// tailRequest is what a reader of messages asks for.
type tailRequest struct {
	payload bool
	method  string
	errors  bool
}

// readTail reads the query of a request for messages.
func readTail(r *http.Request) (tailRequest, error) {
	query := r.URL.Query()
	t := tailRequest{method: query.Get("method")}
	for name, to := range map[string]*bool{"payload": &t.payload, "errors": &t.errors} {
		if text := query.Get(name); text != "" {
			var err error
			if *to, err = strconv.ParseBool(text); err != nil {
				return t, fmt.Errorf("%s must be true or false", name)
			}
		}
	}
	return t, nil
}

// keep says which messages the reader wants.
func (t tailRequest) keep(m session.Message) bool {
	return (t.method == "" || m.Method == t.method) && (!t.errors || m.Failed())
}

// messages streams the messages of one session as they go by, as server-sent
// events, until it ends: with ?payload=true what they carry, if the hub is
// configured so, with ?method= those of one method and the responses to them,
// with ?errors=true what went wrong. A reader that is too slow is told how much
// it missed.
func (a *api) messages(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("sessionId")
	wants, err := readTail(r)
	switch {
	case err != nil:
		a.answer(r.Context(), w, http.StatusBadRequest, problem{err.Error()})
		return
	case wants.payload && !a.cfg.Payloads:
		a.answer(r.Context(), w, http.StatusForbidden, problem{"payloads are not shown by this hub; admin.payloads: true in its configuration allows it, after a restart"})
		return
	case r.Method == http.MethodHead: // would hold a place, and its connection, for no reader
		a.headOfMessages(w, r, id)
		return
	}
	select {
	case a.tails <- struct{}{}:
		defer func() { <-a.tails }()
	default:
		w.Header().Set("Retry-After", "5")
		a.answer(r.Context(), w, http.StatusServiceUnavailable, problem{fmt.Sprintf("%d others follow the messages of a session already", maxTails)})
		return
	}
	tail, err := a.cfg.Sessions.Tail(r.Context(), id, session.TailConfig{Buffer: tailBuffer, Payload: wants.payload, Keep: wants.keep})
	if err != nil {
		a.sessionProblem(w, r, err)
		return
	}
	defer tail.Close()
	begun := time.Now()
	a.log.InfoContext(r.Context(), "somebody follows the messages of a session", "session", id, "remote", r.RemoteAddr, "payloads", wants.payload)
	f := &follower{eventWriter: newEventWriter(w), tail: tail}
	why := f.run(r)
	a.log.InfoContext(r.Context(), "the messages of a session are not followed any more", "session", id, "remote", r.RemoteAddr, "payloads", wants.payload,
		"why", why, "messages", f.written, "lost", f.lost, "took", time.Since(begun).Round(time.Millisecond).String())
}

func (a *api) headOfMessages(w http.ResponseWriter, r *http.Request, id string) {
	if _, err := a.cfg.Sessions.Info(r.Context(), id); err != nil {
		a.sessionProblem(w, r, err)
		return
	}
	eventStream(w)
}

// follower writes a tail to a connection. It is used by one goroutine.
type follower struct {
	eventWriter
	tail          *session.Tail
	written, lost int64
}

// run writes what comes until the session or the reader is gone, and says which.
func (f *follower) run(r *http.Request) string {
	eventStream(f.w)
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	ended := f.tail.Done()
	var over <-chan time.Time
	err := f.write(": session messages\n\n")
	for err == nil {
		select {
		case m := <-f.tail.C:
			err = f.message(m)
		case <-beat.C:
			err = f.write(": keep-alive\n\n")
		case <-ended:
			if f.tail.Ended() == session.Shutdown { // this listener will be closed, too
				return f.end()
			}
			ended, over = nil, time.After(lastWords)
		case <-over:
			return f.end()
		case <-r.Context().Done():
			return "the reader is gone"
		}
		if lost := f.tail.Lost(); err == nil && lost > 0 {
			f.lost += lost
			err = f.write("event: lost\ndata: {\"count\":%d}\n\n", lost)
		}
	}
	return err.Error()
}

func (f *follower) message(m session.Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f.written++
	return f.write("id: %d\nevent: message\ndata: %s\n\n", m.Seq, data)
}

// end tells why there is no more to come.
func (f *follower) end() string {
	for len(f.tail.C) > 0 {
		if err := f.message(<-f.tail.C); err != nil {
			return err.Error()
		}
	}
	why := f.tail.Ended()
	if err := f.write("event: end\ndata: {\"reason\":%q}\n\n", why); err != nil {
		return err.Error()
	}
	if why == session.Shutdown {
		return "the hub stops"
	}
	return "the session has ended: " + string(why)
}
