package transport

import "syscall"

// ownGroup puts a child into a process group of its own, so that it can be killed together with its children. The
// kernel kills the child if the hub is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
