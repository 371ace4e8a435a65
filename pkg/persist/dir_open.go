package persist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// makeDir creates path and what is missing above it, each durably.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(parent)
	if err != nil {
		return err
	}
	return syncAndClose(dir)
}

// settle makes a directory that is now ours fit for use.
func (d *Dir) settle() error {
	if err := d.tighten(); err != nil {
		return err
	}
	found, err := d.list()
	if err != nil {
		return err
	}
	if found.ignored > 0 {
		d.log.Warn("store directory holds files that are no records; they are left alone",
			"dir", d.path, "files", found.ignored, "first", found.example)
	}
	// Whatever index.json says, it is cheaper to write it than to believe it.
	d.version++
	d.markStale()
	return d.removeTemps(found.temps)
}

// tighten keeps others out. Where the file system cannot, that is said and no
// reason to refuse: the files are 0600.
func (d *Dir) tighten() error {
	info, err := d.root.Stat(".")
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	was := info.Mode().Perm().String()
	if err := d.root.Chmod(".", 0o700); err != nil {
		d.log.Warn("store directory is open to other users and cannot be made 0700", "dir", d.path, "mode", was, "err", err)
	} else {
		d.log.Warn("store directory was open to other users; made it 0700", "dir", d.path, "was", was)
	}
	return nil
}

// listing is what a directory holds besides the keys.
type listing struct {
	temps   []string
	ignored int    // *.json that are no records
	example string // one of them
}

func (d *Dir) list() (found listing, err error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return found, err
	}
	defer func() { _ = dir.Close() }()
	for {
		entries, err := dir.ReadDir(1024) // a bounded piece of what may be a million
		for _, entry := range entries {
			d.sort(entry, &found)
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
	}
}

func (d *Dir) sort(entry fs.DirEntry, found *listing) {
	name := entry.Name()
	key, isKey := keyOf(name)
	switch {
	case isTemp(name) && entry.Type().IsRegular():
		found.temps = append(found.temps, name)
	case isKey && entry.Type().IsRegular():
		d.keys[key] = struct{}{}
	case filepath.Ext(name) == extension && name != indexFile:
		found.ignored++
		found.example = name
	}
}

// removeTemps removes what a crash left. The lock is ours, so nobody is
// writing to them.
func (d *Dir) removeTemps(names []string) error {
	for _, name := range names {
		if err := d.files.remove(name); err != nil {
			return fmt.Errorf("remove a temporary file of an earlier crash: %w", err)
		}
	}
	if len(names) > 0 {
		d.log.Info("removed temporary files of an earlier crash", "dir", d.path, "files", len(names))
	}
	return nil
}

const extension = ".json"

func fileOf(key string) string { return key + extension }

func keyOf(name string) (key string, ok bool) {
	key, ok = strings.CutSuffix(name, extension)
	return key, ok && ValidKey(key)
}
