package upstream

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackgroundStartsNoMoreThanItsQuotaAllows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackground(context.Background())
		q, other := &quota{limit: 2}, &quota{limit: 1}
		sleep := func(context.Context) { time.Sleep(time.Second) }
		first, second := b.start(q, sleep), b.start(q, sleep)
		if !first || !second || b.start(q, sleep) {
			t.Error("not exactly two goroutines were started")
		}
		if !b.start(other, sleep) || !b.start(nil, sleep) {
			t.Error("the quota of one kind limits another")
		}
		time.Sleep(2 * time.Second)
		if !b.start(q, sleep) {
			t.Error("goroutines that have ended are still counted")
		}
		b.stop()
		b.wait()
	})
}

func TestBackgroundStopsItsGoroutinesAndWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		b := newBackground(context.WithValue(context.Background(), key{}, "of the owner"))
		var ended atomic.Int32
		for range 3 {
			b.start(nil, func(ctx context.Context) {
				<-ctx.Done()
				time.Sleep(time.Second)
				if ctx.Value(key{}) == "of the owner" {
					ended.Add(1)
				}
			})
		}
		b.stop()
		if b.start(nil, func(context.Context) { t.Error("it was run") }) || !b.stopped() {
			t.Error("a goroutine was started after stop")
		}
		b.wait()
		if n := ended.Load(); n != 3 {
			t.Errorf("wait returned after %d of 3 goroutines", n)
		}
	})
}
