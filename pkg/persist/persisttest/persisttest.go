// Package persisttest contains the tests that every persist.Store must pass. It owns
// nothing and leaves no goroutine running.
package persisttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// BadKeys are invalid keys: every store must reject them.
var BadKeys = []string{
	"", ".", "..", "../x", "a/b", "/etc/passwd", `a\b`, "a\x00b", "a.json", ".lock", "-a", "_a",
	"index", "INDEX", "Index", "a b", "a\n", "é", "a\u0301", strings.Repeat("a", 129), strings.Repeat("a", 300),
}

// Run runs the tests. open must return a new empty store for each call; Run closes it.
func Run(t *testing.T, open func(t *testing.T) persist.Store) {
	tests := []struct {
		claim string
		test  func(*testing.T, persist.Store)
	}{
		{"MissingKeyIsNoError", missingKey},
		{"AppliedChangesCanBeRead", applied},
		{"EmptyValueIsStored", emptyValue},
		{"LargestValueIsStored", largestValue},
		{"LargerValueFailsAlone", tooLarge},
		{"InvalidKeyFailsAlone", badKeys},
		{"LastChangeOfKeyWins", lastWins},
		{"LastChangeWinsEvenIfItFails", lastFails},
		{"ValuesAreNotShared", notShared},
		{"EndedContextChangesNothing", endedContext},
		{"IterationOfKeysCanEndEarly", leaveEarly},
		{"StoreMayChangeDuringKeys", changeDuringKeys},
		{"RecordSetAsideIsRemoved", setAside},
		{"ConcurrentUseKeepsValuesApart", concurrent},
		{"ClosedStoreReturnsErrClosed", closed},
		{"CloseWaitsForTheBatch", closeDuringApply},
	}
	for _, tt := range tests {
		t.Run(tt.claim, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() { _ = s.Close() }) // may have been closed by the test
			tt.test(t, s)
		})
	}
}

func missingKey(t *testing.T, s persist.Store) {
	expect(t, s, map[string]string{})
	apply(t, s, persist.Change{Key: "nobody"})
	check(t, s.SetAside(t.Context(), "nobody", "why not"))
	expect(t, s, map[string]string{})
}

func applied(t *testing.T, s persist.Store) {
	check(t, s.Apply(t.Context(), nil))
	apply(t, s, put("a", "1"), put("b", "2"), put("c", "3"))
	expect(t, s, map[string]string{"a": "1", "b": "2", "c": "3"})
	apply(t, s, put("a", "one"), del("b"), put("d", "4"))
	expect(t, s, map[string]string{"a": "one", "c": "3", "d": "4"})
	apply(t, s, del("a"), del("c"), del("d"))
	expect(t, s, map[string]string{})
}

func emptyValue(t *testing.T, s persist.Store) {
	apply(t, s, persist.Change{Key: "a", Value: []byte{}})
	expect(t, s, map[string]string{"a": ""})
}

func largestValue(t *testing.T, s persist.Store) {
	value := strings.Repeat("x", persist.MaxValue)
	apply(t, s, put("a", value))
	expect(t, s, map[string]string{"a": value})
}

func tooLarge(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "old"))
	err := s.Apply(t.Context(), []persist.Change{
		put("a", strings.Repeat("x", persist.MaxValue+1)), put("b", "2"),
	})
	expectFailed(t, err, persist.ErrTooLarge, "a")
	expect(t, s, map[string]string{"a": "old", "b": "2"})
}

func badKeys(t *testing.T, s persist.Store) {
	changes := []persist.Change{put("good", "1"), del("gone")}
	for _, key := range BadKeys {
		changes = append(changes, put(key, "bad"))
	}
	expectFailed(t, s.Apply(t.Context(), changes), persist.ErrKey, BadKeys...)
	for _, key := range BadKeys {
		if persist.ValidKey(key) {
			t.Errorf("ValidKey(%q) = true", key)
		}
		if _, ok, err := s.Get(t.Context(), key); ok || !errors.Is(err, persist.ErrKey) {
			t.Errorf("Get(%q) = ok %v, error %v; want ErrKey", key, ok, err)
		}
		if err := s.SetAside(t.Context(), key, "bad"); !errors.Is(err, persist.ErrKey) {
			t.Errorf("SetAside(%q) = %v; want ErrKey", key, err)
		}
	}
	expect(t, s, map[string]string{"good": "1"})
}

func lastWins(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "1"), put("b", "1"), put("a", "2"), del("b"), del("c"), put("c", "3"))
	expect(t, s, map[string]string{"a": "2", "c": "3"})
}

func lastFails(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "old"))
	err := s.Apply(t.Context(), []persist.Change{
		put("a", "new"), put("a", strings.Repeat("x", persist.MaxValue+1)),
	})
	expectFailed(t, err, persist.ErrTooLarge, "a")
	expect(t, s, map[string]string{"a": "old"})
}

func notShared(t *testing.T, s persist.Store) {
	given := []byte("value")
	apply(t, s, persist.Change{Key: "a", Value: given})
	copy(given, "XXXXX")
	got, _, err := s.Get(t.Context(), "a")
	check(t, err)
	copy(got, "YYYYY")
	expect(t, s, map[string]string{"a": "value"})
}

func endedContext(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, getErr := s.Get(ctx, "a")
	for call, err := range map[string]error{
		"Get":      getErr,
		"Apply":    s.Apply(ctx, []persist.Change{put("a", "2"), put("b", "2")}),
		"SetAside": s.SetAside(ctx, "a", "reason"),
		"Keys":     keysError(ctx, s),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v; want context.Canceled", call, err)
		}
	}
	expect(t, s, map[string]string{"a": "1"})
}

func leaveEarly(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "1"), put("b", "2"))
	for _, err := range s.Keys(t.Context()) {
		check(t, err)
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen int
	var last error
	for _, err := range s.Keys(ctx) {
		seen, last = seen+1, err
		cancel()
	}
	if seen != 2 || !errors.Is(last, context.Canceled) {
		t.Errorf("after a cancel Keys yielded %d times, at last %v; want one key and context.Canceled", seen, last)
	}
}

func changeDuringKeys(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "1"), put("b", "2"))
	for key, err := range s.Keys(t.Context()) {
		check(t, err)
		apply(t, s, del(key))
	}
	expect(t, s, map[string]string{})
}

func setAside(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "{damaged"), put("b", "2"))
	check(t, s.SetAside(t.Context(), "a", "no JSON"))
	expect(t, s, map[string]string{"b": "2"})
	apply(t, s, put("a", "damaged again"))
	check(t, s.SetAside(t.Context(), "a", "no JSON\nagain"))
	check(t, s.SetAside(t.Context(), "a", "missing by now"))
	expect(t, s, map[string]string{"b": "2"})
	apply(t, s, put("a", "whole"))
	expect(t, s, map[string]string{"a": "whole", "b": "2"})
}

// concurrent runs writers, each on a key of its own and on a common key, and readers
// that check that every value was written by a writer.
func concurrent(t *testing.T, s persist.Store) {
	const goroutines, rounds = 8, 20
	value := func(writer, round int) string {
		return strings.Repeat(fmt.Sprintf("%d-%d;", writer, round), 1+100*writer)
	}
	possible := make(map[string]bool)
	for w := range goroutines {
		for r := range rounds {
			possible[value(w, r)] = true
		}
	}
	var wg sync.WaitGroup
	for w := range goroutines {
		own := fmt.Sprintf("own-%d", w)
		wg.Go(func() {
			for r := range rounds {
				if err := s.Apply(t.Context(), []persist.Change{
					put(own, value(w, r)), put("common", value(w, r)), del(fmt.Sprintf("gone-%d", r)),
				}); err != nil {
					t.Error(err)
				}
				got, ok, err := s.Get(t.Context(), own)
				if err != nil || !ok || string(got) != value(w, r) {
					t.Errorf("%s is not what was applied (ok %v, error %v)", own, ok, err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				got, ok, err := s.Get(t.Context(), "common")
				if err != nil || ok && !possible[string(got)] {
					t.Errorf("common holds %.40q, which no writer wrote (error %v)", got, err)
				}
				for _, err := range s.Keys(t.Context()) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	keys := slices.Sorted(maps.Keys(contents(t, s)))
	if len(keys) != goroutines+1 {
		t.Errorf("keys = %v; want common and %d own-*", keys, goroutines)
	}
}

func closed(t *testing.T, s persist.Store) {
	apply(t, s, put("a", "1"))
	check(t, s.Close())
	_, _, getErr := s.Get(t.Context(), "a")
	for call, err := range map[string]error{
		"Get":      getErr,
		"Apply":    s.Apply(t.Context(), []persist.Change{put("a", "2")}),
		"SetAside": s.SetAside(t.Context(), "a", "reason"),
		"Keys":     keysError(t.Context(), s),
		"Close":    s.Close(),
	} {
		if !errors.Is(err, persist.ErrClosed) {
			t.Errorf("%s = %v; want ErrClosed", call, err)
		}
	}
}

func closeDuringApply(t *testing.T, s persist.Store) {
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	for w := range cap(started) {
		wg.Go(func() {
			for r := 0; ; r++ {
				err := s.Apply(t.Context(), []persist.Change{put(fmt.Sprintf("k-%d", w), strconv.Itoa(r))})
				if errors.Is(err, persist.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("Apply during Close = %v; want nil or ErrClosed", err)
				}
				if _, _, err := s.Get(t.Context(), "k-0"); err != nil && !errors.Is(err, persist.ErrClosed) {
					t.Errorf("Get during Close = %v; want nil or ErrClosed", err)
				}
				if r == 0 {
					started <- struct{}{}
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	check(t, s.Close())
	wg.Wait()
}

func put(key, value string) persist.Change {
	return persist.Change{Key: key, Value: []byte(value)}
}

func del(key string) persist.Change { return persist.Change{Key: key} }

func apply(t *testing.T, s persist.Store, changes ...persist.Change) {
	t.Helper()
	check(t, s.Apply(t.Context(), changes))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect compares the whole store with want.
func expect(t *testing.T, s persist.Store, want map[string]string) {
	t.Helper()
	if got := contents(t, s); !maps.Equal(got, want) {
		t.Fatalf("the store holds %.200q; want %.200q", fmt.Sprint(got), fmt.Sprint(want))
	}
	if got, ok, err := s.Get(t.Context(), "nobody"); got != nil || ok || err != nil {
		t.Fatalf("Get of a missing key = %q, %v, %v", got, ok, err)
	}
}

func contents(t *testing.T, s persist.Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for key, err := range s.Keys(t.Context()) {
		check(t, err)
		value, ok, err := s.Get(t.Context(), key)
		check(t, err)
		if _, twice := all[key]; twice || !ok || value == nil {
			t.Fatalf("key %q: listed twice %v, present %v, value nil %v", key, twice, ok, value == nil)
		}
		all[key] = string(value)
	}
	return all
}

func keysError(ctx context.Context, s persist.Store) error {
	for _, err := range s.Keys(ctx) {
		return err
	}
	return nil
}

func expectFailed(t *testing.T, err, cause error, keys ...string) {
	t.Helper()
	var batch *persist.BatchError
	if !errors.As(err, &batch) {
		t.Fatalf("error %v; want a BatchError", err)
	}
	if !errors.Is(err, cause) {
		t.Errorf("error %v; want it to wrap %v", err, cause)
	}
	got := slices.Sorted(maps.Keys(batch.Failed))
	if !slices.Equal(got, slices.Sorted(slices.Values(keys))) {
		t.Errorf("failed keys %q; want %q", got, keys)
	}
}
