package telemetry

import "time"

// alarm is a timer whose function can be waited for.
type alarm struct {
	timer *time.Timer
	done  chan struct{}
}

func after(d time.Duration, f func()) *alarm {
	a := &alarm{done: make(chan struct{})}
	a.timer = time.AfterFunc(d, func() {
		defer close(a.done)
		f()
	})
	return a
}

// end stops the alarm, or waits for its function. It is called once at most, and
// with no lock that the function needs.
func (a *alarm) end() {
	if a != nil && !a.timer.Stop() {
		<-a.done
	}
}
