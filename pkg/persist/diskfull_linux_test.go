package persist_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

func TestDirReportsAFullDiskTearsNoRecordAndRecovers(t *testing.T) {
	needRoot(t)
	for pages := range 6 { // pages left; a value needs three
		t.Run(fmt.Sprintf("%d pages left", pages), func(t *testing.T) {
			path := tmpfs(t, "size=256k")
			d := openDir(t, path)
			o := newOutage(t, d, path)
			ballast := fill(t, path, pages)
			o.expect(t, syscall.ENOSPC)
			apply(t, d, del("deleted")) // deletions free space
			remove(t, ballast)
			o.expectOver(t)
		})
	}
}

func TestDirOpensOnAFullDisk(t *testing.T) {
	needRoot(t)
	path := tmpfs(t, "size=256k")
	d := openDir(t, path)
	o := newOutage(t, d, path)
	closeDir(t, d)
	writeFile(t, path, ".lock", "", 0o600) // as after a power cut
	ballast := fill(t, path, 0)
	d = openDir(t, path)
	o.dir = d
	o.expect(t, syscall.ENOSPC)
	remove(t, ballast)
	o.expectOver(t)
}

func TestDirReportsADiskWithoutInodesAndRecovers(t *testing.T) {
	needRoot(t)
	for inodes := range 3 { // inodes left
		t.Run(fmt.Sprintf("%d left", inodes), func(t *testing.T) {
			path := tmpfs(t, "size=1m,nr_inodes=64")
			o := newOutage(t, openDir(t, path), path)
			var ballast []string
			for {
				name := filepath.Join(path, fmt.Sprintf("ballast-%d", len(ballast)))
				if err := os.WriteFile(name, nil, 0o600); errors.Is(err, syscall.ENOSPC) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				ballast = append(ballast, name)
			}
			remove(t, ballast[:inodes]...)
			o.expect(t, syscall.ENOSPC)
			remove(t, ballast[inodes:]...)
			o.expectOver(t)
		})
	}
}

func TestDirReportsAReadOnlyDiskAndRecovers(t *testing.T) {
	needRoot(t)
	path := tmpfs(t, "size=256k")
	// The kernel cannot make a mount read-only while a file there is open for writing,
	// such as the lock file. So the lock file gets its own mount.
	writeFile(t, path, ".lock", "", 0o600)
	lock := filepath.Join(path, ".lock")
	if out, err := command("mount", "--bind", lock, lock); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	t.Cleanup(func() { unmount(t, lock) })
	o := newOutage(t, openDir(t, path), path)
	for range 2 {
		remount(t, path, "ro")
		o.expect(t, syscall.EROFS)
		err := o.dir.Apply(t.Context(), []persist.Change{del("deleted")})
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("deletion = %v; want EROFS", err)
		}
		if err := o.dir.SetAside(t.Context(), "deleted", "r"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("SetAside = %v; want EROFS", err)
		}
		remount(t, path, "rw")
		o.expectOver(t)
		apply(t, o.dir, put("deleted", "old"), put("updated", "old"), del("created-0"))
	}
}

// descriptorsEnv marks the child process that uses up its file descriptors.
const descriptorsEnv = "PERSIST_TEST_DESCRIPTORS"

func TestDirReportsMissingDescriptorsAndRecovers(t *testing.T) {
	if os.Getenv(descriptorsEnv) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), descriptorsEnv+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	path := t.TempDir()
	o := newOutage(t, openDir(t, path), path)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	for left := range 3 {
		release := useUpDescriptors(t, left)
		err := o.dir.Apply(t.Context(), o.changes())
		value, ok, getErr := o.dir.Get(t.Context(), "kept")
		deleteErr := o.dir.Apply(t.Context(), []persist.Change{del("deleted")})
		release()                    // the checks below need descriptors too
		if left == 0 || err != nil { // with a few descriptors left, writing may succeed
			o.check(t, err, syscall.EMFILE)
		}
		if left == 0 && (ok || !errors.Is(getErr, syscall.EMFILE)) {
			t.Errorf("Get = ok %v, %v; want EMFILE rather than a missing record", ok, getErr)
		}
		if left > 0 && (value == nil || !ok || getErr != nil) {
			t.Errorf("Get with %d left = ok %v, %v", left, ok, getErr)
		}
		if left == 0 && !errors.Is(deleteErr, syscall.EMFILE) {
			t.Errorf("deletion = %v; want EMFILE, because it is not durable", deleteErr)
		}
		o.expectOver(t)
	}
}

func useUpDescriptors(t *testing.T, left int) (release func()) {
	t.Helper()
	var used []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		used = append(used, fd)
	}
	closeAll := func(fds []int) {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	closeAll(used[:left])
	return func() { closeAll(used[left:]) }
}

// An outage is a period in which some changes cannot be written.
type outage struct {
	dir    *persist.Dir
	path   string
	before map[string]string
}

func newOutage(t *testing.T, d *persist.Dir, path string) *outage {
	t.Helper()
	before := map[string]string{"kept": "kept", "updated": "old", "deleted": "old"}
	for key, value := range before {
		apply(t, d, put(key, value))
	}
	return &outage{dir: d, path: path, before: before}
}

func (o *outage) changes() []persist.Change {
	batch := []persist.Change{put("updated", bigValue("updated"))}
	for i := range 4 {
		key := fmt.Sprintf("created-%d", i)
		batch = append(batch, put(key, bigValue(key)))
	}
	return batch
}

func bigValue(key string) string { return strings.Repeat(key+";", 10_000/len(key)) }

// expect applies the changes twice; some fail. A failure must not leave files that make the
// next attempt worse.
func (o *outage) expect(t *testing.T, cause error) {
	t.Helper()
	for range 2 {
		o.check(t, o.dir.Apply(t.Context(), o.changes()), cause)
	}
}

// check compares the stored values with the result of Apply.
func (o *outage) check(t *testing.T, err, cause error) {
	t.Helper()
	var failed *persist.BatchError
	if !errors.As(err, &failed) || !errors.Is(err, cause) || !strings.Contains(err.Error(), cause.Error()) {
		t.Fatalf("Apply = %v; want a BatchError that names %q", err, cause)
	}
	got := contents(t, o.dir)
	for _, c := range o.changes() {
		value, there := got[c.Key]
		isNew := value == string(c.Value)
		old, wasThere := o.before[c.Key]
		isOld := there == wasThere && value == old
		if reason := failed.Failed[c.Key]; !isNew && (reason == nil || !isOld) {
			t.Errorf("%s holds %d bytes, %.40q (there: %v); its error: %v", c.Key, len(value), value, there, reason)
		}
		if isNew {
			o.before[c.Key] = value
		}
	}
	if got["kept"] != "kept" {
		t.Errorf("another record holds %q", got["kept"])
	}
	if temps := temps(t, o.path); len(temps) > 0 {
		t.Errorf("left over: %q", temps)
	}
}

// expectOver applies the same changes to the same Dir, and expects all of them to succeed.
func (o *outage) expectOver(t *testing.T) {
	t.Helper()
	apply(t, o.dir, append(o.changes(), del("deleted"))...)
	want := map[string]string{"kept": "kept"}
	for _, c := range o.changes() {
		want[c.Key] = string(c.Value)
	}
	if got := contents(t, o.dir); !maps.Equal(got, want) {
		t.Errorf("afterwards the store holds %.200q", fmt.Sprint(got))
	}
}

// tmpfs mounts a file system in memory.
func tmpfs(t *testing.T, options string) (path string) {
	t.Helper()
	path = t.TempDir()
	if out, err := command("mount", "-t", "tmpfs", "-o", options, "tmpfs", path); err != nil {
		t.Skipf("SKIPPED, nothing was tested: not allowed to mount? %v %s", err, out)
	}
	t.Cleanup(func() { unmount(t, path) })
	return path
}

func remount(t *testing.T, path, mode string) {
	t.Helper()
	if out, err := command("mount", "-o", "remount,bind,"+mode, path); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

// fill uses all space except some pages.
func fill(t *testing.T, path string, pages int) (ballast string) {
	t.Helper()
	ballast = filepath.Join(path, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, os.Getpagesize())
	size := 0
	for err == nil {
		_, err = f.Write(page)
		size += len(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(size - (pages+1)*len(page))); err != nil {
		t.Fatal(err)
	}
	return ballast
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
