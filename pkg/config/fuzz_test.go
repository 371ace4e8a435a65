package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		everything, "", "a: &a [*a]", "<<: *x", "{", "? a", "- - -", "listen: |\n  x", "\"\\ud83d", "a: !!map", "mcpServers: {a: {<<: [*a, {}]}}",
		"%YAML", "---\n...\n", "a: ${X:-${Y}}", "listen: >+\n\n", "\t{\t\"a\"\t:\t1}", staircase(40), "&a &b c: *a", "!!binary x",
		"'", "{a: b: c}", "[a: b]",
		inArgs(`"\ud83d\ude00", /* */ "C:\a" // ` + "\n,"), "// a\n{}", "/*", "{\"a\":[1,2.5e3,null,],}/*",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// A panic, not a failure: the fuzzer would wait for Parse to return.
		watch := time.AfterFunc(5*time.Second, func() { panic(fmt.Sprintf("hangs on %q", data)) })
		defer watch.Stop()
		c, err := Parse("f", data, environment)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("without a line: %v", err)
			}
			return
		}
		if err := errors.Join(c.expandHome(), c.Validate()); err != nil {
			t.Fatalf("accepted, but not valid: %v", err)
		}
	})
}

// The texts that take the parser the most time, each as large as a file may be.
func TestNoTextKeepsParseBusy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, unit := range []string{"a: b\n", "a: \n", "? a\n", "x:\n- a\n", "]", "{}", "*a ", "&a ", "a: >\n  y\n\n", "? - ", "\"", " ",
		`{"a":`, "//\n", "/**/"} {
		// As many as fit in a file, and as many as the parser gets to see.
		for _, times := range []int{maxFileBytes / len(unit), maxTokens/2 - 1} {
			text := strings.Repeat(unit, min(times, maxFileBytes/len(unit)))
			start := time.Now()
			_, _ = Parse("f", []byte(text), nil)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("%d times %q took %v", times, unit, took)
			}
		}
	}
}

// Whatever value is set for whatever key, an error does not show it.
func TestNoErrorShowsAValue(t *testing.T) {
	const canary = "c4n4ry"
	lines := strings.Split(strings.TrimSpace(blockStyle), "\n")
	rapid.Check(t, func(t *rapid.T) {
		changed := append([]string(nil), lines...)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			i := rapid.IntRange(0, len(changed)-1).Draw(t, "line")
			key, _, ok := strings.Cut(changed[i], ": ")
			if !ok {
				continue
			}
			changed[i] = key + ": " + rapid.SampledFrom([]string{
				canary, "~" + canary, "'" + canary, "[" + canary + ", 1]", "{a: " + canary + "}", "\"" + canary + "\\n\"", "https://" + canary + "@h/",
				"http://h:" + canary, "${NOPE} " + canary, canary + " ${", "!" + canary, "x: " + canary, "@" + canary, "%" + canary, "${CANARY}",
				"h:${CANARY}", "|\n " + canary, "&a " + canary, "[\"" + canary + "\\0\"]", canary + ":1", "1" + canary, "${CANARY}s",
				"5" + canary + "MiB",
			}).Draw(t, "value")
		}
		_, err := Parse("f", []byte(strings.Join(changed, "\n")), func(name string) (string, bool) { return canary, name == "CANARY" })
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Fatalf("%v\nof\n%s", err, strings.Join(changed, "\n"))
		}
	})
}

const blockStyle = `
listen: :80
admin:
  listen: :81
dataDir: /d
log:
  level: info
  format: auto
sessions:
  idleTimeout: 5s
limits:
  maxRequestBytes: 5
  maxInFlight: 5
allowedHosts: [a]
allowedOrigins: ["http://a"]
naming: bare
mcpServers:
  a:
    command: x
    args: [a]
    env:
      K: v
    cwd: /
    disabled: true
    type: stdio
    isolation: shared
  b:
    url: http://h/
    headers:
      K: v
    callTimeout: 5s
`
