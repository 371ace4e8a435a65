package config

import (
	"strings"
	"testing"
)

func TestWhatAConfigurationHidesIsAWarning(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`naming: bare
mcpServers: {a: {command: x}, b: {command: y}}`, "naming: bare hides names"},
		{`naming: bare
mcpServers: {a: {command: x}, b: {command: y, disabled: true}}`, ""},
		{`mcpServers: {a: {command: x, args: [y]}, b: {command: x, args: [y]}}`, "mcpServers.b: is the same server as a"},
		{`mcpServers: {a: {url: "http://h/mcp"}, b: {url: "http://h/mcp"}, c: {url: "http://h/mcp"}}`,
			"mcpServers.b: is the same server as a|mcpServers.c: is the same server as a"},
		{`mcpServers: {a: {command: x, env: {K: "1"}}, b: {command: x, env: {K: "2"}}}`, ""},
		{`mcpServers: {a: {command: x, args: [y]}, b: {command: x, args: [z]}}`, ""},
		{`naming: bare
mcpServers: {a: {command: x, onInvalidTool: drop}}`, "mcpServers.a.onInvalidTool: drop has no effect"},
		{`mcpServers: {a: {command: x, onInvalidTool: drop}}`, ""},
	} {
		c := mustParse(t, tt.text)
		got := c.Warnings()
		var want []string
		if tt.want != "" {
			want = strings.Split(tt.want, "|")
		}
		ok := len(got) == len(want)
		for i := range want {
			ok = ok && strings.HasPrefix(got[i], want[i])
		}
		if !ok {
			t.Errorf("%s:\n got %q\nwant %q", tt.text, got, want)
		}
	}
}
