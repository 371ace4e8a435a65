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

// takeLock locks the directory for this process. The kernel releases the lock when
// its holder dies, so the lock file of a killed process does no harm. The file is
// never removed: otherwise two processes could hold locks on two different files of
// the same name.
func takeLock(root *os.Root) (*os.File, error) {
	f, err := openLock(root)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(lockedError(root.Name(), f), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", root.Name(), err), f.Close())
	}
	writePID(f)
	return f, nil
}

func openLock(root *os.Root) (*os.File, error) {
	// Do not follow a symbolic link that somebody has put there: the PID would
	// overwrite its target.
	info, err := root.Lstat(lockFile)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", lockFile)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// writePID writes the process id, which is used only in the error for other
// processes. It ignores failures: on a full disk the records can still be read.
func writePID(f *os.File) {
	if err := f.Truncate(0); err != nil {
		return
	}
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
}

// lockedError returns the error for a lock that another Dir holds.
func lockedError(dir string, f *os.File) error {
	holder := "another process"
	var buf [20]byte
	n, _ := f.ReadAt(buf[:], 0) // io.EOF is expected
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	switch {
	case err == nil && pid == os.Getpid():
		holder = fmt.Sprintf("this process (pid %d)", pid)
	case err == nil:
		holder = fmt.Sprintf("process %d", pid)
	}
	return fmt.Errorf("%w: %s holds %s; stop it first or use another directory", ErrLocked, holder, dir)
}

// releaseLock unlocks before it closes: a child process that is being started may
// share the descriptor for a moment, and would keep the lock.
func releaseLock(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}
