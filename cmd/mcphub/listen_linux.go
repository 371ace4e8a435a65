package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadPeer is how long data that was sent may stay unacknowledged before the
// kernel closes the connection. The hub sends heartbeats every 15 s, so a
// half-open stream is closed within a minute.
const deadPeer = 45 * time.Second

// boundDeadPeers makes accepted connections fail if their peer has disappeared
// without closing them. They inherit the option TCP_USER_TIMEOUT from the
// listener, see tcp(7). Its signature is that of net.ListenConfig.Control.
func boundDeadPeers(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
	}); cerr != nil {
		return cerr
	}
	return err
}
