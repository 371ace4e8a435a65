package upstream

import (
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// restarts spaces the starts of the child of one Link. A child that dies soon after its start is started again at once
// the first time, and then after pauses that grow: otherwise a client could have a process started with every call.
// The Link guards it.
type restarts struct {
	pauses  transport.Backoff
	died    bool      // soon after its start, the last time
	started time.Time // the child that there is, or was last
}

func newRestarts() restarts {
	return restarts{pauses: transport.Backoff{First: firstPause, Max: maxPause}}
}

// afterDeath returns when the child that was found dead now may be started again.
func (r *restarts) afterDeath(now time.Time) time.Time {
	if now.Sub(r.started) > stable {
		r.pauses.Reset()
		r.died = false
		return now
	}
	if !r.died {
		r.died = true
		return now
	}
	return r.started.Add(r.pauses.Next())
}
