package upstream

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// relister reads the lists of one connection of the hub's own again whenever there is a reason, one reading at a time.
// It belongs to the goroutine that watches the connection; readings run on goroutines of their own, so that a list that
// is not answered does not hide that the server is gone.
type relister struct {
	conn     *Conn
	dialer   *dialer
	plan     *relistPlan
	requests *relistRequests

	results chan relisted // gets the result of the reading under way
	reading bool
	timer   *time.Timer
	cancel  context.CancelFunc // of the reading under way
	group   sync.WaitGroup
}

// relisted is the result of one reading.
type relisted struct {
	listing
	only    map[string]error // the lists that were read, by method; nil: all
	err     error
	why     relistReason
	request *relistRequest // whose it is; nil: nobody waits for it
}

// newRelister makes the relister of a connection whose lists have just been read.
func newRelister(c *Conn, d *dialer, requests *relistRequests, first listing) *relister {
	r := &relister{conn: c, dialer: d, requests: requests, results: make(chan relisted, 1), timer: time.NewTimer(0), cancel: func() {},
		plan: newRelistPlan(d.spec.refreshInterval(reportsAllChanges(first.Initialized.Capabilities)))}
	r.plan.ended(first.failed, time.Now())
	return r
}

// stop cancels the reading under way and waits for it. Who waits for it goes on to wait: for the next connection.
func (r *relister) stop() {
	r.cancel()
	r.group.Wait()
	r.timer.Stop()
	if r.reading {
		r.requests.giveBack((<-r.results).request)
	}
}

// due receives when lists have to be read again by plan. It never does while there is no plan, or a reading under way.
func (r *relister) due() <-chan time.Time {
	at, _ := r.plan.next()
	if r.reading || at.IsZero() {
		return nil
	}
	r.timer.Reset(time.Until(at))
	return r.timer.C
}

// wanted receives when somebody asks for a reading. It never does while there is one under way.
func (r *relister) wanted() <-chan struct{} {
	if r.reading {
		return nil
	}
	return r.requests.wake
}

// startDue begins the reading that is due. Before is what the server offered before.
func (r *relister) startDue(ctx context.Context, before Inventory) {
	at, why := r.plan.next()
	if r.reading || at.IsZero() || time.Now().Before(at) {
		return
	}
	r.start(ctx, before, why, nil)
}

// startWanted begins the reading that somebody has asked for.
func (r *relister) startWanted(ctx context.Context, before Inventory) {
	if request := r.requests.take(); request != nil {
		r.start(ctx, before, request.why, request)
	}
}

func (r *relister) start(ctx context.Context, before Inventory, why relistReason, request *relistRequest) {
	lists := listingOf{conn: r.conn, before: before}
	if why == relistRetry {
		lists.only = r.plan.failed
	}
	changed := r.plan.began(lists.only == nil)
	ctx, r.cancel = context.WithTimeoutCause(ctx, r.conn.spec.connectTimeout(), r.conn.spec.connectTimedOut())
	r.reading = true
	r.group.Go(func() {
		ctx, span := r.dialer.tel.startMaintenance(ctx, "mcphub.upstream.list", r.conn.spec.Name)
		span.SetAttributes(attribute.String("mcphub.reason", string(why)))
		result, err := lists.read(ctx)
		endSpan(span, err)
		result.Changed = slices.DeleteFunc(changed, result.hasFailed)
		r.results <- relisted{result, lists.only, err, why, request}
	})
}

// ended notes that the reading is over, and counts it.
func (r *relister) ended(result relisted) {
	r.cancel()
	r.reading = false
	r.dialer.own.countListing(result.why, result.err == nil && len(result.failed) == 0)
	if result.err != nil && isGone(context.Background(), r.conn, result.err) {
		r.plan.ended(nil, time.Now())
		return
	}
	r.plan.ended(result.failed, time.Now())
}
