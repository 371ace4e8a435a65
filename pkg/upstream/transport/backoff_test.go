package transport

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	t.Parallel()
	b := Backoff{First: 500 * time.Millisecond, Max: 3 * time.Second}
	var pauses []time.Duration
	for range 5 {
		pauses = append(pauses, b.Next())
	}
	want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}
	if !slices.Equal(pauses, want) || b.Attempts() != 5 {
		t.Errorf("%v after %d attempts, want %v", pauses, b.Attempts(), want)
	}
	for range 1000 {
		b.Next() // does not overflow
	}
	b.Reset()
	if d := b.Next(); d != 500*time.Millisecond {
		t.Errorf("the pause after Reset is %s", d)
	}
	if d := (&Backoff{First: time.Minute, Max: time.Second}).Next(); d != time.Second {
		t.Errorf("a first pause above the maximum is %s", d)
	}
	if d := (&Backoff{Jitter: 1}).Next(); d != 0 {
		t.Errorf("the zero Backoff pauses for %s", d)
	}
}

func TestBackoffJitterMakesPausesLongerByAPartOfThemselves(t *testing.T) {
	t.Parallel()
	different := map[time.Duration]bool{}
	for range 1000 {
		b := Backoff{First: time.Second, Max: 30 * time.Second, Jitter: 0.25}
		b.Next()
		d := b.Next()
		if d < 2*time.Second || d >= 2500*time.Millisecond {
			t.Fatalf("the second pause is %s", d)
		}
		different[d] = true
	}
	if len(different) < 100 {
		t.Errorf("1000 pauses have %d lengths", len(different))
	}
}

func TestShortStreamsDoNotResetTheBackoff(t *testing.T) {
	t.Parallel()
	b := Backoff{First: time.Second, Max: time.Minute}
	for range 3 {
		b.Next()
	}
	b.StreamEnded(shortStream - 1)
	if b.Attempts() != 3 {
		t.Error("a short stream reset it")
	}
	b.StreamEnded(shortStream)
	if b.Attempts() != 0 {
		t.Error("a stream that lasted did not reset it")
	}
}

func TestBackoffWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{First: time.Hour, Max: time.Hour}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		start := time.Now()
		if err := b.Wait(ctx); !errors.Is(err, why) || time.Since(start) != time.Second {
			t.Errorf("Wait returned %v after %s", err, time.Since(start))
		}
		if err := b.Wait(t.Context()); err != nil || time.Since(start) != time.Hour+time.Second {
			t.Errorf("Wait returned %v after %s", err, time.Since(start))
		}
	})
}
