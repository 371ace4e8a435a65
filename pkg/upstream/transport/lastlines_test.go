package transport

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLastLinesAreBounded(t *testing.T) {
	t.Parallel()
	var l LastLines
	for i := range 100 {
		l.add(fmt.Sprintf("line %d of \xff%s", i, strings.Repeat("é", 5000)))
	}
	text := l.String()
	if len(l.lines) != maxLastLines || len(text) > maxLastText+10*len(" | ") || !strings.Contains(text, "line 99 of ") ||
		!utf8.ValidString(text) {
		t.Errorf("%d lines, %d bytes: %.80q", len(l.lines), len(text), text)
	}
	(*LastLines)(nil).add("kept by nobody")
}
