package protocol

import (
	"encoding/json"
	"testing"
)

func TestOnlyTheWordOfTasksIsTakenOutOfAList(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"tools":[ {"name":"a", "execution": {"taskSupport":"optional"}, "n":1.50} ,` + "\n" + `{"name":"b"} ],"nextCursor":"x"}`: `{"tools":[ {"name":"a", "n":1.50} ,` +
			"\n" + `{"name":"b"} ],"nextCursor":"x"}`,
		`{"tools":[{"execution":{"x":1e2,"taskSupport":"required"},"name":"a"}]}`:                                    `{"tools":[{"execution":{"x":1e2},"name":"a"}]}`,
		`{"tools":[{"name":"a","inputSchema":{"properties":{"execution":{"taskSupport":1}}}}]}`:                      "",
		`{"tools":[{"name":"taskSupport","execution":{}}, {"name":"b","description":"\"taskSupport\""}]}`:            "",
		`{"tools":[["taskSupport"],"taskSupport",{"execution":"taskSupport"},{"execution":{"taskSupport":"none"}}]}`: `{"tools":[["taskSupport"],"taskSupport",{"execution":"taskSupport"},{}]}`,
		`{"tools":"taskSupport"}`:                           "",
		`{"tools":[{"name":"a"},{"name":"a"}]}`:             "",
		`{"taskSupport":["taskSupport"]}`:                   "",
		`{"tools":[{"execution":{"taskSupport":1}}`:         "",
		`{"tools":[ ],"_meta":{"taskSupport": "optional"}}`: "",
	} {
		if want == "" {
			want = in
		}
		if got := string(WithoutTaskSupport(json.RawMessage(in))); got != want {
			t.Errorf("%s\nbecame %s\nwant   %s", in, got, want)
		}
	}
}

func TestWhatIsDeclaredIsFoundByItsPath(t *testing.T) {
	t.Parallel()
	const capabilities = `{"tools":{},"tasks":{"list":{},"requests":{"tools":{}}}}`
	for _, x := range []struct {
		want bool
		path []string
	}{
		{true, []string{"tasks"}}, {true, []string{"tasks", "list"}}, {true, []string{"tasks", "requests", "tools"}},
		{false, []string{"tasks", "requests", "tools", "call"}}, {false, []string{"list"}}, {false, []string{"tasks", "list", "list"}},
	} {
		if got := Declares(json.RawMessage(capabilities), x.path...); got != x.want {
			t.Errorf("%q: %t", x.path, got)
		}
	}
}
