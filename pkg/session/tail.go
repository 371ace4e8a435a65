package session

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Message is one message that went by for a session, as a Tail tells of it.
type Message struct {
	Seq       int64           `json:"seq"` // grows by one with each message of the tail, lost ones included
	Time      time.Time       `json:"time"`
	SessionID string          `json:"sessionId"`
	Hop       string          `json:"hop"`                // downstream, to the client, or backend, to a server
	Server    string          `json:"server,omitempty"`   // of a backend
	Direction string          `json:"direction"`          // in or out, seen from the hub
	Kind      string          `json:"kind"`               // request, response, notification or error
	Method    string          `json:"method,omitempty"`   // of a response: what it answers
	Target    string          `json:"target,omitempty"`   // the tool or prompt
	ID        json.RawMessage `json:"id,omitempty"`       // of the request
	Size      int             `json:"size"`               // bytes of params, result or error
	Seconds   *float64        `json:"duration,omitempty"` // s, from the request to its response
	Outcome   string          `json:"outcome,omitempty"`  // of a response: ok, an error code, tool_error, ...
	Fault     string          `json:"fault,omitempty"`    // whose doing the outcome is
	TraceID   string          `json:"traceId,omitempty"`

	Payload    json.RawMessage `json:"payload,omitempty"` // params, result or error, redacted
	PayloadCut bool            `json:"payloadCut,omitempty"`
}

// Failed reports whether m says that something went wrong, or was cancelled.
func (m Message) Failed() bool { return m.Outcome != "" && m.Outcome != "ok" }

// Took notes how long it was from the request that m answers until now.
func (m *Message) Took(since time.Time) {
	s := time.Since(since).Seconds()
	m.Seconds = &s
}

const (
	maxMessageText    = 256     // bytes of a method or an id, which come from outside
	maxMessagePayload = 8 << 10 // bytes, about
)

// ErrClosed is reported for what cannot begin any more after Close.
var ErrClosed = errors.New("the hub is shutting down")

// TailConfig says what a Tail is to get.
type TailConfig struct {
	Buffer  int  // messages that wait for a slow reader
	Payload bool // with what the messages carry

	// Keep is asked for each message, before its payload is there; nil keeps
	// all. It must not block.
	Keep func(Message) bool
}

// Tail gets the messages of one session as they go by. Close it when done.
type Tail struct {
	C <-chan Message

	all  *tails
	id   string
	cfg  TailConfig
	send chan Message
	done chan struct{}

	// Guarded by tails.mu.
	seq   int64
	lost  int64
	ended Reason
}

// tails hands messages to those who follow a session. The zero value is ready.
type tails struct {
	active atomic.Int64 // tails there are
	mu     sync.Mutex   // taken after Manager.mu, if that is taken
	bySess map[string][]*Tail
}

// Tail begins to follow the messages of the session id, of either kind. What
// went by before is not kept anywhere. It fails with ErrNotFound where there is
// no such session, with ErrUnavailable, and with ErrClosed.
func (m *Manager) Tail(ctx context.Context, id string, cfg TailConfig) (*Tail, error) {
	e, err := m.lookup(ctx, id)
	if err != nil {
		return nil, err
	}
	ch := make(chan Message, cfg.Buffer)
	t := &Tail{C: ch, all: &m.tails, id: id, cfg: cfg, send: ch, done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, ErrClosed
	case e.ended != "":
		return nil, ErrNotFound
	}
	m.tails.add(t)
	return t, nil
}

// Done is closed when the session has ended, or the hub stops. Messages may
// still come for a moment.
func (t *Tail) Done() <-chan struct{} { return t.done }

// Ended says why Done is closed.
func (t *Tail) Ended() Reason {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	return t.ended
}

// Lost returns how many messages the reader was too slow for, and forgets them.
func (t *Tail) Lost() int64 {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	n := t.lost
	t.lost = 0
	return n
}

// Close ends the tail; C gets no more messages. It may be called again.
func (t *Tail) Close() {
	x := t.all
	x.mu.Lock()
	defer x.mu.Unlock()
	i := slices.Index(x.bySess[t.id], t)
	if i < 0 {
		return
	}
	x.active.Add(-1)
	// A new list: Passed may be reading the one that was.
	rest := slices.Delete(slices.Clone(x.bySess[t.id]), i, i+1)
	if len(rest) == 0 {
		delete(x.bySess, t.id)
		return
	}
	x.bySess[t.id] = rest
}

func (x *tails) add(t *Tail) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bySess == nil {
		x.bySess = map[string][]*Tail{}
	}
	x.bySess[t.id] = append(slices.Clip(x.bySess[t.id]), t)
	x.active.Add(1)
}

// end tells those who follow the session id that it has ended; "" stands for
// all sessions.
func (x *tails) end(id string, why Reason) {
	if x.active.Load() == 0 { // whoever adds one holds Manager.mu, as the caller does
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for of, tails := range x.bySess {
		for _, t := range tails {
			if (id == "" || of == id) && t.ended == "" {
				t.ended = why
				close(t.done)
			}
		}
	}
}

func (x *tails) of(id string) []*Tail {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bySess[id]
}

// Tailed reports whether anybody follows any session, at the cost of one atomic
// load. Only then Passed has something to do.
func (m *Manager) Tailed() bool { return m.tails.active.Load() > 0 }

// Passed hands a message to those who follow its session. It never waits for
// them. body is what the message carries: it is not kept, and nobody gets it but
// redacted and cut to a few KiB. Time is set here; so are Seq and Payload.
func (m *Manager) Passed(msg Message, body []byte) {
	tails := m.tails.of(msg.SessionID)
	if len(tails) == 0 {
		return
	}
	msg.Method = shownMethod(msg.Method)
	msg.ID = shownID(msg.ID)
	var payload json.RawMessage
	var cut bool
	for _, t := range tails {
		if t.cfg.Keep != nil && !t.cfg.Keep(msg) {
			continue
		}
		told := msg
		told.Payload, told.PayloadCut = nil, false
		if t.cfg.Payload && len(body) > 0 {
			if payload == nil {
				payload, cut = redact(body, maxMessagePayload)
			}
			told.Payload, told.PayloadCut = payload, cut
		}
		t.tell(m, told)
	}
}

// tell hands over a message, or counts it as lost.
func (t *Tail) tell(m *Manager, msg Message) {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	t.seq++
	msg.Seq, msg.Time = t.seq, time.Now() // here, so that times are in the order of the messages
	select {
	case t.send <- msg:
	default:
		t.lost++
		m.metrics.messagesLost.Inc()
	}
}

// shownMethod is a method as it may be shown: a client may have put anything there.
func shownMethod(method string) string {
	long := len(method) > maxMessageText+textAhead
	if long {
		method = method[:maxMessageText+textAhead]
	}
	text, cut := beginning(method, long, maxMessageText)
	if cut {
		text += "…"
	}
	return text
}

// shownID is the id of a message as it may be shown.
func shownID(id json.RawMessage) json.RawMessage {
	if len(id) == 0 {
		return nil
	}
	if text, _ := redact(id, maxMessageText); len(text) <= maxMessageText {
		return text
	}
	return json.RawMessage(`"[cut]"`)
}
