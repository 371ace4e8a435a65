package session

import (
	"slices"
	"sync"
	"time"
)

// Event is something that happened to a session.
type Event struct {
	Seq       int64     `json:"seq"` // grows by one with each event of the process
	Time      time.Time `json:"time"`
	SessionID string    `json:"sessionId"`
	Type      EventType `json:"type"`
	Detail    string    `json:"detail,omitempty"` // why, which server, which stream
}

// EventType names what happened.
type EventType string

// The types of events. The Manager notes the first ones itself; the others are
// for whoever runs the live half of a session.
const (
	EventCreated     EventType = "created"
	EventInitialised EventType = "initialised"
	EventRestored    EventType = "restored"
	EventFlushFailed EventType = "flush_failed"
	EventEnded       EventType = "ended"

	EventStreamOpened          EventType = "stream_opened"
	EventStreamClosed          EventType = "stream_closed"
	EventUpstreamInitialised   EventType = "upstream_initialised"
	EventUpstreamReinitialised EventType = "upstream_reinitialised"
)

const (
	maxEvents = 32  // kept per session
	maxEnded  = 256 // ended sessions of a kind whose events are kept
	maxDetail = 256 // bytes; client names and errors come from outside
)

// events keeps the last events of each session, of some ended ones too, and
// passes new ones on to those that watch. The zero value is ready.
type events struct {
	mu       sync.Mutex
	seq      int64
	bySess   map[string][]Event
	ended    map[Kind][]string // oldest first; strangers decide how many derived sessions end
	watchers map[*Watch]bool
}

// Watch receives events as they happen. Close it when done.
type Watch struct {
	C      <-chan Event
	events *events
	send   chan Event
	lost   int64 // guarded by events.mu
}

// Lost returns how many events the watcher was too slow for, and forgets them.
func (w *Watch) Lost() int64 {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	n := w.lost
	w.lost = 0
	return n
}

// Close ends the watch; C gets no more events.
func (w *Watch) Close() {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	delete(w.events.watchers, w)
}

// Watch returns a Watch that holds up to buffer events for a slow reader.
func (m *Manager) Watch(buffer int) *Watch {
	ch := make(chan Event, buffer)
	w := &Watch{C: ch, send: ch, events: &m.events}
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	if m.events.watchers == nil {
		m.events.watchers = map[*Watch]bool{}
	}
	m.events.watchers[w] = true
	return w
}

// Events returns what happened to the session lately, oldest first; of a
// session that has ended only as long as it is remembered. It is nil if nothing
// is known.
func (m *Manager) Events(id string) []Event {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	return slices.Clone(m.events.bySess[id])
}

// Note adds an event to a live session. It does nothing for another.
func (m *Manager) Note(id string, what EventType, detail string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.live[id]; e != nil && e.published {
		m.note(id, what, detail)
	}
}

// note adds an event. It never waits for a watcher. The caller holds Manager.mu:
// the first event of a session says how it came to be, the last why it ended.
func (m *Manager) note(id string, what EventType, detail string) {
	x := &m.events
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seq++
	ev := Event{Seq: x.seq, Time: time.Now(), SessionID: id, Type: what, Detail: clip(detail, maxDetail)}
	if x.bySess == nil {
		x.bySess = map[string][]Event{}
	}
	kept := x.bySess[id]
	if len(kept) == maxEvents {
		kept = slices.Delete(kept, 0, 1)
	}
	x.bySess[id] = append(kept, ev)
	for w := range x.watchers {
		select {
		case w.send <- ev:
		default:
			w.lost++
			m.metrics.eventsLost.Inc()
		}
	}
}

// forgetLater keeps the events of an ended session until maxEnded others of its
// kind have ended.
func (x *events) forgetLater(kind Kind, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended == nil {
		x.ended = map[Kind][]string{}
	}
	ended := x.ended[kind]
	if len(ended) == maxEnded {
		delete(x.bySess, ended[0])
		ended = slices.Delete(ended, 0, 1)
	}
	x.ended[kind] = append(ended, id)
}
