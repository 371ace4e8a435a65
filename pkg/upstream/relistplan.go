package upstream

import (
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// relistReason says why lists are read. It is a label of a metric.
type relistReason string

const (
	relistConnect  relistReason = "connect"  // a new connection of the hub's own
	relistChange   relistReason = "change"   // the server reported changes
	relistInterval relistReason = "interval" // Spec.RefreshInterval has passed
	relistRetry    relistReason = "retry"    // lists could not be read before
	relistUnknown  relistReason = "unknown"  // a client or the server does not know a name
	relistOperator relistReason = "operator" // asked for by hand
)

func relistReasons() []relistReason {
	return []relistReason{relistConnect, relistChange, relistInterval, relistRetry, relistUnknown, relistOperator}
}

// The pauses before lists are read again. Each kind grows while its cause goes on.
const (
	changePause    = 250 * time.Millisecond // after a list change, to collect others
	maxChangePause = 2 * time.Second
	retryPause     = 2 * time.Second // after a list that could not be read
	maxRetryPause  = 5 * time.Minute
)

// relistPlan says when which lists of one connection are read again. It belongs to one goroutine.
type relistPlan struct {
	interval time.Duration // 0: lists are not read again by themselves

	changed  []string // methods of the notifications that reported changes
	changeAt time.Time
	changes  transport.Backoff
	pause    time.Duration    // the last one before a reading because of changes
	failed   map[string]error // lists that could not be read, by method
	retryAt  time.Time
	retries  transport.Backoff
	nextAt   time.Time // of the interval
	readAt   time.Time
}

func newRelistPlan(interval time.Duration) *relistPlan {
	return &relistPlan{interval: interval,
		changes: transport.Backoff{First: changePause, Max: maxChangePause},
		retries: transport.Backoff{First: retryPause, Max: maxRetryPause, Jitter: 0.25}}
}

// reported notes that the server has reported changes. They are collected for a while, which is longer if the server
// reports changes all the time.
func (p *relistPlan) reported(methods []string, now time.Time) {
	for _, m := range methods {
		if !slices.Contains(p.changed, m) {
			p.changed = append(p.changed, m)
		}
	}
	if p.changeAt.IsZero() {
		if now.Sub(p.readAt) > p.pause {
			p.changes.Reset()
		}
		p.pause = p.changes.Next()
		p.changeAt = now.Add(p.pause)
	}
}

// began notes that all lists are being read, or those that failed, and returns the changes that this reading covers.
func (p *relistPlan) began(all bool) (changed []string) {
	p.retryAt = time.Time{}
	if all {
		changed, p.changed, p.changeAt, p.nextAt = p.changed, nil, time.Time{}, time.Time{}
	}
	return changed
}

// ended notes that a reading is over, and which lists failed.
func (p *relistPlan) ended(failed map[string]error, now time.Time) {
	p.readAt, p.failed = now, failed
	if len(failed) == 0 {
		p.retries.Reset()
	} else {
		p.retryAt = now.Add(p.retries.Next())
	}
	if p.interval > 0 && p.nextAt.IsZero() {
		jitter := transport.Backoff{First: p.interval, Max: p.interval, Jitter: 0.1} // servers of one start are not read at once
		p.nextAt = now.Add(jitter.Next())
	}
}

// next returns when lists have to be read, and why; the zero time: not at all, as far as is known.
func (p *relistPlan) next() (at time.Time, why relistReason) {
	for _, one := range []struct {
		at  time.Time
		why relistReason
	}{{p.changeAt, relistChange}, {p.retryAt, relistRetry}, {p.nextAt, relistInterval}} {
		if !one.at.IsZero() && (at.IsZero() || one.at.Before(at)) {
			at, why = one.at, one.why
		}
	}
	return at, why
}
