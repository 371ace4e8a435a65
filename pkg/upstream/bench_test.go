package upstream

import (
	"testing"
)

// BenchmarkStdioCall is one call of a tool over a pipe to a child and back.
func BenchmarkStdioCall(b *testing.B) {
	c := newEnv(b, childSpec(b, "script")).connect(b, nil)
	req := toolCall("raw", `{"text":"{\"content\":[]}"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
