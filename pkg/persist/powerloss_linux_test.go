package persist_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// The state after a power cut also depends on the kernel. So this test uses ext4 on a loop
// device and stops it during writes, with the ioctl that the developers of ext4 use for
// their tests. It needs root.

// soakEnv sets how often the power is cut in each case.
const soakEnv = "MCPHUB_SOAK_ROUNDS"

const ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN, with one of:
const (
	cutWithJournal = 1 // writes the journal: names are stored, unsynced contents are not
	cutAtOnce      = 2 // writes nothing any more
)

func TestPowerCutLosesNothingAcknowledgedAndRevivesNothingDeleted(t *testing.T) {
	needRoot(t)
	rounds := 3
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", soakEnv, err)
		}
	}
	// By default ext4 hides some errors of programs that do not sync; with
	// noauto_da_alloc it does not.
	for _, options := range []string{"defaults", "noauto_da_alloc"} {
		for how, flag := range map[string]int{"at once": cutAtOnce, "with journal": cutWithJournal} {
			t.Run(options+"/"+how, func(t *testing.T) {
				disk := newDisk(t, options)
				path := filepath.Join(disk.dir, "sessions")
				var ledgers []*ledger
				for i := range 4 {
					ledgers = append(ledgers, newLedger(fmt.Sprintf("w%d", i)))
				}
				for round := range rounds {
					// In two of three rounds at the most critical moment: directly
					// after an acknowledgement.
					write(t, openDir(t, path), ledgers, round%3 != 1, func() error { return disk.cut(flag) })
					disk.unmount(t)
					disk.mount(t)
					verify(t, path, ledgers)
				}
			})
		}
	}
}

// write runs a writer for each ledger until the power is cut. That is at a random time, or
// directly after the first acknowledgement following that time.
func write(t *testing.T, d *persist.Dir, ledgers []*ledger, whenAcknowledged bool, cutPower func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var due, broken atomic.Bool
	cut := sync.OnceFunc(func() {
		if err := cutPower(); err != nil {
			t.Errorf("cut the power: %v", err)
			broken.Store(true)
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(50*time.Millisecond + rand.N(250*time.Millisecond))
		if whenAcknowledged {
			due.Store(true)
		} else {
			cut()
		}
	})
	wg.Go(func() { _ = d.Run(ctx) }) // writes the index concurrently
	var writers sync.WaitGroup
	for _, l := range ledgers {
		writers.Go(func() {
			for !broken.Load() && l.write(t, d) {
				if due.Load() {
					cut()
				}
			}
		})
	}
	writers.Wait()
	cancel()
	wg.Wait()
	_ = d.Close() // it fails to write the index
	acknowledged := 0
	for _, l := range ledgers {
		acknowledged += l.answers
		l.answers = 0
	}
	if acknowledged == 0 {
		t.Error("the power was cut before anything was acknowledged")
	}
	t.Logf("power cut after %d acknowledged batches", acknowledged)
}

// verify compares the disk with the ledgers.
func verify(t *testing.T, path string, ledgers []*ledger) {
	t.Helper()
	if temps := temps(t, path); len(temps) > 0 {
		t.Logf("%d temporary files were left", len(temps))
	}
	if index, err := os.ReadFile(filepath.Join(path, "index.json")); err == nil && !json.Valid(index) {
		t.Errorf("index.json is torn: %.80q", index)
	}
	d := openDir(t, path)
	if temps := temps(t, path); len(temps) > 0 {
		t.Errorf("temporary files are still there: %q", temps)
	}
	found, aside := contents(t, d), quarantined(t, path)
	for _, l := range ledgers {
		l.verify(t, found, aside)
	}
	for key, value := range found {
		t.Errorf("%s was never written and holds %.40q", key, value)
	}
	closeDir(t, d)
	if err := os.RemoveAll(filepath.Join(path, "quarantine")); err != nil {
		t.Fatal(err)
	}
}

// A ledger is the expected state of the records of one writer, which no other writer changes.
// Versions count from 1; version 0 means that there is no record.
type ledger struct {
	name     string
	version  int // of the last batch
	answers  int
	stored   map[string]int // acknowledged
	inFlight map[string]int // sent and not acknowledged: may be stored or not
	aside    map[string]int // set aside, acknowledged
}

func newLedger(name string) *ledger {
	return &ledger{name: name, stored: make(map[string]int), inFlight: make(map[string]int), aside: make(map[string]int)}
}

// versionOf returns a value that differs for each key and version. Its size is between some
// bytes and some blocks.
func versionOf(key string, version int) string {
	return strings.Repeat(fmt.Sprintf("%s %d;", key, version), 1+version*7919%900)
}

// write sends one batch and reports whether it was acknowledged.
func (l *ledger) write(t *testing.T, d *persist.Dir) bool {
	if rand.IntN(20) == 0 {
		return l.setAside(t, d)
	}
	changes := l.batch()
	err := d.Apply(t.Context(), changes)
	var failed *persist.BatchError
	if err != nil && !errors.As(err, &failed) {
		t.Errorf("Apply = %v; want a BatchError", err)
		return false
	}
	for _, c := range changes {
		if err == nil || failed.Failed[c.Key] == nil {
			l.stored[c.Key] = l.inFlight[c.Key]
			delete(l.inFlight, c.Key)
		}
	}
	return l.answered(err)
}

func (l *ledger) answered(err error) bool {
	if err == nil {
		l.answers++
	}
	return err == nil
}

// batch creates, updates and deletes some records. Sometimes it only deletes: then no file
// is synced, but the directory must be.
func (l *ledger) batch() []persist.Change {
	var changes []persist.Change
	onlyDelete := rand.IntN(4) == 0
	for range 1 + rand.IntN(24) {
		key := fmt.Sprintf("%s-%d", l.name, rand.IntN(40))
		if _, twice := l.inFlight[key]; twice {
			continue
		}
		if onlyDelete || rand.IntN(4) == 0 {
			l.inFlight[key] = 0
			changes = append(changes, del(key))
			continue
		}
		l.version++
		l.inFlight[key] = l.version
		changes = append(changes, put(key, versionOf(key, l.version)))
	}
	return changes
}

func (l *ledger) setAside(t *testing.T, d *persist.Dir) bool {
	for key, version := range l.stored {
		if version == 0 {
			continue
		}
		l.inFlight[key] = 0
		err := d.SetAside(t.Context(), key, "looks odd")
		if err == nil {
			l.stored[key], l.aside[key] = 0, version
			delete(l.inFlight, key)
		}
		return l.answered(err)
	}
	return true // there is none
}

// verify checks the records of the ledger and removes them from found. It adopts the stored
// versions of those in flight.
func (l *ledger) verify(t *testing.T, found map[string]string, aside map[string]bool) {
	t.Helper()
	for key := range l.inFlight {
		if _, known := l.stored[key]; !known {
			l.stored[key] = 0
		}
	}
	for key, want := range l.stored {
		value, there := found[key]
		delete(found, key)
		flying, inFlight := l.inFlight[key]
		switch {
		case is(key, want, value, there):
		case inFlight && is(key, flying, value, there):
			l.stored[key] = flying
		case !there:
			t.Errorf("%s: version %d was acknowledged and is missing", key, want)
		case value == "":
			t.Errorf("%s: version %d was acknowledged and the record is empty", key, want)
		case want == 0:
			t.Errorf("%s was deleted, which was acknowledged, and has returned: %.40q", key, value)
		default:
			t.Errorf("%s: version %d was acknowledged, %d is in flight (%v) and it holds %d bytes, %.40q",
				key, want, flying, inFlight, len(value), value)
		}
	}
	for key, version := range l.aside {
		if !aside[versionOf(key, version)] {
			t.Errorf("%s: version %d was set aside, which was acknowledged, and is not in the quarantine", key, version)
		}
	}
	clear(l.inFlight)
	clear(l.aside)
}

func is(key string, version int, value string, there bool) bool {
	if version == 0 {
		return !there
	}
	return there && value == versionOf(key, version)
}

func quarantined(t *testing.T, path string) map[string]bool {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "quarantine", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, name := range names {
		all[readFile(t, name)] = true
	}
	return all
}

func temps(t *testing.T, path string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, ".*.tmp"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A disk is ext4 in a file, mounted at dir.
type disk struct{ image, dir, options string }

// newDisk skips the test if the system does not support it.
func newDisk(t *testing.T, options string) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir(), options: options}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 48<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := command("mkfs.ext4", "-q", "-F", d.image); err != nil {
		t.Skipf("SKIPPED, no power was cut: no mkfs.ext4 (package e2fsprogs)? %v %s", err, out)
	}
	if out, err := d.tryMount(); err != nil {
		t.Skipf("SKIPPED, no power was cut: no loop device or not allowed to mount? %v %s", err, out)
	}
	t.Cleanup(func() { unmount(t, d.dir) })
	return d
}

func (d *disk) tryMount() (out []byte, err error) {
	return command("mount", "-t", "ext4", "-o", "loop,"+d.options, d.image, d.dir)
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	if out, err := d.tryMount(); err != nil {
		t.Fatalf("mount again: %v %s", err, out)
	}
}

// unmount discards the data in the memory of the kernel, and the loop device.
func (d *disk) unmount(t *testing.T) {
	t.Helper()
	unmount(t, d.dir)
}

func (d *disk) cut(flag int) error {
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, flag)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, nothing was tested: mounting a file system takes root")
	}
}

// unmount tries several times: a process that another test is starting may have the files
// open for a moment.
func unmount(t *testing.T, dir string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	for deadline := time.Now().Add(5 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		err = unix.Unmount(dir, 0)
	}
	if errors.Is(err, unix.EBUSY) {
		t.Errorf("%s is busy", dir)
		err = unix.Unmount(dir, unix.MNT_DETACH)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) { // EINVAL: is not mounted
		t.Errorf("unmount: %v", err)
	}
}

func command(name string, args ...string) ([]byte, error) {
	return exec.CommandContext(context.Background(), name, args...).CombinedOutput()
}
