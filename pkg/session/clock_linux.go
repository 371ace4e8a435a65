package session

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MachineClock returns the Clock of this machine. Where it cannot be read, the wall
// clock is all there is.
func MachineClock() Clock {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if _, ok := uptime(); err != nil || !ok {
		return Clock{}
	}
	return Clock{Boot: strings.TrimSpace(string(boot)), Uptime: func() time.Duration {
		up, _ := uptime()
		return up
	}}
}

// uptime reads the clock that the process measures with, too: a machine that sleeps
// or is paused hears no client, so that time is not idleness.
func uptime() (up time.Duration, ok bool) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano()), err == nil
}
