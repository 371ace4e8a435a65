package transport

import (
	"context"
	"math/rand/v2"
	"time"
)

// shortStream is how long a stream of a server has to last for the pause before the next one to be the first again: a
// server that ends streams at once is asked ever more rarely. It is shorter than the limits that serverless platforms
// and load balancers put on streams that work.
const shortStream = 10 * time.Second

// Backoff computes the pauses between attempts: each is twice as long as the one before, up to Max. The zero Backoff
// makes no pause. It is not safe for concurrent use.
type Backoff struct {
	First, Max time.Duration
	Jitter     float64 // a pause becomes longer by a random part of itself, up to this: 0.25 is a quarter

	attempts int
}

// Attempts returns how many pauses Next has returned since Reset.
func (b *Backoff) Attempts() int { return b.attempts }

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	d := b.base()
	b.attempts++
	if jitter := time.Duration(b.Jitter * float64(d)); jitter > 0 {
		d += rand.N(jitter) //nolint:gosec // jitter
	}
	return d
}

// base is the next pause without jitter.
func (b *Backoff) base() time.Duration {
	d := b.First
	for range b.attempts {
		if d >= b.Max {
			break
		}
		d *= 2
	}
	return min(d, b.Max)
}

// Wait makes the next pause. It returns the cause if ctx ends before.
func (b *Backoff) Wait(ctx context.Context) error { return Pause(ctx, b.Next()) }

// Reset makes the next pause the first again.
func (b *Backoff) Reset() { b.attempts = 0 }

// StreamEnded resets b after a stream that lasted so long, unless it was a short one.
func (b *Backoff) StreamEnded(lasted time.Duration) {
	if lasted >= shortStream {
		b.Reset()
	}
}

// Pause waits for d. It returns the cause if ctx ends before.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
