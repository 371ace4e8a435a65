package session_test

import (
	"fmt"
	"testing"

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

// BenchmarkCreate shows what group commit gains: with 64 clients at a time, a
// session costs a fraction of an fsync.
func BenchmarkCreate(b *testing.B) {
	dir, err := persist.OpenDir(b.TempDir(), persist.DirConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	m := session.New(dir, session.Config{})
	ctx := b.Context()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := m.Create(ctx, session.Session{ClientName: "bench"}); err != nil {
				b.Error(err)
			}
		}
	})
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
