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
	maxRepeats   = 10  // warnings and errors of one kind per window
	maxOutput    = 200 // lines of stderr of one server per window, and likewise of its failed calls
	maxKinds     = 512 // kinds that are distinguished per window; further ones count as one kind per subsystem
	maxKindBytes = 200 // of a message or a server name that are kept

	// serverOutput is the message with which package upstream logs a line that a server
	// has written to stderr, failedCall that with which package gateway logs a call that
	// failed. Servers and clients decide how many there are, so they are limited at every
	// level.
	serverOutput = "server stderr"
	failedCall   = "a call failed"
)

// kind identifies similar records.
type kind struct {
	subsystem, upstream string
	message             string // "": all other messages
}

// repeats counts the records of one kind in a window.
type repeats struct {
	seen, suppressed int
	level            slog.Level // highest of the suppressed records
}

// limiter suppresses records at WARN and above that repeat too often. At the end of each
// window it logs how many. A window begins with the first record that is counted.
type limiter struct {
	suppressed *prometheus.CounterVec // by subsystem
	records    []prometheus.Counter   // by index in levels
	out        slog.Handler           // for the summaries

	mu     sync.Mutex
	kinds  map[kind]*repeats
	window *timer // ends the window; nil: there is no window
	closed bool   // nothing is suppressed any more
}

func newLimiter(out slog.Handler, m metrics) *limiter {
	return &limiter{out: out, suppressed: m.suppressed, records: m.logRecords, kinds: make(map[kind]*repeats)}
}

// allow reports whether the record is to be written. upstream is the server in the
// attributes of its logger, "" if there is none.
func (l *limiter) allow(subsystem, upstream string, r slog.Record) bool {
	limit := maxRepeats
	switch {
	case r.Message == serverOutput, r.Message == failedCall:
		limit = maxOutput
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
	if n.seen <= limit {
		return true
	}
	if n.suppressed++; n.suppressed == 1 || r.Level > n.level {
		n.level = r.Level
	}
	l.suppressed.WithLabelValues(labelOf(subsystem)).Inc()
	return false
}

// find returns the counts of a kind in this window. The caller holds mu.
func (l *limiter) find(k kind) *repeats {
	n := l.kinds[k]
	if n == nil && len(l.kinds) >= maxKinds {
		k = kind{subsystem: k.subsystem}
		n = l.kinds[k]
	}
	if n == nil {
		n = new(repeats)
		k.upstream, k.message = strings.Clone(k.upstream), strings.Clone(k.message) // they may be parts of large strings
		l.kinds[k] = n
	}
	if l.window == nil {
		l.window = afterFunc(limitWindow, l.endWindow)
	}
	return n
}

// endWindow ends the window and logs what was suppressed in it.
func (l *limiter) endWindow() {
	l.mu.Lock()
	counts := l.kinds
	l.kinds, l.window = make(map[kind]*repeats), nil
	l.mu.Unlock()
	var suppressed []kind
	for k, n := range counts {
		if n.suppressed > 0 {
			suppressed = append(suppressed, k)
		}
	}
	slices.SortFunc(suppressed, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.subsystem, b.subsystem), cmp.Compare(a.upstream, b.upstream),
			cmp.Compare(a.message, b.message))
	})
	for _, k := range suppressed {
		l.writeSummary(k, counts[k])
	}
}

// writeSummary logs how many records of one kind were suppressed.
func (l *limiter) writeSummary(k kind, n *repeats) {
	r := slog.NewRecord(time.Now(), n.level, "log records were suppressed", 0)
	if k.subsystem != "" {
		r.AddAttrs(slog.String(subsystemKey, k.subsystem))
	}
	if k.upstream != "" {
		r.AddAttrs(slog.String(upstreamKey, k.upstream))
	}
	r.AddAttrs(slog.String("of", cmp.Or(k.message, "several messages")), slog.Int("suppressed", n.suppressed))
	l.records[levelIndex(n.level)].Inc()
	_ = l.out.Handle(context.Background(), r) // an error of the log cannot be logged
}

// close logs what has been suppressed so far, and suppresses nothing any more.
func (l *limiter) close() {
	l.mu.Lock()
	window := l.window
	l.closed = true
	l.mu.Unlock()
	window.stopAndWait()
	l.endWindow()
}

// short returns the first maxKindBytes bytes of s.
func short(s string) string { return s[:min(len(s), maxKindBytes)] }
