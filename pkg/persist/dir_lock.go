package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const lockFile = ".lock"

// takeLock takes the directory for this process. The kernel gives the lock
// back when its holder dies, so a lock file that a killed process left behind
// hinders nobody. It is never removed: two processes could then each hold the
// lock of a file of that name.
func takeLock(root *os.Root) (*os.File, error) {
	f, err := openLock(root)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(refusal(root.Name(), f), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", root.Name(), err), f.Close())
	}
	writePID(f)
	return f, nil
}

func openLock(root *os.Root) (*os.File, error) {
	// A planted link must not make us write into what it points to.
	info, err := root.Lstat(lockFile)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", lockFile)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// writePID is for the words of a refusal alone, and so may fail: on a full disk
// there may be no room for it, and the records can be read all the same.
func writePID(f *os.File) {
	if err := f.Truncate(0); err != nil {
		return
	}
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
}

// refusal says who holds the lock.
func refusal(dir string, f *os.File) error {
	holder := "another process"
	var buf [20]byte
	n, _ := f.ReadAt(buf[:], 0) // short at the end of the file
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	switch {
	case err == nil && pid == os.Getpid():
		holder = fmt.Sprintf("this process (pid %d)", pid)
	case err == nil:
		holder = fmt.Sprintf("process %d", pid)
	}
	return fmt.Errorf("%w: %s holds %s; stop it first or use another directory", ErrLocked, holder, dir)
}

// releaseLock unlocks before it closes: a child process that is just being
// started shares the descriptor for a moment and would keep the lock.
func releaseLock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}
