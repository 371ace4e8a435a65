package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/mcphub-go/mcphub/pkg/config"
)

// memoryPlan says how much memory the hub holds for its clients at most, and what part each kind of use may take. All
// parts together fit into a limit of the process that is twice as large, with the garbage in between.
type memoryPlan struct {
	limit  int64  // limits.memory, in bytes
	source string // where the limit comes from

	held     int64 // requests, answers, and messages that wait
	history  int64 // messages that were written, for clients that come back
	records  int64 // records of sessions
	sessions int   // number of sessions; below 1: no limit
	derived  int   // number of derived sessions
	message  int64 // one message of a server
	clients  int   // connections of clients
}

// Estimates of what one of each takes.
const (
	sessionMemory    = 2 << 10
	derivedMemory    = 8 << 10
	connectionMemory = 32 << 10 // buffers and goroutines
)

// maxDerived is the largest number of derived sessions.
const maxDerived = 10_000

// planMemory divides the memory that cfg gives the hub, or else a part of that of the process. A default that is too
// large for the memory is lowered; what the operator has chosen is not.
func planMemory(cfg config.Config, of processMemory) memoryPlan {
	p := memoryPlan{limit: cfg.Limits.Memory, source: "limits.memory"}
	if p.limit == 0 {
		p.limit, p.source = of.size/of.part, of.source
	}
	p.history, p.records = p.limit/8, p.limit/8
	p.held = p.limit - p.history
	p.clients = int(min(p.limit/4/connectionMemory, math.MaxInt32))
	p.derived = int(min(p.limit/8/derivedMemory, maxDerived))
	p.sessions, p.message = cfg.Sessions.MaxSessions, cfg.Limits.MaxMessageBytes
	standard := config.Default()
	if p.sessions == standard.Sessions.MaxSessions {
		p.sessions = min(p.sessions, int(min(p.records/sessionMemory, math.MaxInt32)))
	}
	if p.message == standard.Limits.MaxMessageBytes {
		p.message = min(p.message, p.limit/8)
	}
	return p
}

// LogValue returns what an operator has to know about the limits.
func (p memoryPlan) LogValue() slog.Value {
	return slog.GroupValue(slog.Int64("limit", p.limit), slog.String("source", p.source),
		slog.Int("max_sessions", p.sessions), slog.Int64("max_message_bytes", p.message))
}

// processMemory is the memory that the process may use, and which part of it is for clients.
type processMemory struct {
	size   int64
	part   int64 // 1 in so many bytes
	source string
}

// findMemory finds out how much memory the process may use: the limit of its cgroup or GOMEMLIMIT, or else the memory of
// the machine, which it shares with others.
func findMemory() processMemory {
	best := processMemory{size: 4 << 30, part: 4, source: "default"}
	if size, err := memlimit.FromSystem(); err == nil && size > 0 && size < math.MaxInt64 {
		best = processMemory{size: int64(size), part: 4, source: "machine"}
	}
	if size := debug.SetMemoryLimit(-1); os.Getenv("GOMEMLIMIT") != "" && size < best.size {
		best = processMemory{size: size, part: 2, source: "GOMEMLIMIT"}
	}
	if size, ok := cgroupMemory(); ok && size < best.size {
		best = processMemory{size: size, part: 2, source: "cgroup"}
	}
	return best
}

// cgroupMemory returns the memory limit of the cgroup. It reports false if there is none.
func cgroupMemory() (int64, bool) {
	size, err := memlimit.FromCgroup()
	return int64(min(size, math.MaxInt64)), err == nil && size > 0 && size < math.MaxInt64
}

// limitHeap makes the garbage collector keep the process within the limit of its cgroup, unless GOMEMLIMIT says what it is
// to do. A fifth is for what the collector does not count: the program itself, and pages that it has not given back yet.
func limitHeap() {
	if size, ok := cgroupMemory(); ok && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(size / 10 * 8)
	}
}
