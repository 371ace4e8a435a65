package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"unicode"
)

func TestJSONRecordsShowNothingHidden(t *testing.T) {
	const name = "a\u202eb\u2028c\u009b2Jd\U000e0041\x1b\x7f ü 日本 😀"
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(visibleJSON{&b}, nil)).Info(name, name, name)
	for _, r := range b.String() {
		if r != '\n' && !unicode.IsGraphic(r) {
			t.Errorf("the record shows %q: %q", r, &b)
		}
	}
	var record map[string]any
	if err := json.Unmarshal(b.Bytes(), &record); err != nil || record["msg"] != name || record[name] != name {
		t.Errorf("the record is %q: %v", &b, err)
	}
}
