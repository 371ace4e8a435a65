package children

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	reapInterval = 10 * time.Second       // in case a signal is missed
	reapPause    = 100 * time.Millisecond // for a child of the hub to be waited for by who started it
	maxReaped    = 10_000                 // in a row
)

// Run waits, until ctx ends, for the processes that become children of process 1 because their parents have ended. Nobody
// else does: they would stay zombies, each of which takes a process id. It does nothing if this process is another one.
func (l *Ledger) Run(ctx context.Context) error {
	if !isInit() {
		return nil
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-signals:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		if l.reapStrangers() {
			timer.Reset(reapInterval)
		} else {
			timer.Reset(reapPause)
		}
	}
}

// reapStrangers waits for the children that have ended and that the hub has not started. It reports false if it has to
// be called again soon.
func (l *Ledger) reapStrangers() (done bool) {
	for range maxReaped {
		reaped, done := l.reapOne()
		if !reaped {
			return done
		}
		l.metrics.reaped.Inc()
	}
	return false
}

// reapOne waits for one such child. If it reports that there is none, done says whether there will be none soon.
func (l *Ledger) reapOne() (reaped, done bool) {
	l.mu.Lock() // no id of a child of the hub becomes known meanwhile
	defer l.mu.Unlock()
	pid, err := zombie()
	switch {
	case err != nil || pid == 0:
		return false, true
	case l.starting > 0 || l.alive[pid]: // it may be that of the hub, or hides behind one
		return false, false
	}
	if err := waitFor(pid); err != nil {
		return false, true
	}
	return true, true
}
