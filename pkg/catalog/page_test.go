package catalog_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mcphub-go/mcphub/pkg/catalog"
)

// page returns the items of a page and its next cursor.
func page(
	t interface{ Fatalf(string, ...any) }, s *catalog.Snapshot, k catalog.Kind, cursor string, size int,
) (items []string, next string) {
	raw, err := s.Page(k, cursor, size)
	if err != nil {
		t.Fatalf("after %q: %v", cursor, err)
	}
	var result map[string]json.RawMessage
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &result); err != nil || result[k.String()] == nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if err := json.Unmarshal(result[k.String()], &list); err != nil || list == nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if c, ok := result["nextCursor"]; ok {
		if err := json.Unmarshal(c, &next); err != nil || next == "" {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	for _, it := range list {
		items = append(items, string(it))
	}
	return items, next
}

func TestWholeListIsOnePageWithoutACopy(t *testing.T) {
	c := catalog.New(catalog.Bare, nil)
	for _, names := range [][]string{nil, {"a"}, {"a", "b", "c"}} {
		c.Replace("s", tools(names...))
		s := c.Snapshot()
		for _, size := range []int{-1, 0, 3, 100} {
			got, err := s.Page(catalog.Tools, "", size)
			if err != nil || string(got) != string(s.List(catalog.Tools)) || &got[0] != &s.List(catalog.Tools)[0] {
				t.Errorf("%v by %d: %s, %v", names, size, got, err)
			}
		}
	}
	if got, err := c.Snapshot().Page(catalog.Resources, "", 1); err != nil || string(got) != `{"resources":[]}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestPagesContainTheListInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		naming := rapid.SampledFrom([]catalog.Naming{catalog.Prefix, catalog.Bare, catalog.Conflict}).Draw(t, "naming")
		names := rapid.SliceOfN(rapid.OneOf(rapid.StringMatching(`[ab]{1,3}`), rapid.String()), 0, 12)
		c := catalog.New(naming, nil)
		for _, server := range []string{"one", "two"} {
			c.Replace(server, catalog.Inventory{Tools: named("name", names.Draw(t, "tools")...),
				Templates: named("uriTemplate", names.Draw(t, "templates")...)})
		}
		s := c.Snapshot()
		size := rapid.IntRange(1, 30).Draw(t, "size")
		for _, k := range catalog.Kinds() {
			var got []string
			cursor := ""
			for first := true; first || cursor != ""; first = false {
				var items []string
				items, cursor = page(t, s, k, cursor, size)
				if len(items) > size || cursor != "" && len(items) < size {
					t.Fatalf("%d items on a page of %d", len(items), size)
				}
				got = append(got, items...)
			}
			var want []string
			for _, it := range s.Items(k) {
				want = append(want, string(it.Raw))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s:\n got %q\nwant %q", k, got, want)
			}
		}
	})
}

func TestItemThatStaysIsReturnedOnceWhileOthersChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := []string{"one", "two", "three"}
		stays := map[string]bool{}
		has := map[string][]bool{} // by server, of the names 0..9
		for _, server := range servers {
			has[server] = rapid.SliceOfN(rapid.Bool(), 10, 10).Draw(t, server)
			for i, there := range has[server] {
				if there && rapid.Bool().Draw(t, "stays") {
					stays[fmt.Sprintf("%s__%d", server, i)] = true
				}
			}
		}
		// A new catalog for each page, as after a restart of the hub.
		snapshot := func() *catalog.Snapshot {
			c := catalog.New(catalog.Prefix, servers)
			for _, server := range rapid.Permutation(servers).Draw(t, "order") {
				var names []string
				for i, there := range has[server] {
					if there {
						names = append(names, fmt.Sprint(i))
					}
				}
				c.Replace(server, tools(names...))
			}
			return c.Snapshot()
		}

		given := map[string]int{}
		cursor, last := "", ""
		for first := true; first || cursor != ""; first = false {
			var items []string
			items, cursor = page(t, snapshot(), catalog.Tools, cursor, rapid.IntRange(1, 6).Draw(t, "size"))
			for _, it := range items {
				var tool struct{ Name string }
				if err := json.Unmarshal([]byte(it), &tool); err != nil {
					t.Fatalf("%v", err)
				}
				last = tool.Name
				given[last]++
			}
			for _, server := range servers {
				for i := range has[server] {
					if name := fmt.Sprintf("%s__%d", server, i); name != last && !stays[name] {
						has[server][i] = rapid.Bool().Draw(t, "now")
					}
				}
			}
		}
		for name, n := range given {
			if n != 1 {
				t.Fatalf("%s was returned %d times", name, n)
			}
		}
		for name := range stays {
			if given[name] != 1 {
				t.Fatalf("%s was returned %d times", name, given[name])
			}
		}
	})
}

func TestUnknownCursorIsRefused(t *testing.T) {
	c := catalog.New(catalog.Bare, []string{"one", "two"})
	c.Replace("one", tools("a", "b", "c", "d"))
	c.Replace("two", tools("x", "b"))
	_, next := page(t, c.Snapshot(), catalog.Tools, "", 2)
	for _, cursor := range []string{"b", "!", "====", "AAAA", next + "=", next + "\n", "\n" + next, next[:len(next)-1], next + next,
		base64.RawURLEncoding.EncodeToString([]byte("b")), base64.RawURLEncoding.EncodeToString([]byte("0000b")),
		strings.Repeat("A", 20_000)} {
		if got, err := c.Snapshot().Page(catalog.Tools, cursor, 2); !errors.Is(err, catalog.ErrCursor) {
			t.Errorf("%.100q: %s, %v", cursor, got, err)
		}
	}
	if got, err := c.Snapshot().Page(catalog.Prompts, next, 2); !errors.Is(err, catalog.ErrCursor) {
		t.Errorf("a cursor of another list: %s, %v", got, err)
	}

	// The name moves to the other server, at another place in the list.
	c.Replace("one", tools("a", "c", "d"))
	if got, err := c.Snapshot().Page(catalog.Tools, next, 2); !errors.Is(err, catalog.ErrCursor) {
		t.Errorf("a cursor of an item that went elsewhere: %s, %v", got, err)
	}
	c.Replace("one", tools("a", "b", "c", "d"))
	if items, _ := page(t, c.Snapshot(), catalog.Tools, next, 9); len(items) != 3 {
		t.Errorf("the item is back: %q", items)
	}
}

func TestCursorsAreBounded(t *testing.T) {
	huge := strings.Repeat("x", 9000)
	c := catalog.New(catalog.Bare, nil)
	c.Replace("s", tools("a", huge+"1", huge+"2", "b", "c", huge+"3"))
	items, next := page(t, c.Snapshot(), catalog.Tools, "", 2)
	if len(items) != 4 || len(next) > 100 {
		t.Errorf("%d items, a cursor of %d bytes", len(items), len(next))
	}
	items, next = page(t, c.Snapshot(), catalog.Tools, next, 1)
	if len(items) != 1 || next == "" {
		t.Errorf("%d items, cursor %q", len(items), next)
	}
	if items, next = page(t, c.Snapshot(), catalog.Tools, next, 1); len(items) != 1 || next != "" {
		t.Errorf("%d items, cursor %q", len(items), next)
	}
}

func FuzzCursor(f *testing.F) {
	c := catalog.New(catalog.Bare, nil)
	c.Replace("s", tools("a", "b", "é", `"\`, strings.Repeat("n", 100)))
	s := c.Snapshot()
	good := map[string]bool{"": true}
	for cursor := ""; ; {
		if _, cursor = page(f, s, catalog.Tools, cursor, 1); cursor == "" {
			break
		}
		good[cursor] = true
		f.Add(cursor, 1)
	}
	for _, cursor := range []string{"", "AAAA", "AAAAYQ", "=", "\x00", "é"} {
		f.Add(cursor, 2)
	}
	f.Fuzz(func(t *testing.T, cursor string, size int) {
		got, err := s.Page(catalog.Tools, cursor, size)
		if err != nil {
			if !errors.Is(err, catalog.ErrCursor) || good[cursor] {
				t.Fatalf("%q: %v", cursor, err)
			}
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q: %s", cursor, got)
		}
		// The last item has a cursor too, although no page ends with it and has a nextCursor.
		if !good[cursor] && string(got) != `{"tools":[]}` {
			t.Fatalf("%q is accepted as a cursor: %s", cursor, got)
		}
	})
}

func TestHintsAreTheStrictestOfAllServers(t *testing.T) {
	long, short := catalog.Hint{TTLMs: 9000, Public: true}, catalog.Hint{TTLMs: 50, Public: true}
	own := catalog.Hint{TTLMs: 70}
	for _, tt := range []struct {
		name    string
		servers map[string]catalog.Inventory
		ttl     int64
		private bool
	}{
		{"no server", nil, 0, true},
		{"one", map[string]catalog.Inventory{"a": hinted(long, "x")}, 9000, false},
		{"the shorter", map[string]catalog.Inventory{"a": hinted(long, "x"), "b": hinted(short, "y")}, 50, false},
		{"private if one is", map[string]catalog.Inventory{"a": hinted(long, "x"), "b": hinted(own, "y")}, 70, true},
		{"one says nothing", map[string]catalog.Inventory{"a": hinted(long, "x"), "b": tools("y")}, 0, true},
		{"one lists nothing", map[string]catalog.Inventory{"a": hinted(long, "x"), "b": {}}, 9000, false},
		{"one lists nothing yet", map[string]catalog.Inventory{"a": hinted(long, "x"), "b": hinted(short)}, 50, false},
		{"below zero", map[string]catalog.Inventory{"a": hinted(catalog.Hint{TTLMs: -5, Public: true}, "x")}, 0, false},
	} {
		c := catalog.New(catalog.Prefix, nil)
		for server, inv := range tt.servers {
			c.Replace(server, inv)
		}
		if ttl, private := c.Snapshot().Hints(catalog.Tools); ttl != tt.ttl || private != tt.private {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, ttl, private, tt.ttl, tt.private)
		}
		if ttl, private := c.Snapshot().Hints(catalog.Prompts); ttl != 0 || !private {
			t.Errorf("%s: %d, %v for a kind that nobody lists", tt.name, ttl, private)
		}
		for server := range tt.servers {
			c.Remove(server)
		}
		if ttl, private := c.Snapshot().Hints(catalog.Tools); ttl != 0 || !private {
			t.Errorf("%s: %d, %v after all are gone", tt.name, ttl, private)
		}
	}
}

func hinted(h catalog.Hint, names ...string) catalog.Inventory {
	inv := tools(names...)
	inv.Hints[catalog.Tools] = h
	return inv
}

func BenchmarkPage(b *testing.B) {
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("tool-%d", i))
	}
	c := catalog.New(catalog.Prefix, nil)
	c.Replace("s", tools(names...))
	s := c.Snapshot()
	_, cursor := page(b, s, catalog.Tools, "", 2500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Page(catalog.Tools, cursor, 100); err != nil {
			b.Fatal(err)
		}
	}
}
