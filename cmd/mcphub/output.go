package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"
)

// plainText replaces control characters, so that text from clients and servers
// cannot send escape sequences to the terminal.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || (0x7f <= r && r < 0xa0) {
			return '.'
		}
		return r
	}, s)
}

// printJSON prints v as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// since returns the time from ms, in ms since 1970, until now.
func since(ms int64) string { return time.Since(time.UnixMilli(ms)).Round(time.Second).String() }

// until returns the time from now until t.
func until(t time.Time) string { return time.Until(t).Round(time.Second).String() }
