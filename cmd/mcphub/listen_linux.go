package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadPeer is how long a peer may leave what was sent to it unacknowledged
// before its connection is given up. Heartbeats are sent every 15 s, so a
// half-open stream is found within a minute.
const deadPeer = 45 * time.Second

// boundDeadPeers makes accepted connections fail once their peer is gone
// without a word. They inherit the option from the listener, tcp(7).
func boundDeadPeers(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
	}); cerr != nil {
		return cerr
	}
	return err
}
