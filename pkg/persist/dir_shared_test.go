//go:build linux

package persist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// openShared opens a Dir that syncs every batch as a whole.
func openShared(t *testing.T) (*Dir, *faulty) {
	t.Helper()
	d, f := withOldValues(t)
	d.sharedMin = 1
	return d, f
}

func TestBatchSyncedAsAWholeTearsNoRecord(t *testing.T) {
	for n := 1; n <= 30; n++ {
		for _, cause := range causes {
			for _, once := range []bool{false, true} {
				t.Run(fmt.Sprintf("operation %d/%v/once=%v", n, cause, once), func(t *testing.T) {
					d, f := openShared(t)
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

func TestFailedSyncOfABatchFailsAllItsRecords(t *testing.T) {
	d, f := openShared(t)
	f.err = errors.New("lost")
	f.fails = func(_ int, op string) bool { return strings.HasPrefix(op, "syncAll") }
	failed := failedKeys(t, applyBatch(d), f.err)
	if want := []string{"c1", "c2", "u1", "u2"}; !slices.Equal(failed, want) {
		t.Errorf("failed keys %q; want %q", failed, want)
	}
	expectOldOrNew(t, d, failed)
	expectNoTemps(t, d)
	expectRecovery(t, d, f)
}

func TestBatchSyncedAsAWholeIsDurableBeforeAnyName(t *testing.T) {
	d, f := openShared(t)
	if err := applyBatch(d); err != nil {
		t.Fatal(err)
	}
	sync := slices.IndexFunc(f.ops, func(op string) bool { return strings.HasPrefix(op, "syncAll") })
	if sync < 0 {
		t.Fatalf("not synced as a whole: %q", f.ops)
	}
	for i, op := range f.ops {
		what, _, _ := strings.Cut(op, " ")
		switch what {
		case "barrier":
			if i != 0 {
				t.Errorf("the descriptor that reports errors was opened after %q", f.ops[:i])
			}
		case "create", "write", "close":
			if i > sync {
				t.Errorf("%s came after the sync", op)
			}
		case "rename", "remove", "syncDir":
			if i < sync {
				t.Errorf("%s came before the sync", op)
			}
		case "sync":
			t.Errorf("%s was also synced individually", op)
		}
	}
	if last := f.ops[len(f.ops)-1]; last != "syncDir ." {
		t.Errorf("the last operation is %q", last)
	}
}

// slowSync simulates a disk that is busy with other writes.
type slowSync struct {
	files
	takes time.Duration
	calls int
}

func (s *slowSync) barrier() (func() error, error) {
	s.calls++
	return func() error {
		time.Sleep(s.takes) // in virtual time
		return nil
	}, nil
}

func TestSlowSharedSyncIsNotRepeatedForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, t.TempDir())
		s := &slowSync{files: d.files, takes: time.Second}
		d.files, d.sharedMin = s, 1
		apply := func() {
			t.Helper()
			if err := d.Apply(context.Background(), []Change{{"a", []byte("1")}}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			apply()
		}
		if s.calls != 1 {
			t.Errorf("%d shared syncs; want 1", s.calls)
		}
		time.Sleep(sharedPause)
		s.takes = 0
		apply()
		apply()
		if s.calls != 3 {
			t.Errorf("%d shared syncs; want 3: after the pause each batch uses it again", s.calls)
		}
	})
}
