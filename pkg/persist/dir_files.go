package persist

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// files are the operations that change a directory. They are an interface so that
// tests can make any of them fail. Names are relative to the directory.
type files interface {
	create(name string) (file, error) // mode 0600; fails if the name exists
	mkdir(name string) error          // mode 0700
	rename(from, to string) error
	remove(name string) error
	syncDir(name string) error
	barrier() (syncAll func() error, err error) // see dir_shared.go
}

type file interface {
	io.WriteCloser
	Sync() error
}

// osFiles implements files with os.Root, which rejects names outside of the root.
type osFiles struct{ root *os.Root }

func (o osFiles) create(name string) (file, error) {
	// O_EXCL also rejects a symbolic link under that name.
	return o.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
}

func (o osFiles) mkdir(name string) error      { return o.root.Mkdir(name, 0o700) }
func (o osFiles) rename(from, to string) error { return o.root.Rename(from, to) }
func (o osFiles) remove(name string) error     { return o.root.Remove(name) }

// syncDir opens the directory anew each time: after a failed fsync, another one on
// the same descriptor may succeed without writing anything.
func (o osFiles) syncDir(name string) error {
	dir, err := o.root.Open(name)
	if err != nil {
		return err
	}
	return syncAndClose(dir)
}

func syncAndClose(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // some file systems, such as network shares, cannot sync directories
	}
	return errors.Join(err, dir.Close())
}

// replace writes the file name as a whole or not at all: it writes and syncs a
// temporary file and renames it. The new name is durable after the next syncDir.
func replace(f files, name string, data []byte) error {
	temp := tempFor(name)
	if err := writeNew(f, temp, data, true); err != nil {
		return err
	}
	return renameTemp(f, temp, name)
}

// renameTemp renames a temporary file, and removes it if that fails.
func renameTemp(f files, temp, name string) error {
	if err := f.rename(temp, name); err != nil {
		return errors.Join(err, f.remove(temp))
	}
	return nil
}

// writeNew creates the file name. If it fails, it leaves no file. Without sync the
// caller must bring the file to stable storage.
func writeNew(f files, name string, data []byte, sync bool) error {
	w, err := f.create(name)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err == nil && sync {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return errors.Join(err, f.remove(name))
	}
	return nil
}

// tempFor returns a name for a temporary file. It starts with a dot, so it cannot be
// that of a record.
func tempFor(name string) string {
	return "." + name + "." + strconv.FormatUint(rand.Uint64(), 36) + ".tmp" //nolint:gosec // O_EXCL detects collisions
}

func isTemp(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp")
}
