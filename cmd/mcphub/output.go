package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

// plainText returns text from outside for a terminal, which it must not steer.
func plainText(s string) string { return admin.Visible(s) }

// printJSON prints v as indented JSON.
func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return printRawJSON(w, text)
}

// printJSONLine prints v as JSON in one line.
func printJSONLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printRawJSON(w, text)
}

// printRawJSON prints JSON and a line break. Text from outside in it must not steer a
// terminal either.
func printRawJSON(w io.Writer, text []byte) error {
	_, err := w.Write(append(admin.VisibleJSON(text), '\n'))
	return err
}

// since returns the time from ms, in ms since 1970, until now.
func since(ms int64) string { return time.Since(time.UnixMilli(ms)).Round(time.Second).String() }

// until returns the time from now until t.
func until(t time.Time) string { return time.Until(t).Round(time.Second).String() }
