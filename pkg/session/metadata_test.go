package session_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// values returns metadata from pairs of key and JSON.
func values(pairs ...string) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return all
}

func TestMetadataIsMergedAndNullRemoves(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, _ := create(t, m)
	update := func(with, want map[string]json.RawMessage) {
		t.Helper()
		check(t, m.UpdateMetadata(t.Context(), s.ID, with))
		if got := get(t, m, s.ID).Metadata; !reflect.DeepEqual(got, want) {
			t.Errorf("the metadata is %s; want %s", got, want)
		}
	}
	update(values("a", "1", "b", `"x"`), values("a", "1", "b", `"x"`))
	before := get(t, m, s.ID)
	update(map[string]json.RawMessage{"a": nil, "c": json.RawMessage("[]")}, values("b", `"x"`, "c", "[]"))
	if !reflect.DeepEqual(before.Metadata, values("a", "1", "b", `"x"`)) {
		t.Errorf("a value handed out earlier has changed: %s", before.Metadata)
	}
	update(values("b", "null", "nobody", "null"), values("c", "[]"))
	update(values("c", " null\n", "d", `[null]`), values("d", "[null]"))
	update(nil, values("d", "[null]"))
	mine := values("e", `"mine"`)
	check(t, m.UpdateMetadata(t.Context(), s.ID, mine))
	copy(mine["e"], `"XXXX"`)
	update(values("d", "null"), values("e", `"mine"`)) // the caller may change its bytes
}

func TestRefusedMetadataChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := session.New(store, session.Config{})
		s, _ := create(t, m)
		check(t, m.UpdateMetadata(t.Context(), s.ID, values("old", `"value"`)))
		check(t, m.Flush(t.Context()))
		before, batches := get(t, m, s.ID), len(store.applied())
		time.Sleep(10 * time.Minute)
		for name, metadata := range map[string]map[string]json.RawMessage{
			"no JSON":          values("old", "null", "x", "{"),
			"nothing":          values("old", "null", "x", ""),
			"two values":       values("old", "null", "x", "1,2"),
			"bare text":        values("old", "null", "x", "hello"),
			"no key":           values("old", "null", "", "1"),
			"a long key":       values("old", "null", strings.Repeat("k", 129), "1"),
			"a key of rubbish": values("old", "null", "\xff", "1"),
			"too deep":         values("old", "null", "x", nested(9999)),
			"too much":         values("old", "null", "x", `"`+strings.Repeat("v", 64<<10)+`"`),
			"a byte too much":  values("x", `"`+strings.Repeat("v", 64<<10-12)+`"`), // with "old" and the quotes
		} {
			if err := m.UpdateMetadata(t.Context(), s.ID, metadata); !errors.Is(err, session.ErrMetadata) || len(err.Error()) > 300 {
				t.Errorf("%s: UpdateMetadata = %v; want ErrMetadata", name, err)
			}
		}
		if got := get(t, m, s.ID); !reflect.DeepEqual(got, before) {
			t.Errorf("the session is %.500s; want %.500s", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", before))
		}
		if i, _ := m.Info(t.Context(), s.ID); i.Dirty {
			t.Error("a refused change marked the session as dirty")
		}
		check(t, m.Flush(t.Context()))
		if len(store.applied()) != batches {
			t.Error("a refused change was written")
		}
		check(t, m.UpdateMetadata(t.Context(), s.ID, values("x", `"`+strings.Repeat("v", 64<<10-13)+`"`)))
		check(t, m.UpdateMetadata(t.Context(), s.ID, values("x", "null", strings.Repeat("k", 128), nested(9998))))
	})
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestMetadataSurvivesARestart(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	s, token := create(t, m)
	want := values("number", "12345678901234567890123", "text", `"\u00e9 <"`, "nested", `{"a":[1.0,null]}`, "deep", nested(9998),
		"kéy", "true")
	check(t, m.UpdateMetadata(t.Context(), s.ID, want))
	check(t, m.Close(t.Context()))
	m = restored(t, store, session.Config{})
	acquire(t, m, token).Release()
	got := get(t, m, s.ID).Metadata
	if !reflect.DeepEqual(got, want) {
		t.Errorf("after the restart the metadata is %.1000s; want %.1000s", got, want)
	}
}

// mcp-hub-lite had no limit: its metadata must load, and must be allowed to shrink.
func TestImportedMetadataBeyondTheLimitLoadsAndMayShrink(t *testing.T) {
	store := newFaulty()
	big := `"` + strings.Repeat("v", 50<<10) + `"`
	put(t, store, "s1", strings.Replace(fresh("s1"), `"metadata": {}`, fmt.Sprintf(`"metadata": {"a":%s,"b":%s,"c":%s}`, big, big, big), 1))
	m := restored(t, store, session.Config{})
	if err := m.UpdateMetadata(t.Context(), "s1", values("d", "1")); !errors.Is(err, session.ErrMetadata) {
		t.Errorf("more metadata = %v; want ErrMetadata", err)
	}
	check(t, m.UpdateMetadata(t.Context(), "s1", values("a", "null")))
	check(t, m.UpdateMetadata(t.Context(), "s1", values("b", "1", "c", "2")))
	if got := get(t, m, "s1").Metadata; !reflect.DeepEqual(got, values("b", "1", "c", "2")) {
		t.Errorf("the metadata is %.100s", got)
	}
}

// At the next start, a record that encoding/json cannot read would be set aside as damaged.
func TestRecordThatCouldNotBeReadAgainIsNotWritten(t *testing.T) {
	store := newFaulty()
	m := session.New(store, session.Config{})
	if _, _, err := m.Create(t.Context(), session.Session{Capabilities: json.RawMessage(nested(10_000))}); err == nil {
		t.Error("a session whose record could not be read again was created")
	}
	s, token := create(t, m)
	check(t, m.Update(t.Context(), s.ID, func(s *session.Session) { s.Metadata = values("x", nested(9999)) }))
	if err := m.Flush(t.Context()); err == nil {
		t.Error("the record was written")
	}
	acquire(t, restored(t, store, session.Config{}), token).Release()
}
