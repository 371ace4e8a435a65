package upstream

import "syscall"

// ownGroup puts a child into a process group of its own, so that it can be
// ended with its children, and has the kernel end it should the hub be killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
