package catalog_test

import (
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
		for _, p := range c.Snapshot().InvalidTools() {
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
		if left := len(exposed(c.Snapshot(), catalog.Tools)); (left == 1) != (tt.want != "") || (tt.want != "") != (len(c.Snapshot().InvalidTools()) == 1) {
			t.Errorf("%s: %d tools are left", tt.members, left)
		}
	}
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
