package protocol

import (
	"encoding/json"
	"testing"
)

func TestDeclaresFindsMemberByPath(t *testing.T) {
	t.Parallel()
	const capabilities = `{"tools":{},"tasks":{"list":{},"requests":{"tools":{}}}}`
	for _, x := range []struct {
		want bool
		path []string
	}{
		{true, []string{"tasks"}}, {true, []string{"tasks", "list"}}, {true, []string{"tasks", "requests", "tools"}},
		{false, []string{"tasks", "requests", "tools", "call"}}, {false, []string{"list"}},
		{false, []string{"tasks", "list", "list"}}, {true, nil},
	} {
		if got := Declares(json.RawMessage(capabilities), x.path...); got != x.want {
			t.Errorf("%q: %t", x.path, got)
		}
	}
}
