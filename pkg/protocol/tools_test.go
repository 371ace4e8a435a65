package protocol

import (
	"cmp"
	"encoding/json"
	"testing"
)

func TestWithoutTaskSupportRemovesOnlyTaskSupport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{ // an empty want: in is returned as it is
		{
			`{"tools":[ {"name":"a", "execution": {"taskSupport":"optional"}, "n":1.50} ,` + "\n" + `{"name":"b"} ],"nextCursor":"x"}`,
			`{"tools":[ {"name":"a", "n":1.50} ,` + "\n" + `{"name":"b"} ],"nextCursor":"x"}`,
		},
		{
			`{"tools":[{"execution":{"x":1e2,"taskSupport":"required"},"name":"a"}]}`,
			`{"tools":[{"execution":{"x":1e2},"name":"a"}]}`,
		},
		{
			`{"tools":[["taskSupport"],"taskSupport",{"execution":"taskSupport"},{"execution":{"taskSupport":"none"}}]}`,
			`{"tools":[["taskSupport"],"taskSupport",{"execution":"taskSupport"},{}]}`,
		},
		{`{"tools":[{"name":"a","inputSchema":{"properties":{"execution":{"taskSupport":1}}}}]}`, ""},
		{`{"tools":[{"name":"taskSupport","execution":{}}, {"name":"b","description":"\"taskSupport\""}]}`, ""},
		{`{"tools":"taskSupport"}`, ""},
		{`{"tools":[{"name":"a"},{"name":"a"}]}`, ""},
		{`{"taskSupport":["taskSupport"]}`, ""},
		{`{"tools":[{"execution":{"taskSupport":1}}`, ""},
		{`{"tools":[ ],"_meta":{"taskSupport": "optional"}}`, ""},
	} {
		want := cmp.Or(tt.want, tt.in)
		if got := string(WithoutTaskSupport(json.RawMessage(tt.in))); got != want {
			t.Errorf("%s\nbecame %s\nwant   %s", tt.in, got, want)
		}
	}
}

func TestIsToolErrorWantsTrue(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]bool{
		`{"content":[],"isError":true}`:          true,
		`{"content":[],"isError":false}`:         false,
		`{"content":[]}`:                         false,
		`{"isError":"true"}`:                     false,
		`{"structuredContent":{"isError":true}}`: false,
		`{"isError":true`:                        false,
		``:                                       false,
	} {
		if got := IsToolError(json.RawMessage(result)); got != want {
			t.Errorf("%s: %t", result, got)
		}
	}
}
