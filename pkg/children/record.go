package children

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// record is what is known of the process group of one child. Pid is also the id of the group.
type record struct {
	Server    string `json:"server"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // of the child, in clock ticks since the boot
	BootID    string `json:"bootId"`
	Namespace string `json:"pidNamespace"`
	Mark      string `json:"mark"` // of the hub, in the environment of the child
}

const (
	maxRecord  = 4 << 10 // bytes
	maxRecords = 100_000
)

// records is the directory of the records, one file of mode 0600 for each child, named by its pid.
type records struct{ root *os.Root }

// openRecords opens the directory and makes it if necessary. Others than the owner have no access to it.
func openRecords(dir string) (records, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return records{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return records{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return records{}, err
	}
	if err := root.Chmod(".", 0o700); err != nil {
		return records{}, errors.Join(fmt.Errorf("restrict %s to its owner: %w", dir, err), root.Close())
	}
	return records{root}, nil
}

func (rs records) close() error { return rs.root.Close() }

// write is not durable: after a power loss there are no processes to be found.
func (rs records) write(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := rs.root.OpenFile(strconv.Itoa(r.PID), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

func (rs records) remove(pid int) error { return rs.root.Remove(strconv.Itoa(pid)) }

// all returns the records. Files that are none are removed: a hub may have been killed while it wrote them.
func (rs records) all() ([]record, error) {
	dir, err := rs.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(maxRecords)
	if err = errors.Join(err, dir.Close()); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var list []record
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid <= 1 || strconv.Itoa(pid) != name {
			continue // somebody else's
		}
		r, err := rs.read(name)
		if err != nil || r.PID != pid || r.Mark == "" {
			_ = rs.root.Remove(name)
			continue
		}
		list = append(list, r)
	}
	return list, nil
}

func (rs records) read(name string) (r record, err error) {
	f, err := rs.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return r, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err = errors.Join(err, f.Close()); err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}
