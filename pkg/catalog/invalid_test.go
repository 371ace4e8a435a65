package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
)

func TestToolThatStrictClientsRefuseIsNamed(t *testing.T) {
	for _, tt := range []struct{ members, want string }{
		{``, "it has no inputSchema"},
		{`,"inputSchema":null`, "its inputSchema is not an object"},
		{`,"inputSchema":true`, "its inputSchema is not an object"},
		{`,"inputSchema":"object"`, "its inputSchema is not an object"},
		{`,"inputSchema":[]`, "its inputSchema is not an object"},
		{`,"inputSchema":{}`, `its inputSchema has not the type "object"`},
		{`,"inputSchema":{"type":null}`, `its inputSchema has not the type "object"`},
		{`,"inputSchema":{"type":"string"}`, `its inputSchema has not the type "object"`},
		{`,"inputSchema":{"type":["object","null"]}`, `its inputSchema has not the type "object"`},
		{`,"inputSchema":{"Type":"object"}`, `its inputSchema has not the type "object"`},
		{`,"inputSchema":{"type":"object","properties":[]}`, "its inputSchema has properties that are not an object"},
		{`,"inputSchema":{"type":"object","properties":null}`, "its inputSchema has properties that are not an object"},
		{`,"inputSchema":{"type":"object","properties":{"a":{},"b":true}}`, `its inputSchema has the property "b" that is not an object`},
		{`,"inputSchema":{"type":"object","required":null}`, "its inputSchema has required that is not a list of strings"},
		{`,"inputSchema":{"type":"object","required":"a"}`, "its inputSchema has required that is not a list of strings"},
		{`,"inputSchema":{"type":"object","required":[1]}`, "its inputSchema has required that is not a list of strings"},
		{`,"inputSchema":{"type":"object","required":[null]}`, "its inputSchema has required that is not a list of strings"},
		{`,"inputSchema":{"type":"object"},"outputSchema":{"type":"array"}`, `its outputSchema has not the type "object"`},
		{`,"inputSchema":{"type":"object"},"description":null`, "its description is not a string"},
		{`,"inputSchema":{"type":"object"},"title":7`, "its title is not a string"},
		{`,"inputSchema":{"type":"object"},"annotations":null`, "its annotations is not an object"},
		{`,"inputSchema":{"type":"object"},"_meta":[]`, "its _meta is not an object"},
		{`,"inputSchema":{"type":"object","properties":{"a":{"type":"nonsense"}},"required":["a"],"$ref":"#/nowhere"}`, ""},
		{`,"inputSchema":{"type":"object","additionalProperties":false},"outputSchema":{"type":"object"},"annotations":{},"x":null`, ""},
	} {
		c := catalog.New(catalog.Prefix, nil)
		inv := catalog.Inventory{Tools: raws(`{"name":"before","inputSchema":{"type":"object"}}`, `{"name":"x"`+tt.members+`}`)}
		c.Replace("s", inv)
		var got string
		for _, p := range c.Snapshot().Invalid() {
			got += p.Text
			if p.Server != "s" || p.Name != "x" || p.Index != 1 {
				t.Errorf("%s: %+v", tt.members, p)
			}
		}
		if got != tt.want || len(c.Snapshot().Problems()) != 0 {
			t.Errorf("%s: %q, want %q", tt.members, got, tt.want)
		}
		equal(t, tt.members, exposed(c.Snapshot(), catalog.Tools), []string{"s__before", "s__x"})
		inv.DropInvalid = true
		c.Replace("s", inv)
		if left := len(exposed(c.Snapshot(), catalog.Tools)); (left == 1) != (tt.want != "") ||
			(tt.want != "") != (len(c.Snapshot().Invalid()) == 1) {
			t.Errorf("%s: %d tools are left", tt.members, left)
		}
	}
}

func TestOtherItemsThatStrictClientsRefuseAreNamedAndListed(t *testing.T) {
	for _, tt := range []struct {
		kind       catalog.Kind
		item, want string
	}{
		{catalog.Prompts, `{"name":"x"}`, ""},
		{catalog.Prompts, `{"name":"x","arguments":[{"name":"a","required":true}]}`, ""},
		{catalog.Prompts, `{"name":"x","arguments":null}`, "its arguments are not a list of objects"},
		{catalog.Prompts, `{"name":"x","arguments":{}}`, "its arguments are not a list of objects"},
		{catalog.Prompts, `{"name":"x","arguments":[7]}`, "its arguments are not a list of objects"},
		{catalog.Prompts, `{"name":"x","arguments":[{"description":"a"}]}`, "one of its arguments has no name"},
		{catalog.Prompts, `{"name":"x","description":null}`, "its description is not a string"},
		{catalog.Resources, `{"uri":"x:1","name":"x"}`, ""},
		{catalog.Resources, `{"uri":"x:1"}`, "it has no name"},
		{catalog.Resources, `{"uri":"x:1","name":"x","mimeType":null}`, "its mimeType is not a string"},
		{catalog.Templates, `{"uriTemplate":"x:{a}"}`, "it has no name"},
		{catalog.Templates, `{"uriTemplate":"x:{a}","name":7}`, "its name is not a string"},
	} {
		c := catalog.New(catalog.Prefix, nil)
		c.Replace("s", catalog.Inventory{DropInvalid: true, Prompts: only(tt.kind == catalog.Prompts, tt.item),
			Resources: only(tt.kind == catalog.Resources, tt.item), Templates: only(tt.kind == catalog.Templates, tt.item)})
		var got string
		for _, p := range c.Snapshot().Invalid() {
			got += p.Text
		}
		if got != tt.want || len(c.Snapshot().Items(tt.kind)) != 1 {
			t.Errorf("%s: %q, want %q", tt.item, got, tt.want)
		}
	}
}

// only returns a list of item, or none.
func only(there bool, item string) []json.RawMessage {
	if !there {
		return nil
	}
	return raws(item)
}

func TestNameTellsWhichServersMayHaveIt(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, tt := range []struct {
		naming       catalog.Naming
		server, name string
		want         bool
	}{
		{catalog.Prefix, "a", "a__x", true}, {catalog.Prefix, "a", "b__x", false}, {catalog.Prefix, "a", "x", false},
		{catalog.Bare, "a", "x", true}, {catalog.Conflict, "a", "x", true}, {catalog.Prefix, "a", "a__" + long, true},
	} {
		if got := catalog.New(tt.naming, nil).MayExpose(tt.server, tt.name); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
