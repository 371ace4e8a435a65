package budget

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fill reserves on a until it is refused, in steps, and returns the reason.
func fill(a *Account, step int64) error {
	for {
		if err := a.Reserve(step); err != nil {
			return err
		}
	}
}

func TestOneAccountGetsAThirdAndLeavesTheRest(t *testing.T) {
	b := New(3000)
	hog, other := b.Account(), b.Account()
	if err := fill(hog, 10); !errors.Is(err, ErrShare) {
		t.Errorf("the account is refused with %v", err)
	}
	if hog.Used() < 860 || hog.Used() > 875 { // a third of seven eighths
		t.Errorf("the account has %d of 3000", hog.Used())
	}
	if err := other.Reserve(500); err != nil {
		t.Errorf("the other account: %v", err)
	}
}

func TestHowManyAccountsThereAreSomethingIsLeftForAnother(t *testing.T) {
	for _, hogs := range []int64{2, 10, 100, 1000} {
		b := New(64 << 20)
		for range hogs {
			_ = fill(b.Account(), 16<<10)
		}
		if free := b.limit - b.Used(); free < 32<<10 {
			t.Errorf("%d hogs leave %d bytes", hogs, free)
		}
		if err := b.Account().Reserve(8 << 10); err != nil {
			t.Errorf("beside %d hogs a small message is refused: %v", hogs, err)
		}
	}
}

func TestTheLastEighthIsForThoseWhoHaveLittle(t *testing.T) {
	b := New(64 << 20)
	for range 1000 {
		_ = fill(b.Account(), 600<<10) // more than little with the first step
	}
	if used := b.Used(); used > 56<<20 {
		t.Errorf("hogs use %d MiB of 64", used>>20)
	}
	for range 10 {
		if err := b.Account().Reserve(400 << 10); err != nil {
			t.Fatalf("one who has little: %v", err)
		}
	}
}

func TestTheReasonTellsWhoseFaultItIs(t *testing.T) {
	b := New(1 << 20)
	hog, other := b.Account(), b.Account()
	hog.Force(1 << 20)
	if err := hog.Reserve(1); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the whole budget: %v", err)
	}
	hog.Release(1 << 10)
	if err := hog.Reserve(1); !errors.Is(err, ErrShare) {
		t.Errorf("over the share: %v", err)
	}
	if err := other.Reserve(1 << 10); !errors.Is(err, ErrFull) {
		t.Errorf("an account that has nothing: %v", err)
	}
	var h Hold
	h.Alone(b)
	if err := h.Grow(1 << 10); !errors.Is(err, ErrFull) {
		t.Errorf("a hold that has nothing: %v", err)
	}
	if !strings.Contains(ErrFull.Error(), "limits.memory") || !strings.Contains(ErrShare.Error(), "limits.memory") {
		t.Error("the errors name no key")
	}
	want := `
# HELP mcphub_memory_limit_bytes Bytes that the hub may hold for its clients: ` +
		`limits.memory without the part for messages that streams retain.
# TYPE mcphub_memory_limit_bytes gauge
mcphub_memory_limit_bytes 1.048576e+06
# HELP mcphub_memory_refusals_total Requests, answers and messages that got no memory, by reason: ` +
		`a session over its share, or the whole budget used up.
# TYPE mcphub_memory_refusals_total counter
mcphub_memory_refusals_total{reason="full"} 3
mcphub_memory_refusals_total{reason="share"} 1
# HELP mcphub_memory_used_bytes Bytes that the hub holds for its clients: requests, answers, queues and streams.
# TYPE mcphub_memory_used_bytes gauge
mcphub_memory_used_bytes 1.047552e+06
`
	r := prometheus.NewRegistry()
	r.MustRegister(b)
	if err := testutil.GatherAndCompare(r, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestARefusedReservationTakesNothing(t *testing.T) {
	b := New(1000)
	a := b.Account()
	var alone, on, nothing Hold
	alone.Alone(b)
	on.On(a)
	for _, h := range []*Hold{&alone, &on} {
		if h.Grow(2000) == nil || b.Used() != 0 || a.Used() != 0 {
			t.Errorf("%d bytes are used after a refusal", b.Used())
		}
		if err := h.Grow(100); err != nil || b.Used() != 100 {
			t.Errorf("%v, %d bytes are used, want 100", err, b.Used())
		}
		h.Release()
		h.Release()
		if b.Used() != 0 || a.Used() != 0 {
			t.Errorf("%d bytes are used after the release", b.Used())
		}
	}
	if nothing.Grow(1<<40) != nil || (*Hold)(nil).Grow(1) != nil || (*Budget)(nil).Account().Reserve(1<<40) != nil {
		t.Error("without a budget there is a limit")
	}
	nothing.Release()
}

func TestRequestsOfOneClientShareItsGroup(t *testing.T) {
	b := New(64 << 20)
	groups := NewGroups(b)
	open := func() *Account {
		a := new(Account)
		a.Open(b, groups.Of("ann"))
		return a
	}
	for range 100 {
		_ = fill(open(), 1<<20)
	}
	if got := groups.Of("ann").Used(); got > 64<<20/3 {
		t.Errorf("the group has %d bytes", got)
	}
	groups.Of("ann").Force(8 << 20)
	if err := open().Reserve(small); err != nil {
		t.Errorf("a small request of the client: %v", err)
	}
	if err := open().Reserve(small + 1); !errors.Is(err, ErrFull) && !errors.Is(err, ErrShare) {
		t.Errorf("a larger one: %v", err)
	}
	var nobody *Groups
	if nobody.Of("ann") != nil || NewGroups(nil) != nil {
		t.Error("there are groups without a budget")
	}
}

func TestWaitEndsWhenThereIsRoomOrTheWaiterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(1000)
		a := b.Account()
		a.Force(800)
		done := make(chan struct{})
		time.AfterFunc(time.Minute, func() { a.Release(700) })
		start := time.Now()
		if !a.Wait(t.Context(), done) || time.Since(start) > time.Minute+lastPause {
			t.Errorf("it waited %s", time.Since(start))
		}
		a.Force(700)
		time.AfterFunc(time.Second, func() { close(done) })
		if a.Wait(t.Context(), done) {
			t.Error("there is room although nothing was released")
		}
		if !(*Account)(nil).Wait(t.Context(), nil) {
			t.Error("without a budget there is a wait")
		}
	})
}

func TestNothingIsLostBetweenManyGoroutines(t *testing.T) {
	b := New(1 << 20)
	a := b.Account()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10_000 {
				var h Hold
				h.On(a)
				_ = h.Grow(100 << 10)
				h.Release()
			}
		})
	}
	all.Wait()
	if b.Used() != 0 || a.Used() != 0 {
		t.Errorf("%d bytes are used at the end", b.Used())
	}
}

func TestReservingAllocatesNothing(t *testing.T) {
	b := New(1 << 20)
	a, groups := b.Account(), NewGroups(b)
	if n := testing.AllocsPerRun(100, func() {
		var h Hold
		h.On(a)
		_ = h.Grow(100)
		_ = groups.Of("ann").Reserve(10)
		groups.Of("ann").Release(10)
		h.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
