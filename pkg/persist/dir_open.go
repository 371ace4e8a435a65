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

// makeDir creates path and its missing parents, each durably.
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

// prepare makes the directory ready for use: it restricts the mode, lists the
// records and removes temporary files. The caller holds the lock of the directory.
func (d *Dir) prepare() error {
	for _, name := range []string{".", quarantine} {
		if err := d.guard(name); err != nil {
			return err
		}
	}
	found, err := d.list()
	if err != nil {
		return err
	}
	if found.ignored > 0 {
		d.log.Warn("store directory contains files that are not records; they are ignored",
			"dir", d.path, "files", found.ignored, "first", found.example)
	}
	// Always write index.json: that is cheaper than checking it.
	d.version++
	d.markStale()
	return d.removeTemps(found.temps)
}

// listing describes the files of a directory that are not records.
type listing struct {
	temps   []string // temporary files
	ignored int      // number of *.json files that are not records
	example string   // one of those
}

// list adds the keys of the records to d.keys and returns the other files.
func (d *Dir) list() (found listing, err error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return found, err
	}
	defer func() { _ = dir.Close() }()
	for {
		entries, err := dir.ReadDir(1024) // in parts, because there may be a million
		for _, entry := range entries {
			d.classify(entry, &found)
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
	}
}

func (d *Dir) classify(entry fs.DirEntry, found *listing) {
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

// removeTemps removes temporary files that a crash has left. This process holds the
// lock, so no other one is writing to them.
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
