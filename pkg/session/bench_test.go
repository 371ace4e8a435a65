package session_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func benchSession(b *testing.B, store persist.Store) (*session.Manager, string, string) {
	b.Helper()
	m := session.New(store, session.Config{})
	s, token, err := m.Create(b.Context(), session.Session{ClientName: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	return m, s.ID, token
}

func BenchmarkTouch(b *testing.B) {
	m, id, _ := benchSession(b, new(persist.Memory))
	b.ReportAllocs()
	for b.Loop() {
		m.Touch(id)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	m, _, token := benchSession(b, new(persist.Memory))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		l, err := m.Acquire(ctx, token, "")
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

// BenchmarkCreate measures group commit: with 64 concurrent clients, a
// session costs a fraction of an fsync.
func BenchmarkCreate(b *testing.B) {
	dir, err := persist.OpenDir(b.TempDir(), persist.DirConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	m := session.New(dir, session.Config{})
	ctx := b.Context()
	var next atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := m.Create(ctx, realistic(int(next.Add(1)))); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkCreateEvicting measures a hub at its limit: every creation first searches
// the session idle for longest.
func BenchmarkCreateEvicting(b *testing.B) {
	const limit = 10_000
	m := session.New(new(persist.Memory), session.Config{MaxSessions: limit, AtLimit: session.Evict})
	ctx := b.Context()
	n := 0
	another := func() {
		n++
		if _, _, err := m.Create(ctx, realistic(n)); err != nil {
			b.Fatal(err)
		}
	}
	for range limit {
		another()
	}
	for b.Loop() {
		another()
	}
}

// BenchmarkRestore100k measures a restart with many sessions: the time until Restore
// returns, including the opening of the directory; until the first session can be
// used; and until Run has loaded all.
func BenchmarkRestore100k(b *testing.B) {
	const n = 100_000
	template := newEndless(b, n)
	records := func(yield func(id string, record []byte) bool) {
		for id := range template.Keys(b.Context()) {
			record, _, _ := template.Get(b.Context(), id)
			if !yield(id, record) {
				return
			}
		}
	}
	b.Run("Memory", func(b *testing.B) {
		store := new(persist.Memory)
		var changes []persist.Change
		for id, record := range records {
			changes = append(changes, persist.Change{Key: id, Value: record})
		}
		if err := store.Apply(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
		benchRestore(b, n, func() persist.Store { return store }, func() {})
	})
	b.Run("Dir", func(b *testing.B) {
		path := b.TempDir()
		for id, record := range records {
			if err := os.WriteFile(filepath.Join(path, id+".json"), record, 0o600); err != nil {
				b.Fatal(err)
			}
		}
		var dir *persist.Dir
		benchRestore(b, n, func() persist.Store {
			var err error
			if dir, err = persist.OpenDir(path, persist.DirConfig{}); err != nil {
				b.Fatal(err)
			}
			return dir
		}, func() { dir.Close() })
	})
}

func benchRestore(b *testing.B, n int, open func() persist.Store, done func()) {
	b.Helper()
	token := fmt.Sprintf("session%013d", n/2)
	var names, answer, all time.Duration
	for b.Loop() {
		start := time.Now()
		m := session.New(open(), session.Config{})
		if err := m.Restore(b.Context()); err != nil {
			b.Fatal(err)
		}
		names += time.Since(start)
		if s, err := m.Get(b.Context(), token); err != nil || s.ID != token {
			b.Fatal(err)
		}
		answer += time.Since(start)
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		for restoring := n; restoring > 0; _, restoring = m.All() {
			time.Sleep(50 * time.Millisecond)
		}
		all += time.Since(start)
		cancel()
		wg.Wait()
		done()
	}
	for unit, d := range map[string]time.Duration{"ms-names": names, "ms-first-answer": answer, "ms-all": all} {
		b.ReportMetric(float64(d.Milliseconds())/float64(b.N), unit)
	}
}

func BenchmarkFlushOneDirtyOf100k(b *testing.B) {
	m, id, _ := benchSession(b, new(persist.Memory))
	ctx := b.Context()
	for range 100_000 {
		if _, _, err := m.Create(ctx, session.Session{ClientName: "bench"}); err != nil {
			b.Fatal(err)
		}
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if err := m.Update(ctx, id, func(s *session.Session) { s.ClientName = fmt.Sprint(n) }); err != nil {
			b.Fatal(err)
		}
		if err := m.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeriveRelease(b *testing.B) {
	for _, others := range []int{0, 10_000} {
		b.Run(fmt.Sprint(others, " others"), func(b *testing.B) {
			m := session.New(new(persist.Memory), session.Config{MaxDerived: others + 1})
			for i := range others {
				serveOne(m, realistic(i+1))
			}
			ctx, s := b.Context(), realistic(0)
			serveOne(m, s)
			b.ReportAllocs()
			for b.Loop() {
				m.AcquireDerived(ctx, s).Release()
			}
		})
	}
}

// BenchmarkDeriveEvicting measures new clients at a hub whose derived sessions are at their limit.
func BenchmarkDeriveEvicting(b *testing.B) {
	m := session.New(new(persist.Memory), session.Config{})
	n := 0
	for range 10_000 {
		n++
		serveOne(m, realistic(n))
	}
	b.ReportAllocs()
	for b.Loop() {
		n++
		serveOne(m, realistic(n))
	}
}
