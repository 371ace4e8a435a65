package persist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

const quarantine = "quarantine"

// SetAside implements Store. It moves the file, without reading it, to
// quarantine/<key>.json, or to <key>.2.json and so on if the name is taken. The file
// of the same name with .reason appended contains the time and the reason.
func (d *Dir) SetAside(ctx context.Context, key, reason string) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	if err := checkKey(key); err != nil {
		return err
	}
	if err := d.setAside(key, reason); err != nil {
		return fmt.Errorf("set aside %q: %w", key, err)
	}
	return nil
}

func (d *Dir) setAside(key, reason string) error {
	if ok, err := d.isRecord(fileOf(key)); err != nil {
		return err
	} else if ok {
		if err := d.move(key, reason); err != nil {
			return err
		}
	}
	d.updateKeys([]Change{{Key: key}}, []error{nil})
	return errors.Join(d.syncQuarantine(), d.syncNames())
}

// move moves the record and writes its reason.
func (d *Dir) move(key, reason string) error {
	to, err := d.quarantineName(key)
	if err != nil {
		return err
	}
	text := time.Now().UTC().Format(time.RFC3339) + " " + reason + "\n"
	if err := writeNew(d.files, to+".reason", []byte(text), true); err != nil {
		return err
	}
	d.unsynced.Store(true)
	if err := d.files.rename(fileOf(key), to); err != nil {
		return errors.Join(err, d.files.remove(to+".reason"))
	}
	d.quarantineUnsynced = true
	return nil
}

// syncQuarantine makes the names in the quarantine durable. Like syncNames it tries
// again after a failure.
func (d *Dir) syncQuarantine() error {
	if !d.quarantineUnsynced {
		return nil
	}
	if err := d.files.syncDir(quarantine); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	d.quarantineUnsynced = false
	return nil
}

// quarantineName returns a free name in the quarantine, for a record and its reason.
func (d *Dir) quarantineName(key string) (string, error) {
	if err := d.files.mkdir(quarantine); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	name := quarantine + "/" + fileOf(key)
	for n := 2; ; n++ {
		free, err := d.isFree(name)
		if free || err != nil {
			return name, err
		}
		name = quarantine + "/" + key + "." + strconv.Itoa(n) + extension
	}
}

// isFree reports whether neither the name nor that of its reason exists.
func (d *Dir) isFree(name string) (bool, error) {
	for _, n := range []string{name, name + ".reason"} {
		if _, err := d.root.Lstat(n); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}
