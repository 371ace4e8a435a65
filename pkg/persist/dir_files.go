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

// files are the operations that change a directory, apart from the Dir that
// decides about them so that tests can let any of them fail. Names are relative
// to the directory.
type files interface {
	create(name string) (file, error) // a new file, 0600; an existing name is an error
	mkdir(name string) error          // 0700
	rename(from, to string) error
	remove(name string) error
	syncDir(name string) error
	barrier() (syncAll func() error, err error) // see dir_shared.go
}

type file interface {
	io.WriteCloser
	Sync() error
}

// osFiles keeps all names inside the root, whatever they are.
type osFiles struct{ root *os.Root }

func (o osFiles) create(name string) (file, error) {
	// O_EXCL also refuses a symbolic link that somebody has put there.
	return o.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
}

func (o osFiles) mkdir(name string) error      { return o.root.Mkdir(name, 0o700) }
func (o osFiles) rename(from, to string) error { return o.root.Rename(from, to) }
func (o osFiles) remove(name string) error     { return o.root.Remove(name) }

// syncDir opens the directory anew: a descriptor whose fsync failed once may
// answer well the next time without having written anything.
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
		err = nil // a file system without fsync of directories, such as some network shares
	}
	return errors.Join(err, dir.Close())
}

// replace writes name whole or not at all: under another name first, on stable
// storage before it gets its own. The name itself lasts from the next syncDir.
func replace(f files, name string, data []byte) error {
	temp := tempFor(name)
	if err := writeNew(f, temp, data, true); err != nil {
		return err
	}
	return named(f, temp, name)
}

// named gives a file its name, or removes it.
func named(f files, temp, name string) error {
	if err := f.rename(temp, name); err != nil {
		return errors.Join(err, f.remove(temp))
	}
	return nil
}

// writeNew leaves no file behind when it fails. Without sync somebody else
// brings it to stable storage.
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

// Temporary names start with a dot and so are never keys.
func tempFor(name string) string {
	return "." + name + "." + strconv.FormatUint(rand.Uint64(), 36) + ".tmp" //nolint:gosec // O_EXCL guards it, not chance
}

func isTemp(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp")
}
