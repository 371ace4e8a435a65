package persist_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/persist/persisttest"
)

func TestRecordsOutliveTheDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "sessions")
	d := openDir(t, path)
	apply(t, d, put("a", `{"x":1}`), put("b", "2"))
	closeDir(t, d)
	if got := readFile(t, path, "a.json"); got != `{"x":1}` {
		t.Errorf("a.json holds %q", got)
	}
	want := map[string]string{"a": `{"x":1}`, "b": "2"}
	if got := contents(t, openDir(t, path)); !maps.Equal(got, want) {
		t.Errorf("after reopening %q; want %q", got, want)
	}
}

func TestFilesAreUnreadableForOthersWithAnyUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "new", "sessions")
	d := openDir(t, path)
	apply(t, d, put("a", "1"), put("b", "2"))
	if err := d.SetAside(t.Context(), "b", "damaged"); err != nil {
		t.Fatal(err)
	}
	closeDir(t, d)
	err := filepath.WalkDir(filepath.Dir(path), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if got := modeOf(t, p); got != want {
			t.Errorf("%s has mode %v; want %v", e.Name(), got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestQuarantineThatOthersCanWriteToIsTightened(t *testing.T) {
	path := t.TempDir()
	mkdir(t, path, "quarantine")
	if err := os.Chmod(filepath.Join(path, "quarantine"), 0o777); err != nil {
		t.Fatal(err)
	}
	log := openLogged(t, path)
	if got := modeOf(t, filepath.Join(path, "quarantine")); got != 0o700 {
		t.Errorf("mode %v; want 0700", got)
	}
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, "quarantine") {
		t.Errorf("log %q; want a warning that names the directory", log)
	}
}

func TestDirectoryOpenToOthersIsTightenedWithAWarning(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	log := openLogged(t, path)
	if got := modeOf(t, path); got != 0o700 {
		t.Errorf("mode %v; want 0700", got)
	}
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, "was=-rwxrwxrwx") {
		t.Errorf("log %q; want a warning with the old mode", log)
	}
	if log := openLogged(t, path); log != "" {
		t.Errorf("a directory of mode 0700 logs %q", log)
	}
}

func TestDirectoryOfMCPHubLiteOpens(t *testing.T) {
	path := t.TempDir()
	const id = "probe-99-a3c175f1"
	record := "{\n  \"sessionId\": \"" + id + "\",\n  \"clientName\": \"probe\",\n  \"createdAt\": 1795339991818,\n" +
		"  \"lastAccessedAt\": 1795339991818,\n  \"metadata\": {}\n}"
	writeFile(t, path, id+".json", record, 0o644)
	writeFile(t, path, "index.json", "{\n  \"sessions\": [\n    \""+id+"\"\n  ]\n}", 0o644)
	if got := contents(t, openDir(t, path)); !maps.Equal(got, map[string]string{id: record}) {
		t.Errorf("read %q", got)
	}
}

func TestTemporaryFilesOfACrashAreRemovedAndNeverListed(t *testing.T) {
	path := t.TempDir()
	writeFile(t, path, ".a.json.1x2y3z.tmp", `{"half":`, 0o600)
	writeFile(t, path, ".index.json.9.tmp", `{"sess`, 0o600)
	writeFile(t, path, "a.json", "whole", 0o600)
	writeFile(t, path, "notes.tmp", "a person's own", 0o600)
	d := openDir(t, path)
	if got := contents(t, d); !maps.Equal(got, map[string]string{"a": "whole"}) {
		t.Errorf("read %q", got)
	}
	if got := namesIn(t, path); !slices.Equal(got, []string{".lock", "a.json", "notes.tmp"}) {
		t.Errorf("the directory holds %q", got)
	}
}

func TestOtherFilesAreKeptAndLogged(t *testing.T) {
	path := t.TempDir()
	writeFile(t, path, "two words.json", "x", 0o600)
	writeFile(t, path, "README", "x", 0o600)
	mkdir(t, path, "dir.json")
	if log := openLogged(t, path); !strings.Contains(log, "files=2") {
		t.Errorf("log %q; want a warning about 2 files", log)
	}
	d := openDir(t, path)
	if got := contents(t, d); len(got) > 0 {
		t.Errorf("read %q", got)
	}
	if _, ok, err := d.Get(t.Context(), "dir"); ok || err != nil {
		t.Errorf("Get of a directory = ok %v, %v", ok, err)
	}
	if err := d.SetAside(t.Context(), "dir", "no record"); err != nil {
		t.Error(err)
	}
	mkdir(t, path, "dir.json", "full")
	if err := d.Apply(t.Context(), []persist.Change{put("dir", "1"), put("a", "2")}); err == nil {
		t.Error("a record replaced a directory")
	}
	if got := contents(t, d); !maps.Equal(got, map[string]string{"a": "2"}) {
		t.Errorf("read %q", got)
	}
}

func TestRecordLargerThanTheLimitIsNotRead(t *testing.T) {
	path := t.TempDir()
	writeFile(t, path, "huge.json", strings.Repeat("x", persist.MaxValue+1), 0o600)
	d := openDir(t, path)
	if _, ok, err := d.Get(t.Context(), "huge"); ok || !errors.Is(err, persist.ErrTooLarge) {
		t.Errorf("Get = ok %v, %v; want ErrTooLarge", ok, err)
	}
	if err := d.SetAside(t.Context(), "huge", "too large"); err != nil {
		t.Error(err)
	}
}

func TestRecordRemovedByHandIsMissing(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	apply(t, d, put("a", "1"))
	if err := os.Remove(filepath.Join(path, "a.json")); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := d.Get(t.Context(), "a"); ok || err != nil {
		t.Errorf("Get = ok %v, %v", ok, err)
	}
	if err := d.SetAside(t.Context(), "a", "gone"); err != nil {
		t.Error(err)
	}
	if got := contents(t, d); len(got) > 0 {
		t.Errorf("read %q", got)
	}
}

func TestKeysNeverLeadOutOfTheDirectory(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, outside, "x.json", "secret", 0o600)
	path := filepath.Join(outside, "store")
	d := openDir(t, path)
	before := namesIn(t, path)
	for _, key := range persisttest.BadKeys {
		for _, c := range []persist.Change{put(key, "planted"), del(key)} {
			if err := d.Apply(t.Context(), []persist.Change{c}); !errors.Is(err, persist.ErrKey) {
				t.Errorf("Apply(%q) = %v; want ErrKey", key, err)
			}
		}
		if value, ok, err := d.Get(t.Context(), key); value != nil || ok || !errors.Is(err, persist.ErrKey) {
			t.Errorf("Get(%q) = %q, %v, %v; want ErrKey", key, value, ok, err)
		}
		if err := d.SetAside(t.Context(), key, "r"); !errors.Is(err, persist.ErrKey) {
			t.Errorf("SetAside(%q) = %v; want ErrKey", key, err)
		}
	}
	if got := namesIn(t, outside); !slices.Equal(got, []string{"store", "x.json"}) {
		t.Errorf("outside holds %q", got)
	}
	if got := readFile(t, outside, "x.json"); got != "secret" {
		t.Errorf("x.json outside holds %q", got)
	}
	if got := namesIn(t, path); !slices.Equal(got, before) {
		t.Errorf("the store holds %q; want %q", got, before)
	}
}

func TestSymbolicLinkIsNoRecordAndItsTargetIsSafe(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, outside, "secret", "secret", 0o600)
	path := filepath.Join(outside, "store")
	mkdir(t, path)
	writeFile(t, path, "record.json", "inside", 0o600)
	links := map[string]string{
		"absolute": filepath.Join(outside, "secret"), "relative": "../secret", "inside": "record.json", "dangling": "../new",
	}
	for name, target := range links {
		symlink(t, target, path, name+".json")
	}
	if err := syscall.Mkfifo(filepath.Join(path, "pipe.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, path)
	if got := contents(t, d); !maps.Equal(got, map[string]string{"record": "inside"}) {
		t.Errorf("read %q", got)
	}
	for _, name := range append(slices.Collect(maps.Keys(links)), "pipe") {
		if value, ok, err := d.Get(t.Context(), name); value != nil || ok || err != nil {
			t.Errorf("Get(%q) = %q, %v, %v; want a missing key", name, value, ok, err)
		}
		if err := d.SetAside(t.Context(), name, "r"); err != nil {
			t.Errorf("SetAside(%q) = %v", name, err)
		}
	}
	apply(t, d, put("absolute", "new"), del("relative"), put("inside", "new"), put("dangling", "new"), put("pipe", "new"))
	want := map[string]string{"record": "inside", "absolute": "new", "inside": "new", "dangling": "new", "pipe": "new"}
	if got := contents(t, d); !maps.Equal(got, want) {
		t.Errorf("read %q; want %q", got, want)
	}
	if got := namesIn(t, outside); !slices.Equal(got, []string{"secret", "store"}) {
		t.Errorf("outside holds %q", got)
	}
	if got := readFile(t, outside, "secret"); got != "secret" {
		t.Errorf("the link's target holds %q", got)
	}
}

func TestQuarantineOutsideOfTheDirectoryIsNotUsed(t *testing.T) {
	outside := t.TempDir()
	path := filepath.Join(outside, "store")
	mkdir(t, path)
	mkdir(t, outside, "elsewhere")
	symlink(t, "../elsewhere", path, "quarantine")
	d := openDir(t, path)
	apply(t, d, put("a", "1"))
	if err := d.SetAside(t.Context(), "a", "r"); err == nil {
		t.Error("SetAside followed the link")
	}
	if got := namesIn(t, filepath.Join(outside, "elsewhere")); len(got) > 0 {
		t.Errorf("elsewhere holds %q", got)
	}
	if got := contents(t, d); !maps.Equal(got, map[string]string{"a": "1"}) {
		t.Errorf("read %q", got)
	}
}

func TestLockFileThatIsALinkIsRefused(t *testing.T) {
	path := t.TempDir()
	writeFile(t, path, "a.json", "record", 0o600)
	symlink(t, "a.json", path, ".lock")
	if d, err := persist.OpenDir(path, persist.DirConfig{}); err == nil {
		d.Close()
		t.Error("the link was followed")
	}
	if got := readFile(t, path, "a.json"); got != "record" {
		t.Errorf("the link's target holds %q", got)
	}
}

func TestPathThatIsNoDirectoryIsRefused(t *testing.T) {
	path := t.TempDir()
	writeFile(t, path, "file", "x", 0o600)
	if d, err := persist.OpenDir(filepath.Join(path, "file"), persist.DirConfig{}); err == nil {
		d.Close()
		t.Error("a file was opened as a store")
	}
}

func TestQuarantinedRecordKeepsItsBytes(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	damaged := []string{"{\"half\":\x00\xff", "", "again\r\n"}
	for _, value := range damaged {
		apply(t, d, put("a", value))
		if err := d.SetAside(t.Context(), "a", "bad JSON at offset 8"); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"a.json", "a.2.json", "a.3.json"} {
		if got := readFile(t, path, "quarantine", name); got != damaged[i] {
			t.Errorf("%s holds %q; want %q", name, got, damaged[i])
		}
		if got := readFile(t, path, "quarantine", name+".reason"); !strings.HasSuffix(got, " bad JSON at offset 8\n") {
			t.Errorf("%s.reason holds %q", name, got)
		}
	}
	closeDir(t, d)
	if got := contents(t, openDir(t, path)); len(got) > 0 {
		t.Errorf("after reopening %q", got)
	}
}

func TestIndexFollowsTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		d := openDir(t, path)
		run(t, d)
		time.Sleep(time.Second)
		expectIndex(t, path, "sessions")
		apply(t, d, put("b", "2"), put("a", "1"), put("c", "3"))
		expectIndex(t, path, "sessions") // not yet
		time.Sleep(201 * time.Millisecond)
		expectIndex(t, path, "sessions", "a", "b", "c")
		apply(t, d, del("b"))
		if err := d.SetAside(t.Context(), "c", "r"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(201 * time.Millisecond)
		expectIndex(t, path, "sessions", "a")
	})
}

func TestCloseWritesTheIndex(t *testing.T) {
	path := t.TempDir()
	d, err := persist.OpenDir(path, persist.DirConfig{IndexName: "records"})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, d, put("a", "1"))
	closeDir(t, d)
	expectIndex(t, path, "records", "a")
}

func TestIndexIsNotRewrittenWhenOnlyValuesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		d := openDir(t, path)
		run(t, d)
		apply(t, d, put("a", "1"))
		time.Sleep(time.Second)
		if err := os.Remove(filepath.Join(path, "index.json")); err != nil {
			t.Fatal(err)
		}
		apply(t, d, put("a", "2"), del("nobody"))
		apply(t, d, put("a", "3"))
		time.Sleep(time.Hour)
		closeDir(t, d)
		if got := namesIn(t, path); slices.Contains(got, "index.json") {
			t.Error("the index was written")
		}
	})
}

func TestDamagedIndexLosesNoRecord(t *testing.T) {
	for name, index := range map[string]string{
		"missing": "", "empty": "\x00", "half": `{"sessions":["a`, "stale": `{"sessions":["gone"]}`, "escaping": `{"sessions":["../../x"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			writeFile(t, path, "a.json", "1", 0o600)
			writeFile(t, path, "b.json", "2", 0o600)
			if index != "" {
				writeFile(t, path, "index.json", strings.Trim(index, "\x00"), 0o600)
			}
			d := openDir(t, path)
			if got := contents(t, d); !maps.Equal(got, map[string]string{"a": "1", "b": "2"}) {
				t.Errorf("read %q", got)
			}
			closeDir(t, d)
			expectIndex(t, path, "sessions", "a", "b")
		})
	}
}

func TestIndexThatCannotBeWrittenIsTriedAgainEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		mkdir(t, path, "index.json", "in the way")
		var log bytes.Buffer
		d, err := persist.OpenDir(path, persist.DirConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		run(t, d)
		apply(t, d, put("a", "1"))
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if got := strings.Count(log.String(), "index of the store not written"); got != 3 {
			t.Errorf("%d warnings in 25 s; want 3", got)
		}
		if err := os.RemoveAll(filepath.Join(path, "index.json")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		expectIndex(t, path, "sessions", "a")
	})
}

func TestRunEndsWithItsContextOrTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDir(t, t.TempDir())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(t.Context()) }()
		synctest.Wait()
		closeDir(t, d)
		if err := <-ended; !errors.Is(err, persist.ErrClosed) {
			t.Errorf("Run of a store that is closed = %v; want ErrClosed", err)
		}
		if err := d.Run(t.Context()); !errors.Is(err, persist.ErrClosed) {
			t.Errorf("Run after Close = %v; want ErrClosed", err)
		}
	})
}

// run calls Run until the test ends.
func run(t *testing.T, d *persist.Dir) {
	ended := make(chan error)
	go func() { ended <- d.Run(t.Context()) }()
	t.Cleanup(func() { // t.Context has ended by now
		if err := <-ended; err != nil && !errors.Is(err, persist.ErrClosed) {
			t.Errorf("Run = %v", err)
		}
	})
}

func expectIndex(t *testing.T, path, field string, keys ...string) {
	t.Helper()
	var index map[string][]string
	if err := json.Unmarshal([]byte(readFile(t, path, "index.json")), &index); err != nil {
		t.Fatal(err)
	}
	if got := index[field]; len(index) != 1 || got == nil || !slices.Equal(got, keys) {
		t.Errorf("index.json holds %v; want only %q: %q", index, field, keys)
	}
}

func openLogged(t *testing.T, path string) (log string) {
	t.Helper()
	var buf bytes.Buffer
	d, err := persist.OpenDir(path, persist.DirConfig{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
	if err != nil {
		t.Fatal(err)
	}
	closeDir(t, d)
	return buf.String()
}

func closeDir(t *testing.T, d *persist.Dir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, dir, name, data string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(data), mode); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path...), 0o700); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target string, path ...string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}
