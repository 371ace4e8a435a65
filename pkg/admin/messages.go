package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

const (
	messageBuffer = 256                    // messages that wait for a slow client, per stream
	endGrace      = 250 * time.Millisecond // to send the messages that the end of the session causes
)

// messages streams the messages of one session as server-sent events until the
// session ends. The query selects messages, see MessageQuery: ?payload=,
// ?method= and ?errors=. The event "lost" reports messages that were dropped
// because the client reads too slowly; the event "end" is the last one.
func (a *api) messages(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("sessionId")
	query, err := parseMessageQuery(r.URL.Query())
	switch {
	case err != nil:
		a.writeProblem(w, r, http.StatusBadRequest, err.Error())
		return
	case query.Payload && !a.cfg.Payloads:
		a.writeProblem(w, r, http.StatusForbidden,
			"payloads are not shown by this hub; admin.payloads: true in its configuration allows it, after a restart")
		return
	case r.Method == http.MethodHead: // a stream without a reader would keep its token and connection
		a.messagesHead(w, r, id)
		return
	}
	tail, err := a.cfg.Sessions.Tail(r.Context(), id,
		session.TailConfig{Buffer: messageBuffer, IncludePayload: query.Payload, Filter: query.matches})
	if err != nil {
		a.sessionProblem(w, r, err)
		return
	}
	defer tail.Close()
	p := a.places[placeMessages].enter(r)
	defer a.places[placeMessages].leave(p)
	a.streamMessages(w, r.WithContext(p.ctx), id, query, tail)
}

func (a *api) messagesHead(w http.ResponseWriter, r *http.Request, id string) {
	if _, err := a.cfg.Sessions.Info(r.Context(), id); err != nil {
		a.sessionProblem(w, r, err)
		return
	}
	newEventStream(w)
}

// streamMessages writes the stream and logs who reads it: messages may hold
// personal data.
func (a *api) streamMessages(
	w http.ResponseWriter, r *http.Request, id string, query MessageQuery, tail *session.Tail,
) {
	reader := []any{"session", id, "remote", r.RemoteAddr, "payloads", query.Payload}
	start := time.Now()
	a.log.InfoContext(r.Context(), "somebody follows the messages of a session", reader...)
	s := &messageStream{out: newEventStream(w), tail: tail}
	why := s.run(r)
	a.log.InfoContext(r.Context(), "the messages of a session are not followed any more", append(reader,
		"why", why, "messages", s.written, "lost", s.lost, "took", time.Since(start).Round(time.Millisecond).String())...)
}

// messageStream writes the messages of a tail. It is used by one goroutine.
type messageStream struct {
	out           eventStream
	tail          *session.Tail
	written, lost int64
}

// run writes messages until the session ends or the client is gone, and
// returns which of them, for the log.
func (s *messageStream) run(r *http.Request) (why string) {
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	ended := s.tail.Done()
	var graceOver <-chan time.Time // set when the session has ended
	err := s.out.comment("session messages")
	for err == nil {
		select {
		case m := <-s.tail.C:
			err = s.writeMessage(m)
		case <-beat.C:
			err = s.out.comment("keep-alive")
		case <-ended:
			if s.tail.EndReason() == session.Shutdown { // no grace: the hub closes this connection soon
				return s.finish()
			}
			ended, graceOver = nil, time.After(endGrace)
		case <-graceOver:
			return s.finish()
		case <-r.Context().Done():
			if errors.Is(context.Cause(r.Context()), errDisplaced) {
				return s.end(Displaced, errDisplaced.Error())
			}
			return "the reader is gone"
		}
		if lost := s.tail.Lost(); err == nil && lost > 0 {
			s.lost += lost
			err = writeLost(s.out, lost)
		}
	}
	return err.Error()
}

func (s *messageStream) writeMessage(m session.Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	s.written++
	return s.out.event(strconv.FormatInt(m.Seq, 10), messageEvent, data)
}

// finish writes the buffered messages and the event "end". It returns why the
// stream ends, for the log.
func (s *messageStream) finish() string {
	for len(s.tail.C) > 0 {
		if err := s.writeMessage(<-s.tail.C); err != nil {
			return err.Error()
		}
	}
	reason := s.tail.EndReason()
	if reason == session.Shutdown {
		return s.end(reason, "the hub stops")
	}
	return s.end(reason, "the session has ended: "+string(reason))
}

// end writes the event "end". It returns why the stream ends, for the log.
func (s *messageStream) end(reason session.Reason, why string) string {
	data, _ := json.Marshal(End{Reason: reason})
	if err := s.out.event("", endEvent, data); err != nil {
		return err.Error()
	}
	return why
}
