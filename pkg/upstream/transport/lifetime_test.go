package transport

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLifetimeIsLostOnceForTheFirstReason(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	var reasons []error
	var l *lifetime
	l = newLifetime(func(reason error) {
		if !l.isLost() || !errors.Is(l.Err(), reason) {
			t.Error("the loss is not visible to onLost")
		}
		reasons = append(reasons, reason)
	})
	if l.isLost() {
		t.Error("it is lost from the start")
	}
	l.lose(first)
	l.lose(second)
	if len(reasons) != 1 || !errors.Is(reasons[0], first) || !errors.Is(l.Err(), first) {
		t.Errorf("onLost was called with %v, Err() = %v", reasons, l.Err())
	}
	<-l.Done()
}

func TestLifetimeWaitsForItsGoroutinesAndRefusesMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLifetime(func(error) {})
		var ended atomic.Int32
		for range 3 {
			if !l.start(func() { time.Sleep(time.Second); ended.Add(1) }) {
				t.Error("a goroutine was refused before refuse")
			}
		}
		l.refuse()
		if l.start(func() { t.Error("a refused function was run") }) {
			t.Error("a goroutine was started after refuse")
		}
		l.wait()
		if n := ended.Load(); n != 3 {
			t.Errorf("wait returned after %d of 3 goroutines", n)
		}
	})
}
