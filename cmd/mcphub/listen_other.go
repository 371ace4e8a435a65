//go:build !linux

package main

import "syscall"

// boundDeadPeers does nothing: the time-outs of the system apply.
func boundDeadPeers(_, _ string, _ syscall.RawConn) error { return nil }
