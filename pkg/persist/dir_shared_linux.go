package persist

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// barrier returns a function that brings everything written to the file system
// since now to stable storage. It is called once. Its error includes those of
// writing back what was written meanwhile, syncfs(2): Linux remembers since
// when the descriptor is open.
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
