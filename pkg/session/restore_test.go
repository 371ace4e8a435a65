package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// fresh is a record as mcp-hub-lite wrote it, last used now.
func fresh(id string) string {
	now := time.Now().UnixMilli()
	return fmt.Sprintf(`{
  "sessionId": %q,
  "clientName": "probe",
  "clientVersion": "9.9",
  "protocolVersion": "2025-06-18",
  "userAgent": "curl/7.88.1",
  "ip": "127.0.0.1",
  "createdAt": %d,
  "lastAccessedAt": %d,
  "metadata": {}
}`, id, now-1000, now-1000)
}

func TestRestoreReadsNamesAndRunLoadsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		reg, store := prometheus.NewPedanticRegistry(), newFaulty()
		for i := range n {
			id := fmt.Sprintf("s%d", i)
			put(t, store, id, fresh(id))
		}
		m := restored(t, store, session.Config{Registerer: reg})
		if _, restoring := m.All(); restoring != n || store.reads() != 0 {
			t.Errorf("after Restore %d sessions are to be loaded and %d were read", restoring, store.reads())
		}
		if got := metric(t, reg, "mcphub_sessions_restoring", "protocol"); got != n {
			t.Errorf("mcphub_sessions_restoring is %v", got)
		}
		acquire(t, m, "s7").Release()
		if got := store.reads(); got != 1 {
			t.Errorf("one request read %d records", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		synctest.Wait()
		if _, restoring := m.All(); restoring != 0 || len(ids(m)) != n || store.reads() != n {
			t.Errorf("Run loaded %d sessions with %d reads, %d are left", len(ids(m)), store.reads(), restoring)
		}
		cancel()
		wg.Wait()
	})
}

// C6: two requests could load a session twice.
func TestRequestWaitsUntilItsSessionIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		put(t, store, "s1", fresh("s1"))
		m := restored(t, store, session.Config{})
		gate := make(chan struct{})
		store.onGet = func(string) error {
			<-gate
			return nil
		}
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				l, err := m.Acquire(t.Context(), "s1", "")
				if err != nil {
					t.Error(err)
					return
				}
				l.Release()
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Acquire(ctx, "s1", ""); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire that could not wait any longer = %v; want ErrUnavailable", err)
		}
		close(gate)
		wg.Wait()
		if got := store.reads(); got != 1 {
			t.Errorf("the record was read %d times", got)
		}
	})
}

func TestUnknownSessionIsUnavailableUntilRestoreHasSucceeded(t *testing.T) {
	store := newFaulty()
	put(t, store, "s1", fresh("s1"))
	store.onKeys = func() error { return errDisk }
	m := session.New(store, session.Config{})
	if err := m.Restore(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("Restore = %v; want the store's error", err)
	}
	if _, err := m.Acquire(t.Context(), "s1", ""); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Acquire = %v; want ErrUnavailable", err)
	}
	create(t, m) // a new client does not have to wait
	store.onKeys = nil
	check(t, m.Restore(t.Context()))
	acquire(t, m, "s1").Release()
	if _, err := m.Acquire(t.Context(), "s2", ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Acquire of an unknown session = %v; want ErrNotFound", err)
	}
}

func TestSessionThatCannotBeReadIsUnavailableAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		put(t, store, "s1", fresh("s1"))
		put(t, store, "s2", fresh("s2"))
		var broken sync.Map
		broken.Store("s1", true)
		store.onGet = func(key string) error {
			if _, bad := broken.Load(key); bad {
				return errDisk
			}
			return nil
		}
		m, stop := running(t, store, session.Config{})
		defer stop()
		time.Sleep(10 * time.Minute)
		for call, err := range map[string]error{
			"Acquire": second(m.Acquire(t.Context(), "s1", "")),
			"Get":     second(m.Get(t.Context(), "s1")),
			"Info":    second(m.Info(t.Context(), "s1")),
			"End":     second(m.End(t.Context(), "s1", session.Admin)),
			"Update":  m.Update(t.Context(), "s1", func(*session.Session) {}),
		} {
			if !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s = %v; want ErrUnavailable", call, err)
			}
		}
		if got := ids(m); len(got) != 1 || got[0] != "s2" {
			t.Errorf("the sessions are %v; want the readable one", got)
		}
		broken.Delete("s1")
		time.Sleep(time.Minute)
		if _, restoring := m.All(); restoring != 0 || len(ids(m)) != 2 {
			t.Errorf("after the store has recovered there are %v, %d are missing", ids(m), restoring)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A5, A8: a torn record was ignored without a message, and later deleted.
func TestDamagedRecordIsSetAsideUnchangedAndOthersLoad(t *testing.T) {
	path, log, reg := t.TempDir(), new(hubtest.Buffer), prometheus.NewPedanticRegistry()
	bad := map[string]string{
		"truncated":  strings.TrimSuffix(fresh("truncated"), "}"),
		"empty":      "",
		"binary":     "\x00\xff\xfe",
		"array":      `["sessionId"]`,
		"null":       "null",
		"otherid":    fresh("somebody"),
		"noid":       `{"createdAt":1,"lastAccessedAt":1}`,
		"nocreated":  `{"sessionId":"nocreated","lastAccessedAt":1795339991818}`,
		"noaccessed": `{"sessionId":"noaccessed","createdAt":1795339991818}`,
		"wrongtype":  `{"sessionId":"wrongtype","createdAt":"yesterday","lastAccessedAt":1}`,
		"huge":       `{"sessionId":"huge","x":"` + strings.Repeat("x", persist.MaxValue) + `"}`,
	}
	for id, content := range bad {
		writeFile(t, path, id+".json", content)
	}
	writeFile(t, path, "good.json", fresh("good"))
	m, stop := running(t, openDir(t, path), session.Config{Registerer: reg, Logger: slog.New(slog.NewJSONHandler(log, nil))})
	defer stop()
	acquire(t, m, "good").Release()
	for id, content := range bad {
		if _, err := m.Acquire(t.Context(), id, ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire of %s = %v; want ErrNotFound", id, err)
		}
		if got := readFile(t, path, "quarantine", id+".json"); got != content {
			t.Errorf("%s is in quarantine as %.100q; want %.100q", id, got, content)
		}
		if readFile(t, path, "quarantine", id+".json.reason") == "" {
			t.Errorf("%s is in quarantine without a reason", id)
		}
		if got := strings.Count(log.String(), `"session":"`+id+`"`); got != 1 {
			t.Errorf("%s was warned about %d times", id, got)
		}
	}
	if got := metric(t, reg, "mcphub_sessions_quarantined_total", "damaged"); got != float64(len(bad)) {
		t.Errorf("%v damaged sessions were counted; want %d", got, len(bad))
	}
	if got := ids(m); len(got) != 1 || got[0] != "good" {
		t.Errorf("the sessions are %v; want the good one", got)
	}
}

func TestDamagedRecordThatCannotBeSetAsideStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unmovable{Store: new(persist.Memory)}
		store.fails.Store("s1", errDisk)
		put(t, store, "s1", "{")
		m, stop := running(t, store, session.Config{})
		defer stop()
		if _, err := m.Acquire(t.Context(), "s1", ""); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Acquire = %v; want ErrUnavailable", err)
		}
		store.fails.Delete("s1")
		time.Sleep(time.Minute)
		if _, err := m.Acquire(t.Context(), "s1", ""); !errors.Is(err, session.ErrNotFound) || len(keys(t, store)) != 0 {
			t.Errorf("Acquire = %v, the store holds %v", err, keys(t, store))
		}
	})
}

type unmovable struct {
	persist.Store
	fails sync.Map
}

func (u *unmovable) SetAside(ctx context.Context, key, reason string) error {
	if err, bad := u.fails.Load(key); bad {
		return err.(error) //nolint:forcetypeassert // nothing else is stored
	}
	return u.Store.SetAside(ctx, key, reason)
}

// A12: records had no schema version.
func TestRecordOfNewerSchemaIsKeptAndLogged(t *testing.T) {
	path, log, reg := t.TempDir(), new(hubtest.Buffer), prometheus.NewPedanticRegistry()
	newer := `{"sessionId":{"inAFormWeDoNotKnow":true},"schemaVersion":2}`
	writeFile(t, path, "s1.json", newer)
	dir := openDir(t, path)
	m, stop := running(t, dir, session.Config{Registerer: reg, Logger: slog.New(slog.NewJSONHandler(log, nil))})
	if _, err := m.Acquire(t.Context(), "s1", ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Acquire = %v; want ErrNotFound", err)
	}
	stop()
	check(t, m.Close(t.Context()))
	check(t, dir.Close())
	if got := readFile(t, path, "s1.json"); got != newer {
		t.Errorf("the record is now %s", got)
	}
	if got := log.String(); !strings.Contains(got, "schema version 2") {
		t.Errorf("the log says %s", got)
	}
	if got := metric(t, reg, "mcphub_sessions_quarantined_total", "newer_schema"); got != 1 {
		t.Errorf("%v were counted", got)
	}
}

func TestUnknownMembersSurviveARewrite(t *testing.T) {
	store := newFaulty()
	now := time.Now().UnixMilli()
	put(t, store, "s1", fmt.Sprintf(`{"sessionId":"s1","createdAt":%d,"lastAccessedAt":%d,
		"metadata":{"big":12345678901234567890123,"deep":{"a":[1.0,{"b":null}]}},
		"capabilities":{"new":{"number":1e400}},
		"future":{"nested":{"number":9007199254740993,"text":"\u00e9<"}},"zero":0.10,"clientname":"not ours"}`, now, now))
	m := restored(t, store, session.Config{})
	rename(t, m, "s1", "renamed")
	check(t, m.Flush(t.Context()))
	for range 2 { // the second time from the record that it has written
		got := record(t, store, "s1")
		for _, want := range []string{
			`"big":12345678901234567890123`, `"deep":{"a":[1.0,{"b":null}]}`, `"number":1e400`,
			`"number":9007199254740993`, `"text":"\u00e9<"`, `"zero":0.10`, `"clientname":"not ours"`,
			`"clientName":"renamed"`, `"schemaVersion":1`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s is missing in %s", want, got)
			}
		}
		m = restored(t, store, session.Config{})
		check(t, m.UpdateDurably(t.Context(), "s1", func(s *session.Session) { s.LogLevel = "debug" }))
	}
}

// A6, A7: what the index did not list was lost or invisible.
func TestDirectoryOfMCPHubLiteLoadsAndWorks(t *testing.T) {
	path := t.TempDir()
	const id = "probe-99-a3c175f1"
	writeFile(t, path, "index.json", `{
  "sessions": [
    "`+id+`",
    "lost-without-file"
  ]
}`)
	writeFile(t, path, id+".json", fresh(id))
	writeFile(t, path, "orphan-missing-from-the-index.json", fresh("orphan-missing-from-the-index"))
	dir := openDir(t, path)
	m, stop := running(t, dir, session.Config{})
	l := acquire(t, m, id)
	if got := l.Session(); got.ClientVersion != "9.9" || got.State != session.Ready || got.ProtocolVersion != "2025-06-18" {
		t.Errorf("the session is %+v", got)
	}
	l.Release()
	acquire(t, m, "orphan-missing-from-the-index").Release()
	rename(t, m, id, "renamed")
	stop()
	check(t, m.Close(t.Context()))
	check(t, dir.Close())

	if got := readFile(t, path, id+".json"); !strings.Contains(got, `"clientName":"renamed"`) ||
		!strings.Contains(got, `"schemaVersion":1`) {
		t.Errorf("the record is now %s", got)
	}
	m = restored(t, openDir(t, path), session.Config{})
	acquire(t, m, id).Release() // still by its id alone
	end(t, m, id)
	if _, err := m.Acquire(t.Context(), id, ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Acquire after End = %v", err)
	}
}

func TestSecondRestoreAddsNothing(t *testing.T) {
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	put(t, store, "s1", fresh("s1"))
	put(t, store, "newer", `{"schemaVersion":2}`)
	m := restored(t, store, session.Config{Registerer: reg})
	for range 3 {
		acquire(t, m, "s1").Release()
		_ = m.Has(t.Context(), "newer")
		check(t, m.Restore(t.Context()))
	}
	if _, restoring := m.All(); restoring != 0 || len(ids(m)) != 1 {
		t.Errorf("there are %v and %d to load", ids(m), restoring)
	}
	if got := metric(t, reg, "mcphub_sessions_restored_total", "protocol", "streamable_http"); got != 1 {
		t.Errorf("%v sessions were counted as restored", got)
	}
}

// Restore must not find a session that has ended but whose record could not be removed.
func TestRestoreDoesNotReviveEndedSessions(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, _ := create(t, m)
	store.fail(errDisk)
	if _, err := m.End(t.Context(), s.ID, session.ClientDelete); err == nil {
		t.Fatal("End did not fail")
	}
	check(t, m.Restore(t.Context()))
	if m.Has(t.Context(), s.ID) {
		t.Error("the ended session is back")
	}
	store.during(nil)
	check(t, m.Flush(t.Context()))
	if got := keys(t, store); len(got) != 0 {
		t.Errorf("the store holds %v", got)
	}
}

// slowKeys calls fn after it has read the names and before it yields them.
type slowKeys struct {
	persist.Store
	fn func()
}

func (s *slowKeys) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var names []string
		for name := range s.Store.Keys(ctx) {
			names = append(names, name)
		}
		if fn := s.fn; fn != nil {
			s.fn = nil
			fn()
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func TestSessionThatEndsDuringRestoreIsNotPending(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *session.Manager, string){
		"of this process": func(t *testing.T, m *session.Manager, id string) { end(t, m, id) },
		"stored before, found by another Restore": func(t *testing.T, m *session.Manager, _ string) {
			check(t, m.Restore(t.Context()))
			end(t, m, "s1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := &slowKeys{Store: new(persist.Memory)}
			m := session.New(store, session.Config{})
			s, _ := create(t, m)
			put(t, store, "s1", fresh("s1"))
			store.fn = func() { meanwhile(t, m, s.ID) }
			check(t, m.Restore(t.Context()))
			for _, id := range keys(t, store) {
				_ = m.Has(t.Context(), id) // load it
			}
			if _, restoring := m.All(); restoring != 0 || !slices.Equal(ids(m), keys(t, store)) {
				t.Errorf("there are %v and %d to load, stored are %v", ids(m), restoring, keys(t, store))
			}
		})
	}
}

func TestSessionThatExpiredWhileTheHubWasDownEndsWithTheFirstSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		put(t, store, "old", fresh("old"))
		put(t, store, "asked", fresh("asked"))
		time.Sleep(29 * time.Minute)
		put(t, store, "young", fresh("young"))
		time.Sleep(2 * time.Minute)
		reg := prometheus.NewPedanticRegistry()
		m, stop := running(t, store, session.Config{Registerer: reg})
		defer stop()
		if _, err := m.Acquire(t.Context(), "asked", ""); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Acquire = %v; want ErrNotFound", err)
		}
		time.Sleep(61 * time.Second)
		if got := ids(m); len(got) != 1 || got[0] != "young" || len(keys(t, store)) != 1 {
			t.Errorf("the sessions are %v, stored %v; want the young one", got, keys(t, store))
		}
		if got := metric(t, reg, "mcphub_sessions_closed_total", "protocol", "idle_timeout"); got != 2 {
			t.Errorf("%v sessions ended as idle", got)
		}
		if got := metric(t, reg, "mcphub_sessions_refused_total", "expired"); got != 1 {
			t.Errorf("%v requests were refused as expired", got)
		}
	})
}

func TestSessionWithATimeInTheFutureExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		put(t, store, "s1", `{"sessionId":"s1","createdAt":4102444800000,"lastAccessedAt":4102444800000}`) // 2100
		m, stop := running(t, store, session.Config{})
		defer stop()
		synctest.Wait()
		if got := get(t, m, "s1"); got.CreatedAt > time.Now().UnixMilli() {
			t.Errorf("the session was created at %d", got.CreatedAt) // its lifetime would not end
		}
		time.Sleep(32 * time.Minute)
		if m.Has(t.Context(), "s1") {
			t.Error("the session did not expire")
		}
	})
}

// B4, B5: the negotiated version and capabilities did not survive a restart.
func TestRestartKeepsTheStateOfASession(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	m := session.New(dir, session.Config{})
	s, token, err := m.Create(t.Context(), session.Session{
		ClientName: "probe", ClientVersion: "1.2", ProtocolVersion: "2025-11-25", Principal: "alice",
		Capabilities: json.RawMessage(`{"roots":{"listChanged":true},"sampling":{}}`),
		Cwd:          "/src", Project: "x", UserAgent: "curl", IP: "::1",
	})
	check(t, err)
	check(t, m.Update(t.Context(), s.ID, func(s *session.Session) {
		s.State, s.LogLevel, s.Subscriptions = session.Ready, "warning", []string{"file:///a", "docs__file:///b"}
		s.Upstreams = map[string]session.Upstream{"docs": {SessionID: "u-1", ProtocolVersion: "2025-06-18"}}
	}))
	check(t, m.UpdateMetadata(t.Context(), s.ID, map[string]json.RawMessage{"k": json.RawMessage(`{"v":[1,2]}`)}))
	want := get(t, m, s.ID)
	check(t, m.Close(t.Context()))
	check(t, dir.Close())

	l, err := restored(t, openDir(t, path), session.Config{}).Acquire(t.Context(), token, "alice")
	check(t, err)
	defer l.Release()
	got := l.Session()
	got.SchemaVersion = want.SchemaVersion // of the record, not of the session
	got.LastAccessedAt = want.LastAccessedAt
	if g, w := toJSON(t, got), toJSON(t, want); !bytes.Equal(g, w) || !reflect.DeepEqual(got.Subscriptions, want.Subscriptions) {
		t.Errorf("after the restart\n%s; want\n%s", g, w)
	}
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	check(t, err)
	return b
}
