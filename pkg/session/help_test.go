package session_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDisk = errors.New("no space left on device")

// faulty is a Store that counts calls, and that fails or waits on request.
type faulty struct {
	persist.Store

	mu      sync.Mutex
	onApply func(n int, changes []persist.Change) error // n counts from 1; nil: no fault
	onGet   func(key string) error
	onKeys  func() error
	batches [][]string // the keys of each Apply
	gets    int
}

func newFaulty() *faulty { return &faulty{Store: new(persist.Memory)} }

// Apply does not apply the changes that the *persist.BatchError of onApply names. With any
// other error it applies nothing.
func (f *faulty) Apply(ctx context.Context, changes []persist.Change) error {
	f.mu.Lock()
	var keys []string
	for _, c := range changes {
		keys = append(keys, c.Key)
	}
	f.batches = append(f.batches, keys)
	n, hook := len(f.batches), f.onApply
	f.mu.Unlock()
	var err error
	if hook != nil {
		err = hook(n, changes)
	}
	partial, ok := errors.AsType[*persist.BatchError](err)
	if err != nil && !ok {
		return err
	}
	if ok {
		changes = slices.DeleteFunc(slices.Clone(changes), func(c persist.Change) bool { return partial.Failed[c.Key] != nil })
	}
	return errors.Join(err, f.Store.Apply(ctx, changes))
}

func (f *faulty) Get(ctx context.Context, key string) ([]byte, bool, error) {
	f.mu.Lock()
	f.gets++
	hook := f.onGet
	f.mu.Unlock()
	if hook != nil {
		if err := hook(key); err != nil {
			return nil, false, err
		}
	}
	return f.Store.Get(ctx, key)
}

func (f *faulty) Keys(ctx context.Context) iter.Seq2[string, error] {
	f.mu.Lock()
	hook := f.onKeys
	f.mu.Unlock()
	return func(yield func(string, error) bool) {
		if hook != nil {
			if err := hook(); err != nil {
				yield("", err)
				return
			}
		}
		f.Store.Keys(ctx)(yield)
	}
}

// during makes Apply call fn first; nil: no call.
func (f *faulty) during(fn func(n int, changes []persist.Change) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onApply = fn
}

func (f *faulty) fail(err error) {
	f.during(func(int, []persist.Change) error { return err })
}

// block makes every Apply wait until release is called.
func (f *faulty) block() (release func()) {
	gate := make(chan struct{})
	f.during(func(int, []persist.Change) error {
		<-gate
		return nil
	})
	return sync.OnceFunc(func() {
		f.during(nil)
		close(gate)
	})
}

// applied returns the keys of each batch so far.
func (f *faulty) applied() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.batches)
}

// reads returns how many values were read so far.
func (f *faulty) reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gets
}

func openDir(t *testing.T, path string) *persist.Dir {
	t.Helper()
	d, err := persist.OpenDir(path, persist.DirConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // may have been closed by the test
	return d
}

// restored returns a Manager that has restored what store holds.
func restored(t *testing.T, store persist.Store, cfg session.Config) *session.Manager {
	t.Helper()
	m := session.New(store, cfg)
	check(t, m.Restore(t.Context()))
	return m
}

// running returns a restored Manager with Run in the background. stop ends Run and waits
// for it, but does not call Close, as in a crash.
func running(t *testing.T, store persist.Store, cfg session.Config) (m *session.Manager, stop func()) {
	t.Helper()
	m = restored(t, store, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	return m, func() {
		cancel()
		wg.Wait()
	}
}

func create(t *testing.T, m *session.Manager) (s session.Session, token string) {
	t.Helper()
	s, token, err := m.Create(t.Context(), session.Session{ClientName: "probe"})
	check(t, err)
	return s, token
}

// createInGoroutine is create for a goroutine other than that of the test.
func createInGoroutine(t *testing.T, m *session.Manager) {
	if _, _, err := m.Create(t.Context(), session.Session{}); err != nil {
		t.Error(err)
	}
}

func acquire(t *testing.T, m *session.Manager, token string) *session.Lease {
	t.Helper()
	l, err := m.Acquire(t.Context(), token, "")
	check(t, err)
	return l
}

func get(t *testing.T, m *session.Manager, id string) session.Session {
	t.Helper()
	s, err := m.Get(t.Context(), id)
	check(t, err)
	return s
}

// rename makes a change that has to be written.
func rename(t *testing.T, m *session.Manager, id, name string) {
	t.Helper()
	check(t, m.Update(t.Context(), id, func(s *session.Session) { s.ClientName = name }))
}

func end(t *testing.T, m *session.Manager, id string) {
	t.Helper()
	if ok, err := m.End(t.Context(), id, session.ClientDelete); !ok || err != nil {
		t.Fatalf("End = %v, %v", ok, err)
	}
}

func put(t *testing.T, store persist.Store, id, record string) {
	t.Helper()
	check(t, store.Apply(t.Context(), []persist.Change{{Key: id, Value: []byte(record)}}))
}

// record returns the stored bytes of id, "" if there are none.
func record(t *testing.T, store persist.Store, id string) string {
	t.Helper()
	if f, ok := store.(*faulty); ok {
		store = f.Store
	}
	value, _, err := store.Get(t.Context(), id)
	check(t, err)
	return string(value)
}

func keys(t *testing.T, store persist.Store) (all []string) {
	t.Helper()
	for key, err := range store.Keys(t.Context()) {
		check(t, err)
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

func ids(m *session.Manager) (all []string) {
	infos, _ := m.All()
	for _, i := range infos {
		all = append(all, i.ID)
	}
	return all
}

// metric returns the value of the one series of name with these label values,
// in the order of the label names.
func metric(t *testing.T, reg prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	check(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if slices.Equal(labelValues(m), labels) {
				return value(m)
			}
		}
	}
	t.Fatalf("there is no metric %s%q", name, labels)
	return 0
}

func labelValues(m *dto.Metric) []string {
	all := []string{}
	for _, l := range m.GetLabel() {
		all = append(all, l.GetValue())
	}
	return all
}

// value is the value of a counter or gauge and the count of a histogram.
func value(m *dto.Metric) float64 {
	if h := m.GetHistogram(); h != nil {
		return float64(h.GetSampleCount())
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

func verifierOf(token string) string {
	_, verifier, _ := strings.Cut(token, ".")
	return verifier
}

func sha256Hex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func writeFile(t *testing.T, dir, name, content string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

func readFile(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	check(t, err)
	return string(b)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
