package upstream

import (
	"fmt"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// maxStartLimit is where the doubling of attempts that were too short ends.
const maxStartLimit = 5 * time.Minute

// startLimits says how long the attempts to connect to one server may take. A child has Spec.StartTimeout until it was
// up for the first time: npx and uvx download it then. Each of its attempts that was too short is followed by one of twice
// the time, because a download that is begun anew each time would never be done. It may be used concurrently.
type startLimits struct {
	spec Spec

	mu      sync.Mutex
	started bool          // the child was up once
	longer  time.Duration // least limit of the next attempt, from experience
}

// startLimit is how long one attempt may take.
type startLimit struct {
	time.Duration
	key string // that configures it
}

// next returns the limit of the next attempt.
func (s *startLimits) next() startLimit {
	limit := startLimit{s.spec.connectTimeout(), "connectTimeout"}
	if !s.spec.kind().IsProcess() {
		return limit
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		limit = startLimit{max(limit.Duration, s.spec.startTimeout()), "startTimeout for the first start, then connectTimeout"}
	}
	if s.longer > limit.Duration {
		limit.Duration = s.longer
		limit.key += ", made longer by earlier attempts"
	}
	return limit
}

// tooShort notes that an attempt with that limit ran out of time.
func (s *startLimits) tooShort(limit startLimit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longer = max(s.longer, min(2*limit.Duration, maxStartLimit))
}

// enough notes that an attempt has succeeded and how long it took. The next one may take twice as long.
func (s *startLimits) enough(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started, s.longer = true, min(2*took, maxStartLimit)
}

// String returns the limit and its key.
func (l startLimit) String() string { return fmt.Sprintf("%s (%s)", l.Duration, l.key) }

// exceeded is the cause of the context of an attempt that takes longer.
func (l startLimit) exceeded() error {
	return fmt.Errorf("%w: it had %s", transport.ErrConnectTimeout, l)
}

// connectTimedOut is the cause of a context with the connectTimeout of the server.
func (s Spec) connectTimedOut() error {
	return startLimit{s.connectTimeout(), "connectTimeout"}.exceeded()
}

// startingError is what a call is told that waited long enough for a server that is starting.
type startingError struct {
	since time.Time
	limit startLimit
}

// Error implements error.
func (e startingError) Error() string {
	return fmt.Sprintf("is still starting, since %s (%s ago), and may take %s; call again later",
		e.since.Format(time.TimeOnly), time.Since(e.since).Round(time.Second), e.limit)
}

// Unwrap makes it an ErrDown: the call was not sent.
func (e startingError) Unwrap() error { return ErrDown }
