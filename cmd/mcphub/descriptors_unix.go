//go:build unix

package main

import (
	"math"
	"net"
	"syscall"
)

// maxDescriptors returns how many file descriptors the process may have. The Go runtime has raised the limit as far as
// the system allows. 0: it is not known.
func maxDescriptors() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(limit.Cur, math.MaxInt32))
}

// descriptorOf returns the file descriptor of a connection, or -1. The system gives out the lowest one that is free, so
// it tells how many there are.
func descriptorOf(conn net.Conn) int {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return -1
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	_ = raw.Control(func(fd uintptr) { n = int(fd) })
	return n
}
