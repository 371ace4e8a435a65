package telemetry

import "time"

// timer calls a function after a time, like time.AfterFunc. Its owner can wait for the
// end of the function.
type timer struct {
	*time.Timer
	done chan struct{} // closed after the function has returned
}

func afterFunc(d time.Duration, f func()) *timer {
	t := &timer{done: make(chan struct{})}
	t.Timer = time.AfterFunc(d, func() {
		defer close(t.done)
		f()
	})
	return t
}

// stopAndWait stops the timer, or waits for its function if that has started. Call it at
// most once, without a lock that the function needs. A nil timer does nothing.
func (t *timer) stopAndWait() {
	if t != nil && !t.Stop() {
		<-t.done
	}
}
