package catalog_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/mcphub-go/mcphub/pkg/catalog"
)

func raws(items ...string) []json.RawMessage {
	var out []json.RawMessage
	for _, it := range items {
		out = append(out, json.RawMessage(it))
	}
	return out
}

// named returns one minimal item per value of its identity member.
func named(member string, values ...string) []json.RawMessage {
	var out []json.RawMessage
	for _, v := range values {
		out = append(out, json.RawMessage(fmt.Sprintf("{%q:%q}", member, v)))
	}
	return out
}

func tools(names ...string) catalog.Inventory {
	return catalog.Inventory{Tools: named("name", names...)}
}

func exposed(s *catalog.Snapshot, k catalog.Kind) []string {
	var out []string
	for _, it := range s.Items(k) {
		out = append(out, it.Exposed)
	}
	return out
}

func problems(s *catalog.Snapshot) []string {
	var out []string
	for _, p := range s.Problems() {
		out = append(out, fmt.Sprintf("%s/%s/%s: %s", p.Server, p.Kind, p.Name, p.Text))
	}
	return out
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func TestItemChangesOnlyInItsName(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"schema keywords",
			`{"name":"x","inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","oneOf":[{"if":{"a":1},"then":{"b":2}}],` +
				`"patternProperties":{"^x-":{"name":"x"}}}}`,
			`{"name":"s__x","inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","oneOf":[{"if":{"a":1},"then":{"b":2}}],` +
				`"patternProperties":{"^x-":{"name":"x"}}}}`},
		{"numbers", `{"max":12345678901234567890,"e":1.0E+2,"z":-0.0,"name":"x"}`,
			`{"max":12345678901234567890,"e":1.0E+2,"z":-0.0,"name":"s__x"}`},
		{"unknown fields", `{"x-new":{"name":"x"},"name":"x","_meta":{"a/b":null}}`,
			`{"x-new":{"name":"x"},"name":"s__x","_meta":{"a/b":null}}`},
		{"escapes", `{"name":"x","description":"\u00e9\/é\ud83d\u2028<>&"}`, `{"name":"s__x","description":"\u00e9\/é\ud83d\u2028<>&"}`},
		{"white space", " {\n\t\"name\" :\r\n \"x\" , \"a\" : [ ] } ", " {\n\t\"name\" :\r\n \"s__x\" , \"a\" : [ ] } "},
		{"escaped key", `{"n\u0061m\u0065":"x","nam":"name"}`, `{"n\u0061m\u0065":"s__x","nam":"name"}`},
		{"escaped name", `{"name":"\u0078"}`, `{"name":"s__x"}`},
		{"repeated names in a schema", `{"name":"x","inputSchema":{"a":1,"a":2}}`, `{"name":"s__x","inputSchema":{"a":1,"a":2}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := catalog.New(catalog.Prefix, nil)
			c.Replace("s", catalog.Inventory{Tools: raws(tt.in), Prompts: raws(tt.in)})
			s := c.Snapshot()
			for _, k := range []catalog.Kind{catalog.Tools, catalog.Prompts} {
				if got, want := string(s.List(k)), `{"`+k.String()+`":[`+tt.want+`]}`; got != want {
					t.Errorf("list:\n got %s\nwant %s", got, want)
				}
				if got := string(s.Items(k)[0].Raw); got != tt.want {
					t.Errorf("item:\n got %s\nwant %s", got, tt.want)
				}
			}
			if got, ok := s.Tool("s__x"); !ok || got != (catalog.Target{Server: "s", Name: "x"}) {
				t.Errorf("Tool = %v, %v", got, ok)
			}
		})
	}
}

func TestItemThatKeepsItsNameKeepsItsBytes(t *testing.T) {
	const item = " {\"name\":\"\\u0078\",\"uri\":\"a:\\/b\",\n\"uriTemplate\":\"a:{b}\", \"n\":1e400}"
	c := catalog.New(catalog.Bare, nil)
	c.Replace("s", catalog.Inventory{Tools: raws(item), Prompts: raws(item), Resources: raws(item), Templates: raws(item)})
	for _, k := range catalog.Kinds() {
		if got := string(c.Snapshot().Items(k)[0].Raw); got != item {
			t.Errorf("%s: got %s", k, got)
		}
	}
}

func TestResourcesAreNeverRenamed(t *testing.T) {
	c := catalog.New(catalog.Prefix, nil)
	c.Replace("s", catalog.Inventory{
		Resources: raws(`{"uri":"file:///a","name":"a"}`),
		Templates: raws(`{"uriTemplate":"file:///{a}","name":"a"}`),
	})
	s := c.Snapshot()
	for k, want := range map[catalog.Kind]string{
		catalog.Resources: `{"resources":[{"uri":"file:///a","name":"a"}]}`,
		catalog.Templates: `{"resourceTemplates":[{"uriTemplate":"file:///{a}","name":"a"}]}`,
	} {
		if got := string(s.List(k)); got != want {
			t.Errorf("%s: got %s, want %s", k, got, want)
		}
	}
	if got, ok := s.Template("file:///{a}"); !ok || got != (catalog.Target{Server: "s", Name: "file:///{a}"}) {
		t.Errorf("Template = %v, %v", got, ok)
	}
}

func TestNamesFollowTheNaming(t *testing.T) {
	for _, tt := range []struct {
		naming         catalog.Naming
		want, problems []string
	}{
		{catalog.Prefix, []string{"a__get", "a__put", "b__get", "b__a__get"}, nil},
		{"", []string{"a__get", "a__put", "b__get", "b__a__get"}, nil},
		{catalog.Bare, []string{"get", "put", "a__get"},
			[]string{`b/tools/get: "get" is taken by "get" of server "a"`}},
		{catalog.Conflict, []string{"a__get", "put", "b__get"},
			[]string{`b/tools/a__get: "a__get" is taken by "get" of server "a"`}},
	} {
		t.Run(string(tt.naming), func(t *testing.T) {
			c := catalog.New(tt.naming, []string{"a", "b"})
			c.Replace("b", tools("get", "a__get"))
			c.Replace("a", tools("get", "put"))
			s := c.Snapshot()
			equal(t, "exposed", exposed(s, catalog.Tools), tt.want)
			equal(t, "problems", problems(s), tt.problems)
		})
	}
}

func TestConflictOfOneKindDoesNotPrefixTheOthers(t *testing.T) {
	c := catalog.New(catalog.Conflict, nil)
	c.Replace("a", catalog.Inventory{Tools: named("name", "x"), Prompts: named("name", "x")})
	c.Replace("b", catalog.Inventory{Tools: named("name", "x")})
	equal(t, "tools", exposed(c.Snapshot(), catalog.Tools), []string{"a__x", "b__x"})
	equal(t, "prompts", exposed(c.Snapshot(), catalog.Prompts), []string{"x"})

	c.Remove("b")
	equal(t, "tools", exposed(c.Snapshot(), catalog.Tools), []string{"x"})
}

func TestItemLeftOutCausesNoConflict(t *testing.T) {
	c := catalog.New(catalog.Conflict, nil)
	c.Replace("a", tools("x", "x"))
	c.Replace("b", catalog.Inventory{Tools: raws(`{"name":"x","name":"x"}`)})
	equal(t, "tools", exposed(c.Snapshot(), catalog.Tools), []string{"x"})
}

func TestPrefixedNameHasAtMost64Characters(t *testing.T) {
	for _, tt := range []struct {
		title, server, name, want string
	}{
		{"fits", "s", strings.Repeat("x", 61), "s__" + strings.Repeat("x", 61)},
		{"one too long", "s", strings.Repeat("x", 62), "s__" + strings.Repeat("x", 52) + "_382c910f"},
		{"characters, not bytes", "s", strings.Repeat("é", 61), "s__" + strings.Repeat("é", 61)},
		{"long server", strings.Repeat("s", 70), "x", strings.Repeat("s", 55) + "_5f8f6927"},
	} {
		t.Run(tt.title, func(t *testing.T) {
			c := catalog.New(catalog.Prefix, nil)
			c.Replace(tt.server, tools(tt.name))
			s := c.Snapshot()
			got := s.Items(catalog.Tools)[0].Exposed
			if got != tt.want || utf8.RuneCountInString(got) > catalog.MaxName {
				t.Errorf("exposed as %q, want %q", got, tt.want)
			}
			if target, _ := s.Tool(got); target.Name != tt.name {
				t.Errorf("Tool(%q) = %v", got, target)
			}
			if cut := len(s.Problems()) == 1; cut != (got != tt.server+"__"+tt.name) {
				t.Errorf("problems: %v", problems(s))
			}
		})
	}
}

func TestShortenedNameDoesNotDependOnOtherTools(t *testing.T) {
	long := strings.Repeat("x", 100)
	c := catalog.New(catalog.Prefix, []string{"a", "s"})
	c.Replace("s", tools(long))
	alone := exposed(c.Snapshot(), catalog.Tools)[0]

	c.Replace("a", tools(long, "other"))
	c.Replace("s", tools("first", long+"y", long))
	if target, ok := c.Snapshot().Tool(alone); !ok || target != (catalog.Target{Server: "s", Name: long}) {
		t.Errorf("Tool(%q) = %v, %v", alone, target, ok)
	}
	if n := len(c.Snapshot().Items(catalog.Tools)); n != 5 {
		t.Errorf("%d tools", n)
	}
}

func TestBareNameIsNeverCut(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, naming := range []catalog.Naming{catalog.Bare, catalog.Conflict} {
		c := catalog.New(naming, nil)
		c.Replace("s", tools(long))
		equal(t, string(naming), exposed(c.Snapshot(), catalog.Tools), []string{long})
		equal(t, "problems", problems(c.Snapshot()), nil)
	}
}

func TestFirstServerWins(t *testing.T) {
	c := catalog.New(catalog.Prefix, []string{"a", "a__b"})
	c.Replace("a__b", catalog.Inventory{Tools: named("name", "c"), Resources: named("uri", "x:1"),
		Templates: named("uriTemplate", "x:{y}")})
	c.Replace("a", catalog.Inventory{Tools: named("name", "b__c"), Resources: named("uri", "x:1"),
		Templates: named("uriTemplate", "x:{y}")})
	s := c.Snapshot()

	for what, find := range map[string]func() (catalog.Target, bool){
		"tool":     func() (catalog.Target, bool) { return s.Tool("a__b__c") },
		"resource": func() (catalog.Target, bool) { return s.Resource("x:1") },
		"template": func() (catalog.Target, bool) { return s.Template("x:{y}") },
		"match":    func() (catalog.Target, bool) { return s.Resource("x:2") },
	} {
		if got, ok := find(); !ok || got.Server != "a" {
			t.Errorf("%s: got %v, %v", what, got, ok)
		}
	}
	equal(t, "problems", problems(s), []string{
		`a__b/tools/c: "a__b__c" is taken by "b__c" of server "a"`,
		`a__b/resources/x:1: "x:1" is taken by "x:1" of server "a"`,
		`a__b/resourceTemplates/x:{y}: "x:{y}" is taken by "x:{y}" of server "a"`,
	})
}

func TestFirstOfTwoItemsWithOneNameWins(t *testing.T) {
	c := catalog.New(catalog.Prefix, nil)
	c.Replace("s", catalog.Inventory{Tools: raws(`{"name":"x","n":1}`, `{"name":"x","n":2}`)})
	if got := string(c.Snapshot().List(catalog.Tools)); got != `{"tools":[{"name":"s__x","n":1}]}` {
		t.Errorf("got %s", got)
	}
	if len(c.Snapshot().Problems()) != 1 {
		t.Errorf("problems: %v", problems(c.Snapshot()))
	}
}

func TestListIsNeverNull(t *testing.T) {
	c := catalog.New(catalog.Prefix, []string{"s"})
	check := func() {
		t.Helper()
		for _, k := range catalog.Kinds() {
			if got, want := string(c.Snapshot().List(k)), `{"`+k.String()+`":[]}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
	check()
	equal(t, "changed", c.Replace("s", catalog.Inventory{}), nil)
	check()
	equal(t, "changed", c.Remove("s"), nil)
	check()
}

func TestReplaceAndRemoveReturnTheChangedKinds(t *testing.T) {
	c := catalog.New(catalog.Bare, []string{"a", "b"})
	inv := catalog.Inventory{Tools: named("name", "x"), Resources: named("uri", "x:1")}
	equal(t, "new", c.Replace("b", inv), []catalog.Kind{catalog.Tools, catalog.Resources})
	equal(t, "same", c.Replace("b", inv), nil)

	equal(t, "same bytes, other server", c.Replace("a", inv), nil)
	if got, _ := c.Snapshot().Tool("x"); got.Server != "a" {
		t.Errorf("Tool = %v", got)
	}

	equal(t, "unknown", c.Remove("z"), nil)
	equal(t, "removed", c.Remove("a"), nil)
	inv.Tools = raws(`{"name":"x" }`)
	equal(t, "white space", c.Replace("b", inv), []catalog.Kind{catalog.Tools})
	equal(t, "last one removed", c.Remove("b"), []catalog.Kind{catalog.Tools, catalog.Resources})
}

func TestInvalidItemIsLeftOutAlone(t *testing.T) {
	deep := strings.Repeat("[", 101) + strings.Repeat("]", 101)
	for _, tt := range []struct{ item, name, text string }{
		{``, "", `left out: item 1 is not a JSON object`},
		{`null`, "", `left out: item 1 is not a JSON object`},
		{`["name","x"]`, "", `left out: item 1 is not a JSON object`},
		{`{}`, "", `left out: item 1 has no string "name"`},
		{`{"name":""}`, "", `left out: item 1 has no string "name"`},
		{`{"name":7}`, "", `left out: item 1 has no string "name"`},
		{`{"name":"\ud800"}`, "", `left out: item 1 has no string "name"`},
		{`{"Name":"x","a":{"name":"x"}}`, "", `left out: item 1 has no string "name"`},
		{`{"name":"x","n\u0061me":"y"}`, "x", `left out: item 1 has the member "name" twice`},
		{`{"name":"x","a":1,"a":2}`, "x", `left out: item 1 has the member "a" twice`},
		{"{\"name\":\"x\",\"a\":\"\xff\"}", "", `left out: item 1 is not valid UTF-8`},
		{`{"name":"x"}{}`, "x", `left out: item 1 is followed by more data`},
		{`{"name":"x"},`, "x", `left out: item 1 is followed by more data`},
		{`{"name":"x","a":` + deep + `}`, "x", `left out: item 1 is nested deeper than 100 levels`},
		{`{"name":"x","a":}`, "x", `left out: item 1 is not valid JSON`},
		{`{"name":"x"`, "x", `left out: item 1 is not valid JSON`},
		{`{"name":"x","a":01}`, "x", `left out: item 1 is not valid JSON`},
	} {
		c := catalog.New(catalog.Prefix, nil)
		c.Replace("s", catalog.Inventory{Tools: raws(`{"name":"before"}`, tt.item, `{"name":"after"}`)})
		c.Replace("other", tools("x"))
		s := c.Snapshot()
		equal(t, tt.item, exposed(s, catalog.Tools), []string{"s__before", "s__after", "other__x"})
		if p := s.Problems(); len(p) != 1 || p[0].Server != "s" || p[0].Name != tt.name || !strings.HasPrefix(p[0].Text, tt.text) {
			t.Errorf("%s: problems %q", tt.item, problems(s))
		}
	}
}

func TestOrderIsThatOfTheConfiguration(t *testing.T) {
	want := []string{"c__2", "c__1", "a__1", "new__1"}
	for _, arrival := range [][]string{{"a", "c", "new"}, {"new", "c", "a"}, {"c", "a", "new", "c"}} {
		c := catalog.New(catalog.Prefix, []string{"c", "a", "c", "absent"})
		for _, server := range arrival {
			inv := tools("1")
			if server == "c" {
				inv = tools("2", "1")
			}
			c.Replace(server, inv)
		}
		equal(t, "exposed", exposed(c.Snapshot(), catalog.Tools), want)

		c.Remove("c")
		c.Replace("c", tools("2", "1"))
		equal(t, "after a reconnect", exposed(c.Snapshot(), catalog.Tools), want)
	}
}

func TestSnapshotDoesNotChange(t *testing.T) {
	c := catalog.New(catalog.Prefix, nil)
	c.Replace("s", tools("x"))
	s := c.Snapshot()
	list := string(s.List(catalog.Tools))
	c.Replace("s", tools("y", "z"))
	if got := string(s.List(catalog.Tools)); got != list || len(s.Items(catalog.Tools)) != 1 {
		t.Errorf("got %s, want %s", got, list)
	}
}

// Every snapshot must be merged from whole inventories, during concurrent writes too.
func TestReadersSeeWholeInventories(t *testing.T) {
	c := catalog.New(catalog.Prefix, []string{"a", "b"})
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for _, server := range []string{"a", "b"} {
		writers.Go(func() {
			for i := range 200 {
				n := fmt.Sprint(i)
				c.Replace(server, catalog.Inventory{Tools: named("name", "x"+n, "y"+n), Templates: named("uriTemplate", "t:{id}")})
				if i%10 == 0 {
					c.Remove(server)
				}
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s := c.Snapshot()
				items := s.Items(catalog.Tools)
				if len(items)%2 != 0 {
					t.Errorf("%d tools; want an even number", len(items))
				}
				for _, it := range items {
					if target, ok := s.Tool(it.Exposed); !ok || target != it.Target {
						t.Errorf("Tool(%q) = %v, %v", it.Exposed, target, ok)
					}
				}
				s.Resource("t:1")
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func BenchmarkToolLookup(b *testing.B) {
	c := catalog.New(catalog.Prefix, nil)
	c.Replace("s", catalog.Inventory{Tools: manyTools(5000)})
	s := c.Snapshot()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.Tool("s__tool_4999"); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkReplace5kTools(b *testing.B) {
	c := catalog.New(catalog.Prefix, nil)
	inv := catalog.Inventory{Tools: manyTools(5000)}
	b.ReportAllocs()
	for b.Loop() {
		c.Replace("s", inv)
	}
}

func manyTools(n int) []json.RawMessage {
	out := make([]json.RawMessage, n)
	for i := range out {
		out[i] = fmt.Appendf(nil,
			`{"name":"tool_%d","description":%q,"inputSchema":{"type":"object","properties":{`+
				`"path":{"type":"string","description":"A path"},"limit":{"type":"integer","minimum":0}},"required":["path"]}}`,
			i, strings.Repeat("words ", 40))
	}
	return out
}
