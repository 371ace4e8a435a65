package catalog_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/mcphub-go/mcphub/pkg/catalog"
)

// The alphabet is small, so that names collide; the lengths go past MaxName.
func TestEveryExposedNameIsUniqueAndHasOneTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		naming := rapid.SampledFrom([]catalog.Naming{catalog.Prefix, catalog.Bare, catalog.Conflict}).Draw(t, "naming")
		servers := []string{"a", "b", "a__b", "a__a__b"}
		part := rapid.SampledFrom([]string{"a", "b", "_", "__", "é", `"`, "0123456789012345678901234567890123456789"})
		name := rapid.Custom(func(t *rapid.T) string {
			var s string
			for _, p := range rapid.SliceOfN(part, 0, 4).Draw(t, "parts") {
				s += p
			}
			return s
		})
		items := rapid.Custom(func(t *rapid.T) []json.RawMessage {
			var out []json.RawMessage
			for i, n := range rapid.SliceOfN(name, 0, 6).Draw(t, "names") {
				quoted, _ := json.Marshal(n)
				out = append(out, fmt.Appendf(nil, `{"i":%d,"name":%s,"uri":%[2]s,"uriTemplate":%[2]s}`, i, quoted))
			}
			return out
		})

		c := catalog.New(naming, servers[:3])
		offered := make(map[catalog.Kind]map[catalog.Target]bool)
		for _, k := range catalog.Kinds() {
			offered[k] = make(map[catalog.Target]bool)
		}
		for _, server := range servers {
			inv := catalog.Inventory{Tools: items.Draw(t, "tools"), Prompts: items.Draw(t, "prompts"),
				Resources: items.Draw(t, "resources"), Templates: items.Draw(t, "templates")}
			for _, k := range catalog.Kinds() {
				for _, raw := range inv.Items(k) {
					var it struct{ Name string }
					if err := json.Unmarshal(raw, &it); err != nil {
						t.Fatal(err)
					}
					offered[k][catalog.Target{Server: server, Name: it.Name}] = true
				}
			}
			c.Replace(server, inv)
		}

		s := c.Snapshot()
		find := map[catalog.Kind]func(string) (catalog.Target, bool){
			catalog.Tools: s.Tool, catalog.Prompts: s.Prompt, catalog.Resources: s.Resource, catalog.Templates: s.Template,
		}
		for _, k := range catalog.Kinds() {
			names, targets := make(map[string]bool), make(map[catalog.Target]bool)
			for _, it := range s.Items(k) {
				if names[it.Exposed] || targets[it.Target] {
					t.Fatalf("%s: %q, %v occurs twice", k, it.Exposed, it.Target)
				}
				names[it.Exposed], targets[it.Target] = true, true
				if !offered[k][it.Target] {
					t.Fatalf("%s: %v was never offered", k, it.Target)
				}
				if got, ok := find[k](it.Exposed); !ok || got != it.Target {
					t.Fatalf("%s: %q leads to %v, %v, want %v", k, it.Exposed, got, ok, it.Target)
				}
				if it.Exposed != it.Name && utf8.RuneCountInString(it.Exposed) > catalog.MaxName {
					t.Fatalf("%s: %q is too long", k, it.Exposed)
				}
			}
			checkList(t, s, k)
		}
	})
}

// checkList fails unless the list is valid JSON and holds the exposed names.
func checkList(t interface{ Fatalf(string, ...any) }, s *catalog.Snapshot, k catalog.Kind) {
	var list map[string][]map[string]json.RawMessage
	if err := json.Unmarshal(s.List(k), &list); err != nil || list[k.String()] == nil {
		t.Fatalf("%s: %v: %q", k, err, s.List(k))
	}
	id := map[catalog.Kind]string{catalog.Tools: "name", catalog.Prompts: "name", catalog.Resources: "uri",
		catalog.Templates: "uriTemplate"}[k]
	items := s.Items(k)
	if len(items) != len(list[k.String()]) {
		t.Fatalf("%s: %d items, %d in the list", k, len(items), len(list[k.String()]))
	}
	for i, got := range list[k.String()] {
		var name string
		if err := json.Unmarshal(got[id], &name); err != nil || name != items[i].Exposed {
			t.Fatalf("%s: item %d is %s in the list, want %q", k, i, got[id], items[i].Exposed)
		}
		if !json.Valid(items[i].Raw) {
			t.Fatalf("%s: item %d is not valid: %q", k, i, items[i].Raw)
		}
	}
}

func FuzzItem(f *testing.F) {
	for _, seed := range []string{
		`{"name":"x","inputSchema":{"type":"object"}}`, `{"n\u0061me":"\ud83d\ude00"}`, `{"name":"x","name":"y"}`,
		`{"uri":"file:///a","name":"a"}`, `{"uriTemplate":"file:///{+path}{?q*,r:3}"}`, `{"uriTemplate":"{a}%20{/b*}"}`,
		`null`, ``, ` {} `, `{"name":"x"}]`, "{\"name\":\"\xff\"}", `{"a":[[[[1e999]]]],"name":"` + "\u2028" + `"}`,
	} {
		f.Add([]byte(seed), "file:///a/b?q=1")
	}
	f.Fuzz(func(t *testing.T, item []byte, uri string) {
		items := []json.RawMessage{json.RawMessage(`{"name":"a","uri":"a:1","uriTemplate":"a:{b}"}`), item}
		inv := catalog.Inventory{Tools: items, Prompts: items, Resources: items, Templates: items}
		for _, naming := range []catalog.Naming{catalog.Prefix, catalog.Bare, catalog.Conflict} {
			c := catalog.New(naming, nil)
			c.Replace("one", inv)
			c.Replace("two", inv)
			s := c.Snapshot()
			for _, k := range catalog.Kinds() {
				checkList(t, s, k)
			}
			s.Resource(uri)
		}
	})
}
