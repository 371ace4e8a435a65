package persist

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The operations of a batch run in any order, so a test identifies the one that fails by
// its description, such as "rename a.json", and not by its number.

// faulty implements files. It records each operation and makes some fail. It does not sync
// anything, because the tests have thousands of operations; the power cut tests cover that.
type faulty struct {
	files
	fails func(n int, op string) bool // called with mu held; n counts from 1
	err   error
	late  bool // the operation takes effect although it fails

	mu  sync.Mutex
	ops []string
}

func (f *faulty) do(op, name string, act func() error) error {
	name = recordOf(name)
	f.mu.Lock()
	f.ops = append(f.ops, op+" "+name)
	fail := f.fails != nil && f.fails(len(f.ops), op+" "+name)
	f.mu.Unlock()
	if !fail {
		return act()
	}
	if f.late {
		_ = act()
	}
	return f.err
}

// recordOf turns .a.json.<random>.tmp into a.json.
func recordOf(name string) string {
	if isTemp(name) {
		name = name[1:strings.LastIndex(strings.TrimSuffix(name, ".tmp"), ".")]
	}
	return name
}

func (f *faulty) create(name string) (file, error) {
	var made file
	err := f.do("create", name, func() (err error) {
		made, err = f.files.create(name)
		return err
	})
	if err != nil {
		if made != nil {
			made.Close()
		}
		return nil, err
	}
	return &faultyFile{file: made, files: f, name: name}, nil
}

func (f *faulty) mkdir(name string) error {
	return f.do("mkdir", name, func() error { return f.files.mkdir(name) })
}

func (f *faulty) rename(from, to string) error {
	return f.do("rename", to, func() error { return f.files.rename(from, to) })
}

func (f *faulty) remove(name string) error {
	return f.do("remove", name, func() error { return f.files.remove(name) })
}

func (f *faulty) syncDir(name string) error {
	return f.do("syncDir", name, nothing)
}

func (f *faulty) barrier() (func() error, error) {
	if err := f.do("barrier", "", nothing); err != nil {
		return nil, err
	}
	return func() error { return f.do("syncAll", "", nothing) }, nil
}

type faultyFile struct {
	file
	files *faulty
	name  string
}

func (f *faultyFile) Write(data []byte) (n int, err error) {
	err = f.files.do("write", f.name, func() error {
		n, err = f.file.Write(data)
		return err
	})
	if err != nil && n == 0 {
		n, _ = f.file.Write(data[:len(data)/2]) // as if the disk became full
	}
	return n, err
}

func (f *faultyFile) Sync() error { return f.files.do("sync", f.name, nothing) }

func (f *faultyFile) Close() error {
	err := f.files.do("close", f.name, nothing)
	return errors.Join(err, f.file.Close())
}

func nothing() error { return nil }

// causes are the errors of a broken, a full and a read-only disk, and of a process without
// free file descriptors.
var causes = []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EMFILE}

var (
	oldValues = map[string]string{"u1": "old 1", "u2": "old 2", "d1": "old 3", "d2": "old 4", "kept": "kept"}
	newValues = map[string]string{"u1": "new 1", "u2": "new 2", "c1": "new 5", "c2": "", "kept": "kept"}
	batch     = []Change{
		{"c1", []byte("new 5")}, {"c2", []byte{}}, {"u1", []byte("new 1")}, {"u2", []byte("new 2")},
		{Key: "d1"}, {Key: "d2"}, {Key: "nobody"},
	}
)

// withOldValues returns a Dir that contains oldValues, and the faulty files of it.
func withOldValues(t *testing.T) (*Dir, *faulty) {
	t.Helper()
	d := open(t, t.TempDir())
	f := &faulty{files: d.files}
	d.files = f
	var changes []Change
	for key, value := range oldValues {
		changes = append(changes, Change{key, []byte(value)})
	}
	if err := d.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	f.ops = nil
	return d, f
}

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path, DirConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // may have been closed by the test
	return d
}

// operations returns the operations of act if nothing fails, each once.
func operations(t *testing.T, act func(*Dir) error) []string {
	t.Helper()
	d, f := withOldValues(t)
	if err := act(d); err != nil {
		t.Fatal(err)
	}
	slices.Sort(f.ops)
	return slices.Compact(f.ops)
}

func applyBatch(d *Dir) error { return d.Apply(context.Background(), batch) }

func TestRecordIsWrittenWholeOrNotAtAll(t *testing.T) {
	for _, op := range operations(t, applyBatch) {
		for _, cause := range causes {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/late=%v", op, cause, late), func(t *testing.T) {
					d, f := withOldValues(t)
					f.err, f.late = cause, late
					f.fails = func(_ int, o string) bool { return o == op }

					err := applyBatch(d)
					failed := failedKeys(t, err, cause)
					if want := keysTouchedBy(op); !slices.Equal(failed, want) {
						t.Errorf("failed keys %q; want %q", failed, want)
					}
					expectOldOrNew(t, d, failed)
					if !late { // with late, create may have created a file although it failed
						expectNoTemps(t, d)
					}
					expectRecovery(t, d, f)
				})
			}
		}
	}
}

func TestDiskThatFailsDuringABatchTearsNoRecord(t *testing.T) {
	for n := 1; n <= 2*len(operations(t, applyBatch)); n++ {
		for _, cause := range causes {
			for _, once := range []bool{false, true} {
				t.Run(fmt.Sprintf("operation %d/%v/once=%v", n, cause, once), func(t *testing.T) {
					d, f := withOldValues(t)
					f.err = cause
					f.fails = func(i int, _ string) bool { return i == n || i > n && !once }
					if err := applyBatch(d); err != nil {
						expectOldOrNew(t, d, failedKeys(t, err, cause))
					} else {
						expectOldOrNew(t, d, nil)
					}
					expectRecovery(t, d, f)
				})
			}
		}
	}
}

// keysTouchedBy returns the keys that fail with the operation, sorted.
func keysTouchedBy(op string) []string {
	what, name, _ := strings.Cut(op, " ")
	if what != "syncDir" {
		return []string{strings.TrimSuffix(name, extension)}
	}
	var all []string
	for _, c := range batch {
		all = append(all, c.Key)
	}
	slices.Sort(all)
	return all
}

func failedKeys(t *testing.T, err, cause error) []string {
	t.Helper()
	var failed *BatchError
	if !errors.As(err, &failed) || !errors.Is(err, cause) {
		t.Fatalf("Apply = %v; want a BatchError that wraps %v", err, cause)
	}
	return slices.Sorted(maps.Keys(failed.Failed))
}

func expectOldOrNew(t *testing.T, d *Dir, failed []string) {
	t.Helper()
	got := read(t, d.path)
	for _, key := range []string{"c1", "c2", "u1", "u2", "d1", "d2", "kept", "nobody"} {
		value, ok := got[key]
		delete(got, key)
		newValue, newOK := newValues[key]
		oldValue, oldOK := oldValues[key]
		isNew := ok == newOK && value == newValue
		isOld := ok == oldOK && value == oldValue
		if !isNew && !(isOld && slices.Contains(failed, key)) {
			t.Errorf("%s holds %q (exists: %v); failed keys are %q", key, value, ok, failed)
		}
	}
	if len(got) > 0 {
		t.Errorf("there are unexpected records: %q", got)
	}
}

// expectRecovery ends the failures and applies the batch again.
func expectRecovery(t *testing.T, d *Dir, f *faulty) {
	t.Helper()
	f.mu.Lock()
	f.fails, f.ops = nil, nil
	f.mu.Unlock()
	if err := applyBatch(d); err != nil {
		t.Fatalf("the same batch again: %v", err)
	}
	if !slices.Contains(f.ops, "syncDir .") {
		t.Error("the names were not made durable")
	}
	if got := read(t, d.path); !maps.Equal(got, newValues) {
		t.Errorf("the directory holds %q; want %q", got, newValues)
	}
	keys, _ := d.snapshot()
	if want := slices.Sorted(maps.Keys(newValues)); !slices.Equal(slices.Sorted(slices.Values(keys)), want) {
		t.Errorf("keys %q; want %q", keys, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, d.path)
	again.files = &faulty{files: again.files}
	expectNoTemps(t, again)
}

// read reads the files without a Dir.
func read(t *testing.T, path string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := keyOf(filepath.Base(name)); ok {
			all[key] = string(data)
		}
	}
	return all
}

func expectNoTemps(t *testing.T, d *Dir) {
	t.Helper()
	if temps, _ := filepath.Glob(filepath.Join(d.path, ".*.tmp")); len(temps) > 0 {
		t.Errorf("left over: %q", temps)
	}
}

// The state after a crash depends only on the order of these operations.
func TestContentIsDurableBeforeItsNameAndNamesBeforeApplyReturns(t *testing.T) {
	d, f := withOldValues(t)
	if err := applyBatch(d); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"c1", "c2", "u1", "u2"} {
		var order []string
		for _, op := range f.ops {
			if what, name, _ := strings.Cut(op, " "); name == fileOf(key) {
				order = append(order, what)
			}
		}
		if !slices.Equal(order, []string{"create", "write", "sync", "close", "rename"}) {
			t.Errorf("%s: %q", key, order)
		}
	}
	syncs := 0
	for _, op := range f.ops {
		if op == "syncDir ." {
			syncs++
		}
	}
	if last := f.ops[len(f.ops)-1]; syncs != 1 || last != "syncDir ." {
		t.Errorf("%d syncs of the directory, last operation %q; want one, at the end", syncs, last)
	}
}

func TestRepeatedDeletionBecomesDurableAfterAFailedSync(t *testing.T) {
	d, f := withOldValues(t)
	f.err = syscall.EIO
	f.fails = func(_ int, op string) bool { return op == "syncDir ." }
	deletion := []Change{{Key: "d1"}}
	failedKeys(t, d.Apply(t.Context(), deletion), syscall.EIO)
	failedKeys(t, d.Apply(t.Context(), deletion), syscall.EIO)
	f.fails, f.ops = nil, nil
	for range 2 {
		if err := d.Apply(t.Context(), deletion); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(f.ops, ", "); got != "remove d1.json, syncDir ., remove d1.json" {
		t.Errorf("operations: %s", got)
	}
}

func TestSetAsideNeverLosesTheRecord(t *testing.T) {
	aside := func(d *Dir) error { return d.SetAside(context.Background(), "u1", "damaged") }
	for _, op := range operations(t, aside) {
		for _, cause := range causes {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/late=%v", op, cause, late), func(t *testing.T) {
					d, f := withOldValues(t)
					f.err, f.late = cause, late
					f.fails = func(_ int, o string) bool { return o == op }
					if err := aside(d); !errors.Is(err, cause) {
						t.Fatalf("SetAside = %v; want %v", err, cause)
					}
					inStore, inQuarantine := read(t, d.path), read(t, filepath.Join(d.path, quarantine))
					if inStore["u1"] != oldValues["u1"] && inQuarantine["u1"] != oldValues["u1"] {
						t.Errorf("the record is neither in %q nor in %q", inStore, inQuarantine)
					}
					f.fails, f.ops = nil, nil
					if err := aside(d); err != nil {
						t.Fatal(err)
					}
					if strings.HasPrefix(op, "syncDir") && !slices.Contains(f.ops, op) {
						t.Errorf("%s was not tried again", op)
					}
					if _, ok, err := d.Get(t.Context(), "u1"); ok || err != nil {
						t.Errorf("after SetAside: ok %v, %v", ok, err)
					}
					if names, _ := filepath.Glob(filepath.Join(d.path, quarantine, "u1*.json")); len(names) != 1 {
						t.Errorf("the quarantine holds %q", names)
					}
				})
			}
		}
	}
}

func TestRecordSetAsideIsDurableInTheQuarantineFirst(t *testing.T) {
	d, f := withOldValues(t)
	for range 2 { // the second call has nothing to do
		if err := d.SetAside(t.Context(), "u1", "damaged"); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"mkdir quarantine",
		"create quarantine/u1.json.reason", "write quarantine/u1.json.reason",
		"sync quarantine/u1.json.reason", "close quarantine/u1.json.reason",
		"rename quarantine/u1.json", "syncDir quarantine", "syncDir .",
	}
	if !slices.Equal(f.ops, want) {
		t.Errorf("operations %q; want %q", f.ops, want)
	}
}

func TestFailingIndexHarmsNoRecord(t *testing.T) {
	closing := func(d *Dir) error { return d.Close() }
	for _, op := range operations(t, closing) {
		for _, cause := range causes {
			t.Run(fmt.Sprintf("%s/%v", op, cause), func(t *testing.T) {
				d, f := withOldValues(t)
				f.err = cause
				f.fails = func(_ int, o string) bool { return o == op }
				if err := d.Close(); !errors.Is(err, cause) {
					t.Errorf("Close = %v; want %v", err, cause)
				}
				if err := open(t, d.path).Close(); err != nil {
					t.Errorf("the directory is not free or not usable: %v", err)
				}
				if got := read(t, d.path); !maps.Equal(got, oldValues) {
					t.Errorf("the directory holds %q", got)
				}
			})
		}
	}
}

func TestWaitForTheDiskEndsWithTheContextAndAStartedBatchDoesNot(t *testing.T) {
	d, f := withOldValues(t)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.fails = func(int, string) bool {
		once.Do(func() { close(reached); <-release })
		return false
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan error)
	go func() { first <- d.Apply(ctx, batch) }()
	<-reached
	waiting, giveUp := context.WithTimeout(t.Context(), time.Millisecond)
	defer giveUp()
	if err := d.Apply(waiting, batch); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Apply behind a slow disk = %v; want DeadlineExceeded", err)
	}
	if value, ok, err := d.Get(t.Context(), "kept"); string(value) != "kept" || !ok || err != nil {
		t.Errorf("Get behind a slow disk = %q, %v, %v", value, ok, err)
	}
	cancel()
	close(release)
	if err := <-first; err != nil {
		t.Errorf("a started batch was not finished: %v", err)
	}
	if got := read(t, d.path); !maps.Equal(got, newValues) {
		t.Errorf("the directory holds %q", got)
	}
}

func TestIndexTakesAtMostOnePercentOfTheTime(t *testing.T) {
	for _, took := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, time.Second, time.Minute} {
		delay := delayAfter(took)
		if share := float64(took) / float64(took+delay); share > 0.0101 || delay < indexDelay {
			t.Errorf("an index that takes %v is written again after %v: %.3f of the time", took, delay, share)
		}
	}
}
