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

// ErrNotFound is reported for a session that is unknown, ended, somebody
// else's, or addressed with a wrong verifier: from outside they are the same.
var ErrNotFound = errors.New("session not found")

// ErrUnavailable is reported where the store did not answer in time or could
// not be read: the session may exist, try again.
var ErrUnavailable = errors.New("session store is unavailable")

// Manager creates, finds, touches and ends sessions. Its methods may be called
// concurrently. Make one with New; call Restore before serving and Run while
// serving, Close at the end.
type Manager struct {
	cfg     Config
	store   persist.Store
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *metrics

	mu      sync.Mutex
	live    map[string]*entry    // by id, created but unpublished ones included
	dirty   map[string]time.Time // ids whose stored copy is stale, ended sessions included; first mark
	commits []*commit            // durable changes that wait for the next batch
	answers map[string]time.Time // the marks that the batch being written answers; they are still dirty
	pending map[string]bool      // stored, not loaded yet
	dropped map[string]bool      // no longer live since Restore began to read the names
	clients map[string]int       // live entries by client
	counts  map[Kind]*counts
	derived derived

	restoring bool // Restore has begun and not succeeded yet
	restored  bool // Restore has succeeded
	closed    bool // Close has begun: no live half is opened any more
	// not guarded by mu:
	events  events
	tails   tails
	writing chan struct{} // holds one token, taken by writeBatch: batches are written in order
	marked  chan struct{} // tells Run that dirty is not empty any more
	loading flights       // sessions that are being loaded right now
	opening flights       // sessions whose live half is being opened right now
}

// entry is a live session. Its fields are guarded by Manager.mu, but for id and
// kind, which never change.
type entry struct {
	id        string
	kind      Kind
	s         Session
	client    string // whose limit it counts for; empty: derived
	failing   bool   // its last write failed, and an event says so
	published bool   // false while Create waits for the store
	stored    int64  // LastAccessedAt of the stored copy, ms
	inUse     int    // leases, requests of a derived session
	uses      int64  // leases there ever were, requests of a derived session
	live      Live
	ended     Reason // not empty once the session has ended

	created *trace.SpanContext // of Create, if that is exported

	before, after *entry // in the list of derived sessions that nobody uses
}

func newEntry(s Session) *entry {
	e := &entry{id: s.ID, kind: s.Kind, s: s}
	if e.kind == Protocol {
		e.client = s.client()
	}
	return e
}

// counts are the totals of the conservation law of one kind,
// created + restored - closed - active == 0.
type counts struct {
	created, restored int64
	closed            map[Reason]int64
}

// New makes a Manager that keeps its sessions in store. It starts nothing. The
// caller keeps store open until Close has returned.
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
		derived: derived{by: map[workKey]*entry{}},
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

// Create makes a new session from s, whose ID, times, token and state are set
// here, and returns it with the token that opens it. The token is returned
// here and never again. When Create returns, the session is on stable storage;
// if it fails, or ctx ends first, there is no session. Beyond a limit it fails
// with a *LimitError.
func (m *Manager) Create(ctx context.Context, s Session) (Session, string, error) {
	ctx, span := m.tracer.Start(ctx, "mcphub.session.create")
	defer span.End()
	start := time.Now()
	id, verifier := newToken()
	s.Kind, s.ID, s.TokenHash, s.State = Protocol, id, hashVerifier(verifier), Initializing
	s.CreatedAt, s.LastAccessedAt = start.UnixMilli(), start.UnixMilli()
	span.SetAttributes(traceID(Protocol, id))

	if ctx.Err() != nil { // nobody is evicted for a client that has gone
		return Session{}, "", failed(span, context.Cause(ctx))
	}
	e := newEntry(s)
	if sc := span.SpanContext(); sc.IsSampled() {
		e.created = &sc
	}
	m.mu.Lock()
	evicted, err := m.admit(e.client)
	if err == nil {
		m.put(e)
	}
	m.mu.Unlock()
	if err != nil {
		return Session{}, "", failed(span, err)
	}
	ids := []string{id}
	if evicted != nil {
		m.closeEnded(ctx, evicted)
		ids = append(ids, evicted.s.ID) // or a crash would bring it back, beyond the limit
	}
	err = m.commit(ctx, ids...)
	m.mu.Lock()
	if err != nil {
		m.drop(e)
		if errors.Is(err, ErrUnavailable) {
			m.mark(id) // the store may have it after all
		}
	} else {
		e.published = true
		m.counts[Protocol].created++
		m.note(id, EventCreated, s.ClientName)
	}
	m.mu.Unlock()
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

// Update changes the session id through fn, which gets a copy that it may
// change in place except for ID, kind, token and principal. The change is
// written with the next flush. fn is called with a lock held and must not block.
// A derived session is not changed: ErrDerived.
func (m *Manager) Update(ctx context.Context, id string, fn func(*Session)) error {
	e, err := m.lookup(ctx, id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(e, fn)
}

// UpdateDurably is Update, but the change is on stable storage when it returns
// without an error. If only the store failed, the change is made all the same
// and written later.
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
	e.s = s
	m.touch(e, time.Now())
	m.mark(s.ID)
	return nil
}

// Touch counts as activity of the session id.
func (m *Manager) Touch(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.live[id]; e != nil && e.published {
		m.touch(e, time.Now())
		if e.kind == Derived && e.inUse == 0 {
			m.derived.unlist(e)
			m.derived.rest(e)
		}
	}
}

// touch moves the last access of e. The caller holds mu.
func (m *Manager) touch(e *entry, now time.Time) {
	ms := now.UnixMilli()
	if ms-e.s.LastAccessedAt < m.cfg.touchThrottle().Milliseconds() {
		return
	}
	e.s.LastAccessedAt = ms
	if e.kind == Protocol && ms-e.stored >= m.cfg.touchStored().Milliseconds() {
		m.mark(e.s.ID)
	}
}

// mark notes that the stored copy of id is stale. The caller holds mu.
func (m *Manager) mark(id string) {
	if _, ok := m.dirty[id]; ok {
		return
	}
	m.dirty[id] = time.Now()
	select {
	case m.marked <- struct{}{}:
	default:
	}
}

// isDirty reports whether the stored copy of id is stale, or will be until the
// batch that is being written has succeeded. The caller holds mu.
func (m *Manager) isDirty(id string) bool {
	_, marked := m.dirty[id]
	_, writing := m.answers[id]
	return marked || writing
}

// End ends the session id for the given reason and closes its live half. It
// reports whether there was such a session. When it returns without an error
// the session is gone from stable storage too; with one, the session is ended
// all the same and its removal is tried again in the background.
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
	m.mu.Unlock()
	if !ok {
		return false, nil
	}
	m.closeEnded(ctx, e)
	if e.kind == Derived {
		return true, nil // there is no record of it
	}
	if err := m.commit(context.WithoutCancel(ctx), id); err != nil {
		return true, failed(span, err)
	}
	return true, nil
}

// end takes e out of the live sessions. It reports false if it had ended
// before. The caller holds mu and calls closeEnded after releasing it.
func (m *Manager) end(e *entry, why Reason) bool {
	if e.ended != "" {
		return false
	}
	e.ended = why
	m.drop(e)
	m.counts[e.kind].closed[why]++
	m.note(e.id, EventEnded, string(why))
	m.events.forgetLater(e.kind, e.id)
	m.tails.end(e.id, why)
	if e.kind == Protocol {
		m.mark(e.id) // until the store has confirmed, a flush will remove it
	}
	return true
}

// closeEnded does for an ended session what must not be done under mu.
func (m *Manager) closeEnded(ctx context.Context, e *entry) {
	m.mu.Lock()
	live := e.live
	e.live = nil
	s, why, uses := e.s, e.ended, e.uses
	m.mu.Unlock()
	if live != nil {
		live.Close(why)
	}
	age := time.Since(time.UnixMilli(s.CreatedAt))
	m.metrics.sessionEnded(s, why, age, uses)
	level := slog.LevelInfo
	if s.Kind == Derived {
		level = slog.LevelDebug
	}
	m.log.Log(ctx, level, "session ended", "session", s.ID, "kind", s.Kind.String(), "reason", string(why), "client", s.ClientName,
		"age", age.Round(time.Millisecond).String(), "requests", uses)
}

// lookup finds the published entry of id and loads it from the store if it has
// not been loaded since the start.
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
		return nil, fmt.Errorf("%w: it is not known yet which sessions there are", ErrUnavailable)
	}
	return nil, ErrNotFound
}

// entries returns the published entries that want, called under mu, says yes to.
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

// traceID names a session in spans. A derived one is no session of MCP.
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
