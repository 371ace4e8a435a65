package upstream

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
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

func TestTheProgressTokensOfTasksAreKeptInBoundedNumber(t *testing.T) {
	t.Parallel()
	c := &Conn{}
	id := func(i int) jsonrpc.ID { return jsonrpc.ID(fmt.Sprint(i)) }
	task := jsonrpc.Message{Result: json.RawMessage(`{"task":{"taskId":"x"}}`)}
	c.keepTaskToken(&call{progress: id(-1)}, task) // wants no progress
	c.keepTaskToken(&call{progress: id(-2), token: json.RawMessage(`1`)}, jsonrpc.Message{Result: json.RawMessage(`{"content":[]}`)})
	for i := range maxTaskTokens + 10 {
		c.keepTaskToken(&call{progress: id(i), token: json.RawMessage(id(i))}, task)
	}
	if len(c.taskTokens) != maxTaskTokens || c.taskTokenOf(id(9)) != nil || string(c.taskTokenOf(id(10))) != "10" || c.taskTokenOf(id(-2)) != nil {
		t.Errorf("%d tokens are kept, from that of call %s on", len(c.taskTokens), c.taskTokens[0].id)
	}
}
