package session_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestKindOfProtocolSessionCannotBeChanged(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, token := createFor(t, m, session.Session{Kind: session.Derived})
	check(t, m.UpdateDurably(t.Context(), s.ID, func(s *session.Session) { s.Kind = session.Derived }))
	acquire(t, m, token).Release()
	if got := get(t, m, s.ID); got.Kind != session.Protocol || s.Kind != session.Protocol ||
		strings.Contains(record(t, store, s.ID), "kind") {
		t.Errorf("created as %s, it is %s, stored as %s", s.Kind, got.Kind, record(t, store, s.ID))
	}
}

func TestListReturnsTheChosenKinds(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	kinds := map[string]session.Kind{}
	for i := range 10 {
		s, _ := create(t, m)
		kinds[s.ID] = session.Protocol
		kinds[serveOne(m, named(fmt.Sprint(i)))] = session.Derived
	}
	for _, tt := range []struct {
		kinds []session.Kind
		want  int
	}{
		{nil, 20},
		{session.Kinds(), 20},
		{[]session.Kind{session.Protocol}, 10},
		{[]session.Kind{session.Derived}, 10},
	} {
		after, seen := "", 0
		for {
			page, count, _ := m.List(after, 3, tt.kinds...)
			for _, i := range page {
				if i.ID <= after || i.Kind != kinds[i.ID] || (len(tt.kinds) == 1 && i.Kind != tt.kinds[0]) {
					t.Errorf("%v: listed is %s %s after %s", tt.kinds, i.Kind, i.ID, after)
				}
				after, seen = i.ID, seen+1
			}
			if count != tt.want {
				t.Errorf("%v: there are %d; want %d", tt.kinds, count, tt.want)
			}
			if len(page) < 3 {
				break
			}
		}
		if seen != tt.want {
			t.Errorf("%v: listed are %d; want %d", tt.kinds, seen, tt.want)
		}
	}
}

// List sorts without the lock, so sessions may change meanwhile.
func TestSessionsMayChangeWhileTheyAreListed(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	var all []string
	for range 100 {
		s, _ := create(t, m)
		all = append(all, s.ID)
	}
	slices.Sort(all)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			for _, id := range all {
				_ = m.Update(t.Context(), id, func(s *session.Session) { s.ID, s.LogLevel = "x", "debug" })
			}
		}
	})
	for range 100 {
		if got := ids(m); !slices.Equal(got, all) {
			t.Errorf("listed are %v", got)
		}
	}
	cancel()
	wg.Wait()
}

func TestRestoringCountsProtocolSessionsOnly(t *testing.T) {
	store := newFaulty()
	put(t, store, "s1", fresh("s1"))
	m := restored(t, store, session.Config{})
	for kind, want := range map[session.Kind]int{session.Protocol: 1, session.Derived: 0} {
		if _, _, restoring := m.List("", 0, kind); restoring != want {
			t.Errorf("%s: %d are being restored; want %d", kind, restoring, want)
		}
	}
}

func TestKindIsReadAsItIsWritten(t *testing.T) {
	for _, k := range session.Kinds() {
		text, err := k.MarshalText()
		check(t, err)
		got := session.Kind("x")
		if err := got.UnmarshalText(text); err != nil || got != k || string(text) != k.String() || k.String() == "" {
			t.Errorf("%q is written %q and read %q, %v", string(k), text, string(got), err)
		}
	}
	for _, wrong := range []string{"", "Derived", "handle", strings.Repeat("x", 1<<20)} {
		k := session.Derived
		if err := k.UnmarshalText([]byte(wrong)); err == nil || len(err.Error()) > 200 || k != session.Derived {
			t.Errorf("%.20q is read as %s, %v", wrong, k, err)
		}
	}
}
