package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// Guard takes the permission to write to the directory at path from all users but its
// owner: whoever may write to it can put another directory in the place of one in it.
// A directory that is missing, or in which users can only remove what is theirs, like
// /tmp, is left alone. Guard fails if the permission cannot be taken; for a directory
// of root it only warns, because those of containers are mounted like that.
func Guard(path string, log *slog.Logger) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	a := access{path: path, mode: info.Mode(), chmod: func(mode fs.FileMode) error { return os.Chmod(path, mode) }}
	return a.restrict(a.mode&^othersWrite, ownedByRoot(path), log)
}

// guard makes the directory name in the store private to the user of this process.
func (d *Dir) guard(name string) error {
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() { // SetAside follows no link out of the store
		return nil
	} else if err != nil {
		return err
	}
	path := d.path
	if name != "." {
		path += "/" + name
	}
	a := access{path: path, mode: info.Mode(), chmod: func(mode fs.FileMode) error { return d.root.Chmod(name, mode) }}
	return a.restrict(0o700, false, d.log)
}

const (
	othersWrite = fs.FileMode(0o022)
	others      = fs.FileMode(0o077)
)

// access is who may do what in a directory.
type access struct {
	path  string
	mode  fs.FileMode
	chmod func(fs.FileMode) error
}

// restrict changes the mode to the given one if that takes a permission away. If it
// cannot, it warns, and unless others are trusted it fails if they can write.
func (a access) restrict(mode fs.FileMode, trusted bool, log *slog.Logger) error {
	if a.mode.Perm()&others&^mode == 0 {
		return nil
	}
	was := a.mode.Perm().String()
	err := a.chmod(mode)
	switch {
	case err == nil:
		log.Warn("directory was open to other users; changed its mode", "dir", a.path, "was", was, "mode", mode.Perm().String())
	case trusted || a.mode&othersWrite == 0:
		log.Warn("directory is open to other users, and its mode cannot be changed; is it meant to be?", "dir", a.path,
			"mode", was, "err", err)
	default:
		return fmt.Errorf("other users can write to %s (mode %s), so they could replace what is stored there, and the mode cannot be changed;"+
			" have its owner run chmod go-w, or use another directory (dataDir): %w", a.path, was, err)
	}
	return nil
}

// ownedByRoot reports whether the directory belongs to root, or to nobody that this
// container knows.
func ownedByRoot(path string) bool {
	const overflow = 65534 // Linux: the owner has no number in this user namespace
	var stat unix.Stat_t
	return unix.Stat(path, &stat) == nil && (stat.Uid == 0 || stat.Uid == overflow)
}
