package persist_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/persist/persisttest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := removeFixture(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

func TestMemory(t *testing.T) {
	persisttest.Run(t, func(*testing.T) persist.Store { return new(persist.Memory) })
}

func TestDir(t *testing.T) {
	persisttest.Run(t, func(t *testing.T) persist.Store { return openDir(t, t.TempDir()) })
}

func TestMemoryReturnsRecordsSetAside(t *testing.T) {
	var m persist.Memory
	apply(t, &m, put("a", "1"))
	if err := m.SetAside(t.Context(), "a", "looks odd"); err != nil {
		t.Fatal(err)
	}
	got := m.Asides()
	if len(got) != 1 || got[0].Key != "a" || got[0].Reason != "looks odd" || string(got[0].Value) != "1" {
		t.Errorf("Asides() = %q", got)
	}
}

func TestBatchErrorPrintsSomeKeysAndWrapsAllCauses(t *testing.T) {
	err := &persist.BatchError{Failed: map[string]error{
		"a": persist.ErrKey, "b": persist.ErrTooLarge, "c": context.Canceled, "d": persist.ErrClosed,
		strings.Repeat("x", 300): persist.ErrKey,
	}}
	for _, cause := range []error{persist.ErrKey, persist.ErrTooLarge, context.Canceled, persist.ErrClosed} {
		if !errors.Is(err, cause) {
			t.Errorf("errors.Is does not find %v", cause)
		}
	}
	const want = `5 records not stored; "a": not a usable key; "b": value is larger than 1 MiB; "c": context canceled; ...`
	if err.Error() != want {
		t.Errorf("Error() = %s\nwant      %s", err.Error(), want)
	}
}

var keySyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

func FuzzKeys(f *testing.F) {
	for _, key := range append(persisttest.BadKeys, "a", "A-1_b", "probe-99-a3c175f1", "indexes") {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		valid := keySyntax.MatchString(key) && !strings.EqualFold(key, "index")
		if persist.ValidKey(key) != valid {
			t.Fatalf("ValidKey(%q) = %v", key, !valid)
		}
		outside := t.TempDir()
		d := openDir(t, filepath.Join(outside, "store"))
		err := d.Apply(t.Context(), []persist.Change{put(key, "value")})
		value, ok, getErr := d.Get(t.Context(), key)
		if valid && (err != nil || getErr != nil || !ok || string(value) != "value") {
			t.Errorf("key %q: %v, %v, ok %v", key, err, getErr, ok)
		}
		if !valid && (ok || !errors.Is(err, persist.ErrKey) || !errors.Is(getErr, persist.ErrKey)) {
			t.Errorf("key %q: %v, %v, ok %v; want ErrKey", key, err, getErr, ok)
		}
		if names := namesIn(t, outside); len(names) != 1 {
			t.Errorf("key %q left %q outside of the store", key, names)
		}
	})
}

func TestDirAndMemoryAgreeAndReopeningChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path, err := os.MkdirTemp(t.TempDir(), "") //nolint:usetesting // many rounds in one test
		if err != nil {
			rt.Fatal(err)
		}
		dir, memory := openDir(t, path), new(persist.Memory)
		keys := rapid.SampledFrom([]string{"a", "b", "c", "index", "../a"})
		change := rapid.Custom(func(rt *rapid.T) persist.Change {
			c := persist.Change{Key: keys.Draw(rt, "key")}
			if rapid.Bool().Draw(rt, "put") {
				c.Value = []byte(rapid.String().Draw(rt, "value"))
			}
			return c
		})
		rt.Repeat(map[string]func(*rapid.T){
			"apply": func(rt *rapid.T) {
				batch := rapid.SliceOfN(change, 0, 5).Draw(rt, "batch")
				if got, want := dir.Apply(t.Context(), batch), memory.Apply(t.Context(), batch); !sameText(got, want) {
					rt.Fatalf("Dir: %v\nMemory: %v", got, want)
				}
			},
			"set aside": func(rt *rapid.T) {
				key := keys.Draw(rt, "key")
				got, want := dir.SetAside(t.Context(), key, "r"), memory.SetAside(t.Context(), key, "r")
				if !sameText(got, want) {
					rt.Fatalf("Dir: %v\nMemory: %v", got, want)
				}
			},
			"reopen": func(rt *rapid.T) {
				if err := dir.Close(); err != nil {
					rt.Fatal(err)
				}
				dir = openDir(t, path)
			},
			"": func(rt *rapid.T) {
				if got, want := contents(t, dir), contents(t, memory); !maps.Equal(got, want) {
					rt.Fatalf("Dir: %q\nMemory: %q", got, want)
				}
			},
		})
	})
}

func sameText(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}

func openDir(t testing.TB, path string) *persist.Dir {
	t.Helper()
	d, err := persist.OpenDir(path, persist.DirConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // may have been closed by the test
	return d
}

func put(key, value string) persist.Change {
	return persist.Change{Key: key, Value: []byte(value)}
}

func del(key string) persist.Change { return persist.Change{Key: key} }

func apply(t testing.TB, s persist.Store, changes ...persist.Change) {
	t.Helper()
	if err := s.Apply(context.Background(), changes); err != nil {
		t.Fatal(err)
	}
}

func contents(t testing.TB, s persist.Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for key, err := range s.Keys(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		value, ok, err := s.Get(context.Background(), key)
		if err != nil || !ok {
			t.Fatalf("Get(%q) = ok %v, %v", key, ok, err)
		}
		all[key] = string(value)
	}
	return all
}

func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
