//go:build unix && !linux

package upstream

import "syscall"

// ownGroup puts a child into a process group of its own, so that it can be
// ended with its children.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
