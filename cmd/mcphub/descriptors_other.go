//go:build !unix

package main

import "net"

// maxDescriptors returns 0: the system has no limit of descriptors that the hub knows.
func maxDescriptors() int { return 0 }

// descriptorOf returns -1: there is none.
func descriptorOf(net.Conn) int { return -1 }
