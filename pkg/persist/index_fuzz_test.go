package persist_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// FuzzIndex opens a directory with any content of the index. The records must be complete,
// and the index correct afterwards.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"sessions":["a"]}`))
	f.Add([]byte(`{"sessions":["../x","gone"]}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, index []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"index.json": index, "one.json": []byte(`{"a":1}`)} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for key, err := range d.Keys(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			keys = append(keys, key)
		}
		if len(keys) != 1 || keys[0] != "one" {
			t.Errorf("keys %q", keys)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil ||
			string(data) != "{\n  \"sessions\": [\n    \"one\"\n  ]\n}\n" && string(data) != `{"sessions":["one"]}` {
			t.Errorf("index %q, %v", data, err)
		}
	})
}
