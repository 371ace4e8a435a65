package main

import (
	"os"
	"os/signal"
	"syscall"
)

// endSignals are the signals of which the first ends a command in order.
func endSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup has it ignored, and means it
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// outlive has the process go on when a signal comes that is no request to end at once: SIGPIPE, when the reader of the
// log is gone, and a second SIGHUP, because a terminal that goes away sends several. The function that it returns
// undoes that.
//
// The signals are caught, not ignored: child processes would inherit that.
func outlive() (undo func()) {
	nobody := make(chan os.Signal, 1)
	signal.Notify(nobody, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(nobody, syscall.SIGHUP)
	}
	return func() { signal.Stop(nobody) }
}
