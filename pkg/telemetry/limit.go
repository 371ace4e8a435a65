package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	limitWindow  = time.Minute
	maxRepeats   = 10  // warnings and errors of one kind in a window
	maxOutput    = 200 // lines that one server prints in a window
	maxKinds     = 512 // that are told apart in a window; the rest of a subsystem is one more
	maxKindBytes = 200 // of a message or a name of a server that are kept

	// serverOutput is the message under which package upstream logs a line that
	// a server printed. How many there are is up to the server, so they are
	// limited whatever their level is.
	serverOutput = "server stderr"
)

// kind is what makes two records the same.
type kind struct {
	subsystem, upstream string
	message             string // "": any other
}

// repeats are the records of one kind in a window.
type repeats struct {
	seen, suppressed int
	level            slog.Level // highest of those suppressed
}

// limiter holds back records at WARN and above that repeat too often, and says
// once per window how many. A window begins with the first record that counts.
type limiter struct {
	suppressed *prometheus.CounterVec // by subsystem
	records    []prometheus.Counter   // by index in levels
	out        slog.Handler           // for the summaries

	mu     sync.Mutex
	kinds  map[kind]*repeats
	window *alarm // ends the window; nil: there is none
	closed bool   // everything goes through
}

func newLimiter(out slog.Handler, m metrics) *limiter {
	return &limiter{out: out, suppressed: m.suppressed, records: m.logRecords, kinds: make(map[kind]*repeats)}
}

// allow reports whether the record is to be written. upstream is the server
// that its logger names, if any.
func (l *limiter) allow(subsystem, upstream string, r slog.Record) bool {
	most := maxRepeats
	switch {
	case r.Message == serverOutput:
		most = maxOutput
	case r.Level < slog.LevelWarn:
		return true
	}
	upstream = cmp.Or(upstream, attr(r, upstreamKey))
	k := kind{subsystem: subsystem, upstream: short(upstream), message: short(r.Message)}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	n := l.find(k)
	n.seen++
	if n.seen <= most {
		return true
	}
	if n.suppressed++; n.suppressed == 1 || r.Level > n.level {
		n.level = r.Level
	}
	l.suppressed.WithLabelValues(labelOf(subsystem)).Inc()
	return false
}

// find returns the records of a kind in this window. The caller holds mu.
func (l *limiter) find(k kind) *repeats {
	n := l.kinds[k]
	if n == nil && len(l.kinds) >= maxKinds {
		k = kind{subsystem: k.subsystem}
		n = l.kinds[k]
	}
	if n == nil {
		n = new(repeats)
		k.upstream, k.message = strings.Clone(k.upstream), strings.Clone(k.message) // not parts of something large
		l.kinds[k] = n
	}
	if l.window == nil {
		l.window = after(limitWindow, l.sweep)
	}
	return n
}

// sweep ends the window and says what was suppressed in it.
func (l *limiter) sweep() {
	l.mu.Lock()
	over := l.kinds
	l.kinds, l.window = make(map[kind]*repeats), nil
	l.mu.Unlock()
	var held []kind
	for k, n := range over {
		if n.suppressed > 0 {
			held = append(held, k)
		}
	}
	slices.SortFunc(held, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.subsystem, b.subsystem), cmp.Compare(a.upstream, b.upstream), cmp.Compare(a.message, b.message))
	})
	for _, k := range held {
		l.say(k, over[k])
	}
}

func (l *limiter) say(k kind, n *repeats) {
	r := slog.NewRecord(time.Now(), n.level, "log records were suppressed", 0)
	if k.subsystem != "" {
		r.AddAttrs(slog.String(subsystemKey, k.subsystem))
	}
	if k.upstream != "" {
		r.AddAttrs(slog.String(upstreamKey, k.upstream))
	}
	r.AddAttrs(slog.String("of", cmp.Or(k.message, "several messages")), slog.Int("suppressed", n.suppressed))
	l.records[levelIndex(n.level)].Inc()
	_ = l.out.Handle(context.Background(), r) // a log that cannot be written has nowhere to say so
}

// close says what has been suppressed so far, and ends the limit.
func (l *limiter) close() {
	l.mu.Lock()
	window := l.window
	l.closed = true
	l.mu.Unlock()
	window.end()
	l.sweep()
}

func short(s string) string { return s[:min(len(s), maxKindBytes)] }
