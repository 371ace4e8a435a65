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

// Message describes one MCP message of a session for the readers of a Tail.
type Message struct {
	Seq       int64           `json:"seq"` // counts the messages of the tail, lost ones included
	Time      time.Time       `json:"time"`
	SessionID string          `json:"sessionId"`
	Hop       string          `json:"hop"`                // downstream (between client and hub) or backend (between hub and server)
	Server    string          `json:"server,omitempty"`   // name of the server, on hop backend
	Direction string          `json:"direction"`          // in or out, as seen by the hub
	Kind      string          `json:"kind"`               // request, response, notification or error
	Method    string          `json:"method,omitempty"`   // of a response: that of its request
	Target    string          `json:"target,omitempty"`   // name of the tool or prompt
	ID        json.RawMessage `json:"id,omitempty"`       // of the request
	Size      int             `json:"size"`               // bytes of params, result or error
	Seconds   *float64        `json:"duration,omitempty"` // s, from the request to its response
	Outcome   string          `json:"outcome,omitempty"`  // of a response: ok, an error code, tool_error, ...
	Fault     string          `json:"fault,omitempty"`    // who caused the outcome: client, hub or server
	TraceID   string          `json:"traceId,omitempty"`

	Payload    json.RawMessage `json:"payload,omitempty"` // params, result or error, redacted
	PayloadCut bool            `json:"payloadCut,omitempty"`
}

// Failed reports whether m has an outcome other than ok: an error or a cancellation.
func (m Message) Failed() bool { return m.Outcome != "" && m.Outcome != "ok" }

// SetDuration sets the duration of m to the time since the request was received or sent.
func (m *Message) SetDuration(since time.Time) {
	s := time.Since(since).Seconds()
	m.Seconds = &s
}

const (
	maxMessageText    = 256     // bytes of a method or an id, which come from outside
	maxMessagePayload = 8 << 10 // bytes of a payload, approximately
)

// ErrClosed is returned by Tail after Close.
var ErrClosed = errors.New("the hub is shutting down")

// TailConfig selects what a Tail gets.
type TailConfig struct {
	Buffer         int  // size of the buffer for a slow reader, in messages
	IncludePayload bool // include the redacted payloads

	// Keep selects messages; nil selects all. It is called before Payload is set,
	// and must not block.
	Filter func(Message) bool
}

// Tail receives the messages of one session as they happen. The caller closes it.
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

// tails distributes messages to the Tails of their session. The zero value is ready
// to use.
type tails struct {
	active atomic.Int64 // number of open tails
	mu     sync.Mutex   // lock order: Manager.mu, then this
	bySess map[string][]*Tail
}

// Tail returns a Tail of the session id, of either kind. It gets messages from now
// on; earlier ones are not kept. It fails with ErrNotFound if there is no such
// session, with ErrUnavailable, or with ErrClosed.
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

// Done returns a channel that is closed when the session has ended or the Manager
// is closed. A few more messages may follow.
func (t *Tail) Done() <-chan struct{} { return t.done }

// EndReason returns the reason why Done is closed, "" if it is not.
func (t *Tail) EndReason() Reason {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	return t.ended
}

// Lost returns how many messages were lost since the last call because the buffer
// was full.
func (t *Tail) Lost() int64 {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	n := t.lost
	t.lost = 0
	return n
}

// Close ends the tail. C gets no more messages. Further calls do nothing.
func (t *Tail) Close() {
	x := t.all
	x.mu.Lock()
	defer x.mu.Unlock()
	i := slices.Index(x.bySess[t.id], t)
	if i < 0 {
		return
	}
	x.active.Add(-1)
	// Copy the list, because Passed may be reading the old one.
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

// end closes Done of the tails of the session id; "" stands for all sessions. The
// caller holds Manager.mu.
func (x *tails) end(id string, why Reason) {
	if x.active.Load() == 0 { // no race: add is called with Manager.mu held too
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for tailed, tails := range x.bySess {
		for _, t := range tails {
			if (id == "" || tailed == id) && t.ended == "" {
				t.ended = why
				close(t.done)
			}
		}
	}
}

// of returns the tails of the session id. The caller must not change the slice.
func (x *tails) of(id string) []*Tail {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bySess[id]
}

// HasTails reports whether any session has a Tail. It costs one atomic load. If it
// reports false, Passed need not be called.
func (m *Manager) HasTails() bool { return m.tails.active.Load() > 0 }

// PublishMessage sends msg to the tails of its session. It never waits for a reader. body is
// the params, result or error of the message: it is not retained, and the tails get
// it redacted and cut to a few KiB. Passed sets Seq, Time and Payload of msg.
func (m *Manager) PublishMessage(msg Message, body []byte) {
	tails := m.tails.of(msg.SessionID)
	if len(tails) == 0 {
		return
	}
	msg.Method = redactMethod(msg.Method)
	msg.ID = redactID(msg.ID)
	var payload json.RawMessage
	var cut bool
	for _, t := range tails {
		if t.cfg.Filter != nil && !t.cfg.Filter(msg) {
			continue
		}
		out := msg
		out.Payload, out.PayloadCut = nil, false
		if t.cfg.IncludePayload && len(body) > 0 {
			if payload == nil {
				payload, cut = redact(body, maxMessagePayload)
			}
			out.Payload, out.PayloadCut = payload, cut
		}
		t.deliver(m, out)
	}
}

// deliver puts msg into the buffer, or counts it as lost if that is full.
func (t *Tail) deliver(m *Manager, msg Message) {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	t.seq++
	msg.Seq, msg.Time = t.seq, time.Now() // under the lock, so that times have the order of the messages
	select {
	case t.send <- msg:
	default:
		t.lost++
		m.metrics.messagesLost.Inc()
	}
}

// redactMethod returns method without secrets and cut to a limit: a client may have
// put anything there.
func redactMethod(method string) string {
	long := len(method) > maxMessageText+lookahead
	if long {
		method = method[:maxMessageText+lookahead]
	}
	text, cut := redactPrefix(method, long, maxMessageText)
	if cut {
		text += "…"
	}
	return text
}

// redactID returns the id of a message without secrets; a long one is replaced.
func redactID(id json.RawMessage) json.RawMessage {
	if len(id) == 0 {
		return nil
	}
	if text, _ := redact(id, maxMessageText); len(text) <= maxMessageText {
		return text
	}
	return json.RawMessage(`"[cut]"`)
}
