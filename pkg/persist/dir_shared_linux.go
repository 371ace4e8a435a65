package persist

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// barrier returns a function that brings everything that is written to the file
// system from now on to stable storage; call it once. It also returns errors of
// writes by the kernel since the call of barrier: syncfs(2) reports all that have
// occurred since the descriptor was opened.
func (o osFiles) barrier() (func() error, error) {
	dir, err := o.root.Open(".")
	if err != nil {
		return nil, err
	}
	return func() error { return syncFS(dir) }, nil
}

func syncFS(dir *os.File) error {
	raw, err := dir.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = unix.Syncfs(int(fd)) })
		err = errors.Join(err, cerr)
	}
	return errors.Join(err, dir.Close())
}
