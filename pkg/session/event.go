package session

import (
	"slices"
	"sync"
	"time"
)

// Event is an entry in the history of a session.
type Event struct {
	Seq       int64     `json:"seq"` // grows by one with each event of the process
	Time      time.Time `json:"time"`
	SessionID string    `json:"sessionId"`
	Type      EventType `json:"type"`
	Detail    string    `json:"detail,omitempty"` // the reason, the server or the stream
}

// EventType says what happened.
type EventType string

// The types of events. The first group is recorded by the Manager itself, the
// second by the owner of a Live through Manager.AddEvent.
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
	maxEvents = 32  // events kept per session
	maxEnded  = 256 // ended sessions of each kind whose events are kept
	maxDetail = 256 // bytes of Event.Detail, which may come from outside
)

// events keeps the last events of each live session and of the latest ended ones,
// and sends new events to the watchers. The zero value is ready to use.
type events struct {
	mu       sync.Mutex
	seq      int64
	bySess   map[string][]Event
	ended    map[Kind][]string // ids, oldest first; by kind, because clients decide how many derived sessions end
	watchers map[*EventWatch]bool
}

// EventWatch receives events as they happen. The caller closes it.
type EventWatch struct {
	C      <-chan Event
	events *events
	send   chan Event
	lost   int64 // guarded by events.mu
}

// Lost returns how many events were lost since the last call because the buffer
// was full.
func (w *EventWatch) Lost() int64 {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	n := w.lost
	w.lost = 0
	return n
}

// Close ends the watch. C gets no more events.
func (w *EventWatch) Close() {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	delete(w.events.watchers, w)
}

// WatchEvents returns an EventWatch of the events of all sessions with a buffer of that size.
func (m *Manager) WatchEvents(buffer int) *EventWatch {
	ch := make(chan Event, buffer)
	w := &EventWatch{C: ch, send: ch, events: &m.events}
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	if m.events.watchers == nil {
		m.events.watchers = map[*EventWatch]bool{}
	}
	m.events.watchers[w] = true
	return w
}

// Events returns the last events of the session id, oldest first. Those of an ended
// session are kept until 256 others of its kind have ended. It returns nil if there
// are none.
func (m *Manager) Events(id string) []Event {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	return slices.Clone(m.events.bySess[id])
}

// AddEvent adds an event to a live session; it does nothing if id is not live.
func (m *Manager) AddEvent(id string, what EventType, detail string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.live[id]; e != nil && e.published {
		m.note(id, what, detail)
	}
}

// note adds an event. It never waits for a watcher. The caller holds Manager.mu, so
// that the first event of a session is its creation and the last one its end.
func (m *Manager) note(id string, what EventType, detail string) {
	x := &m.events
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seq++
	ev := Event{Seq: x.seq, Time: time.Now(), SessionID: id, Type: what, Detail: clip(detail, maxDetail)}
	if x.bySess == nil {
		x.bySess = map[string][]Event{}
	}
	recent := x.bySess[id]
	if len(recent) == maxEvents {
		recent = slices.Delete(recent, 0, 1)
	}
	x.bySess[id] = append(recent, ev)
	for w := range x.watchers {
		select {
		case w.send <- ev:
		default:
			w.lost++
			m.metrics.eventsLost.Inc()
		}
	}
}

// retainEnded keeps the events of an ended session until maxEnded others of its
// kind have ended.
func (x *events) retainEnded(kind Kind, id string) {
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
