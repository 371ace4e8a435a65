package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// ErrNotFound is returned for a session that is unknown or ended, belongs to
// another principal, or is addressed with a wrong verifier. Callers must not be
// able to tell these cases apart.
var ErrNotFound = errors.New("session not found")

// ErrUnavailable is returned if the store did not answer in time or could not be
// read or written. The session may exist: the caller may try again.
var ErrUnavailable = errors.New("session store is unavailable")

// Manager creates, finds, touches and ends sessions. Its methods are safe for
// concurrent use. Create it with New; call Restore before serving, Run while
// serving, and Close at the end.
type Manager struct {
	cfg     Config
	store   persist.Store
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *metrics

	mu       sync.Mutex
	live     map[string]*entry    // by id, including entries that Create has not published yet
	marks    []markReason         // that the log has not got yet
	dirty    map[string]time.Time // ids to be written or removed by the next flush; time of the first mark
	flushing map[string]time.Time // marks that the batch being written has taken from dirty
	commits  []*commit            // durable changes that wait for the next batch
	pending  map[string]bool      // ids of stored sessions that are not loaded yet
	dropped  map[string]bool      // ids removed from live while Restore reads the keys
	clients  map[string]int       // number of live entries by client
	counts   map[Kind]*counts
	derived  derivedSessions
	watch    clockWatch

	recordBytes int64 // sum of Session.memory of the live entries that are not derived

	restoring bool // Restore has begun and not succeeded yet
	restored  bool // Restore has succeeded
	closed    bool // Close has begun: no Live is opened any more
	// not guarded by mu:
	events  events
	tails   tails
	writing chan struct{} // holds the token of the writer: batches are written one after the other
	marked  chan struct{} // wakes the flush loop when an id is added to dirty
	loading singleFlight  // loads of stored sessions
	opening singleFlight  // calls of Config.Open
}

// entry is a live session. Its fields are guarded by Manager.mu, except id and
// kind, which never change.
type entry struct {
	id        string
	kind      Kind
	s         Session
	client    string    // see Session.client; empty for a derived session
	failing   bool      // its last write failed, which is recorded as an event
	published bool      // false while Create waits for the store
	seen      time.Time // last activity, on the clock of the process: LastAccessedAt is only its date
	born      time.Time // creation, on the same clock
	stored    time.Time // seen, as of the stored copy
	inUse     int       // current leases, or requests of a derived session
	uses      int64     // total of leases, or requests of a derived session
	live      Live
	ended     Reason // not empty once the session has ended

	created *trace.SpanContext // span of Create, if it is sampled

	prev, next *entry // in the list of idle derived sessions
}

// newEntry returns the entry of a session that was created at born and last used at
// seen.
func newEntry(s Session, born, seen time.Time) *entry {
	e := &entry{id: s.ID, kind: s.Kind, s: s, born: born, seen: seen, stored: seen}
	if e.kind == Protocol {
		e.client = s.client()
	}
	return e
}

// counts are the totals of one kind. The invariant, which the metrics export, is
// created + restored - closed - active == 0.
type counts struct {
	created, restored int64
	closed            map[Reason]int64
}

// New returns a Manager that stores its sessions in store. It starts no goroutine.
// The caller must keep store open until Close has returned.
func New(store persist.Store, cfg Config) *Manager {
	m := &Manager{
		cfg:     cfg,
		store:   store,
		log:     cfg.logger(),
		tracer:  cfg.tracer(),
		live:    map[string]*entry{},
		dirty:   map[string]time.Time{},
		pending: map[string]bool{},
		dropped: map[string]bool{},
		clients: map[string]int{},
		counts:  map[Kind]*counts{},
		derived: derivedSessions{byKey: map[derivedKey]*entry{}},
		watch:   watchClock(cfg.Clock),
		writing: make(chan struct{}, 1),
		marked:  make(chan struct{}, 1),
	}
	for _, kind := range Kinds() {
		m.counts[kind] = &counts{closed: map[Reason]int64{}}
		for _, r := range Reasons() {
			m.counts[kind].closed[r] = 0
		}
	}
	m.metrics = newMetrics(cfg, m)
	return m
}

// Create creates a session from s and returns it with its token. It sets the ID,
// times, token hash and state itself. The token cannot be obtained again later.
// When Create returns without an error, the session is on stable storage. If it
// fails or ctx ends first, there is no session. At a limit of sessions it fails
// with a *LimitError.
func (m *Manager) Create(ctx context.Context, s Session) (Session, string, error) {
	ctx, span := m.tracer.Start(ctx, "mcphub.session.create")
	defer span.End()
	start := time.Now()
	id, verifier := newToken()
	s.Kind, s.ID, s.TokenHash, s.State = Protocol, id, hashVerifier(verifier), Initializing
	s.CreatedAt = m.cfg.Clock.wall(start)
	s.LastAccessedAt = s.CreatedAt
	span.SetAttributes(traceID(Protocol, id))

	if ctx.Err() != nil { // a client that has disconnected must not cause an eviction
		return Session{}, "", failed(span, context.Cause(ctx))
	}
	e := newEntry(s, start, start)
	if sc := span.SpanContext(); sc.IsSampled() {
		e.created = &sc
	}
	m.mu.Lock()
	evicted, err := m.admit(e.client, e.s.memory())
	if err == nil {
		m.put(e)
	}
	m.unlock()
	if err != nil {
		return Session{}, "", failed(span, err)
	}
	ids := []string{id}
	if evicted != nil {
		m.closeEnded(ctx, evicted)
		ids = append(ids, evicted.s.ID) // otherwise it would return after a crash, beyond the limit
	}
	err = m.commit(ctx, ids...)
	m.mu.Lock()
	if err != nil {
		m.drop(e)
		if errors.Is(err, ErrUnavailable) {
			m.mark(id, "its creation failed") // the store may have written it: a flush removes it
		}
	} else {
		e.published = true
		m.counts[Protocol].created++
		m.note(id, EventCreated, s.ClientName)
	}
	m.unlock()
	m.metrics.create.observe(start, err)
	if err != nil {
		return Session{}, "", failed(span, err)
	}
	m.log.InfoContext(ctx, "session created", "session", id, "client", s.ClientName, "client_version", s.ClientVersion,
		"protocol", s.ProtocolVersion)
	return s, id + "." + verifier, nil
}

// Get returns the session id. It does not count as activity.
func (m *Manager) Get(ctx context.Context, id string) (Session, error) {
	e, err := m.lookup(ctx, id)
	if err != nil {
		return Session{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.ended != "" {
		return Session{}, ErrNotFound
	}
	return e.s, nil
}

// Has reports whether the session id exists.
func (m *Manager) Has(ctx context.Context, id string) bool {
	_, err := m.Get(ctx, id)
	return err == nil
}

// Update changes the session id through fn. fn gets a copy, whose maps and slices
// it may change too; its changes to ID, Kind, TokenHash and Principal are ignored.
// The change is written with the next flush. fn is called under the lock and must
// not block. For a derived session Update fails with ErrDerived.
func (m *Manager) Update(ctx context.Context, id string, fn func(*Session)) error {
	e, err := m.lookup(ctx, id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.unlock()
	return m.change(e, fn)
}

// UpdateDurably is Update, but the change is on stable storage when it returns
// without an error. If only the write fails, the change still takes effect and is
// written later.
func (m *Manager) UpdateDurably(ctx context.Context, id string, fn func(*Session)) error {
	if err := m.Update(ctx, id, fn); err != nil {
		return err
	}
	return m.commit(ctx, id)
}

// change applies fn to e. The caller holds mu.
func (m *Manager) change(e *entry, fn func(*Session)) error {
	if e.ended != "" {
		return ErrNotFound
	}
	if e.kind == Derived {
		return ErrDerived
	}
	s := e.s.clone()
	fn(&s)
	s.ID, s.Kind, s.TokenHash, s.Principal = e.id, e.kind, e.s.TokenHash, e.s.Principal
	if e.s.State == Initializing && s.State == Ready {
		m.note(s.ID, EventInitialised, "")
	}
	m.recordBytes += s.memory() - e.s.memory()
	before := e.s
	e.s = s
	m.touch(e, time.Now())
	m.mark(s.ID, m.whyChanged(before, s))
	return nil
}

// Touch records activity of the session id.
func (m *Manager) Touch(id string) {
	m.mu.Lock()
	defer m.unlock()
	if e := m.live[id]; e != nil && e.published {
		m.touch(e, time.Now())
		if e.kind == Derived && e.inUse == 0 {
			m.derived.removeIdle(e)
			m.derived.appendIdle(e)
		}
	}
}

// touch sets the last access of e to now, unless the last touch was too recent.
// It marks e as dirty only if the stored time is too old. The caller holds mu.
func (m *Manager) touch(e *entry, now time.Time) {
	if now.Sub(e.seen) < m.cfg.touchThrottle() {
		return
	}
	e.seen, e.s.LastAccessedAt = now, m.cfg.Clock.wall(now)
	if e.kind == Protocol && now.Sub(e.stored) >= m.cfg.touchStored() {
		m.mark(e.s.ID, "use; the stored time of its last use is old")
	}
}

// mark adds id to the dirty sessions. why is for the log. The caller holds mu.
func (m *Manager) mark(id, why string) {
	m.noteMark(id, why)
	if _, ok := m.dirty[id]; ok {
		return
	}
	m.dirty[id] = time.Now()
	select {
	case m.marked <- struct{}{}:
	default:
	}
}

// isDirty reports whether the stored copy of id is out of date. It still is while
// the batch that updates it is being written. The caller holds mu.
func (m *Manager) isDirty(id string) bool {
	_, marked := m.dirty[id]
	_, flushing := m.flushing[id]
	return marked || flushing
}

// End ends the session id for the given reason and closes its Live. It reports
// whether there was such a session. When it returns without an error, the session
// is removed from stable storage too. If only the removal fails, the session has
// ended nevertheless, and Run tries the removal again.
func (m *Manager) End(ctx context.Context, id string, why Reason) (bool, error) {
	e, err := m.lookup(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	ctx, span := m.tracer.Start(ctx, "mcphub.session.delete", trace.WithAttributes(traceID(e.kind, e.id),
		attribute.String("mcphub.session.end_reason", string(why))))
	defer span.End()
	m.mu.Lock()
	ok := m.end(e, why)
	m.unlock()
	if !ok {
		return false, nil
	}
	m.closeEnded(ctx, e)
	if e.kind == Derived {
		return true, nil // it has no stored record
	}
	if err := m.commit(context.WithoutCancel(ctx), id); err != nil {
		return true, failed(span, err)
	}
	return true, nil
}

// end removes e from the live sessions. It reports false if e had ended before.
// The caller holds mu, and calls closeEnded after it has released mu.
func (m *Manager) end(e *entry, why Reason) bool {
	if e.ended != "" {
		return false
	}
	e.ended = why
	m.drop(e)
	m.counts[e.kind].closed[why]++
	m.note(e.id, EventEnded, string(why))
	m.events.retainEnded(e.kind, e.id)
	m.tails.end(e.id, why)
	if e.kind == Protocol {
		m.mark(e.id, "its end: "+string(why)) // the mark stays until the record is removed
	}
	return true
}

// closeEnded closes the Live of an ended session and records its end in metrics
// and log. The caller does not hold mu.
func (m *Manager) closeEnded(ctx context.Context, e *entry) {
	m.mu.Lock()
	live := e.live
	e.live = nil
	s, why, uses := e.s, e.ended, e.uses
	m.mu.Unlock()
	if live != nil {
		live.Close(why)
	}
	age := time.Since(e.born)
	m.metrics.sessionEnded(s, why, age, uses)
	level := slog.LevelInfo
	if s.Kind == Derived {
		level = slog.LevelDebug
	}
	m.log.Log(ctx, level, "session ended", "session", s.ID, "kind", s.Kind.String(), "reason", string(why),
		"client", s.ClientName, "age", age.Round(time.Millisecond).String(), "requests", uses)
}

// lookup returns the published entry of id. It loads the session from the store if
// that has not been done since the start.
func (m *Manager) lookup(ctx context.Context, id string) (*entry, error) {
	m.mu.Lock()
	e, pending, restoring := m.live[id], m.pending[id], m.restoring
	published := e != nil && e.published
	m.mu.Unlock()
	switch {
	case published:
		return e, nil
	case pending:
		return m.load(ctx, id)
	case restoring:
		return nil, fmt.Errorf("%w: the list of stored sessions is not read yet", ErrUnavailable)
	}
	return nil, ErrNotFound
}

// entries returns the published entries for which want, called under mu, is true.
func (m *Manager) entries(want func(*entry) bool) []*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(func(yield func(*entry) bool) {
		for e := range maps.Values(m.live) {
			if e.published && want(e) && !yield(e) {
				return
			}
		}
	})
}

// traceID returns the span attribute for the session id. A derived session has no
// mcp.session.id, because MCP does not know it.
func traceID(kind Kind, id string) attribute.KeyValue {
	if kind == Derived {
		return attribute.String("mcphub.session.id", id)
	}
	return attribute.String("mcp.session.id", id)
}

// failed records err on span and returns it.
func failed(span trace.Span, err error) error {
	span.RecordError(err)
	span.SetStatus(codes.Error, err.Error())
	return err
}
