package config

import (
	"slices"
	"strings"
)

// Validate returns an error that lists every rule that c violates. It changes nothing; Finish completes a Config.
func (c *Config) Validate() error {
	return append(c.check(), c.checkHome()...).err()
}

// check checks the value of each key, and then the rules about several keys.
func (c *Config) check() findings {
	var fs findings
	for _, r := range hubKeys {
		r.check(c, r.Name, &fs)
	}
	if overlap(c.Listen, c.Admin.Listen) {
		at := "admin.listen"
		if c.Admin.Listen == Default().Admin.Listen {
			at = "listen" // the key that was set
		}
		fs.value(at, "listen and admin.listen are the same; expected two addresses")
	}
	return fs
}

// checkHome finds a leading ~ that was not replaced: it would create a directory of that name. Parse does not call it,
// since a file may contain ~.
func (c *Config) checkHome() findings {
	var fs findings
	for at, dir := range c.directories() {
		if inHome(*dir) {
			fs.value(at, "the ~ was not replaced by the home directory; expected Finish to be called, or a full path")
		}
	}
	return fs
}

// The functions below return what is wrong with a value, "" if nothing is.

// oneOf returns a function that checks whether a value is one of choices.
func oneOf(choices []Choice) func(string) string {
	wrong := "unknown value; expected " + alternatives(choices)
	return func(s string) string {
		if slices.ContainsFunc(choices, func(c Choice) bool { return c.Value == s }) {
			return ""
		}
		return wrong
	}
}

// positive returns a function that checks whether a number is above 0.
func positive[N int | int64 | Duration](expected string) func(N) string {
	return func(n N) string {
		if n > 0 {
			return ""
		}
		return "is not positive; expected " + expected
	}
}

// checkBound is positive for durations that can be Unlimited.
func checkBound(d Duration) string {
	if d == Unlimited {
		return ""
	}
	return positive[Duration](aBound)(d)
}

// checkInterval is checkBound for durations whose zero value has a meaning: that the file does not set them.
func checkInterval(d Duration) string {
	if d == 0 {
		return ""
	}
	return checkBound(d)
}

// checkLimit is positive for numbers that can be 0.
func checkLimit(n int) string {
	if n >= 0 {
		return ""
	}
	return "is negative; expected " + aCountOr0
}

func checkNUL(s string) string {
	if strings.ContainsRune(s, 0) {
		return "contains a NUL character; expected text without it"
	}
	return ""
}

func checkDir(s string) string {
	if strings.HasPrefix(s, "~") && !inHome(s) {
		return "the home directory of another user is not looked up; expected ~/ or a full path"
	}
	return checkPath(s)
}

// checkPath also finds what a backslash in double quotes makes of a path: "C:\apps" contains a bell.
func checkPath(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != 0 && !strings.ContainsRune("\t\n\r", r) }) {
		return `contains a control character; in double quotes a backslash is written as \\`
	}
	return checkNUL(s)
}

// inHome reports whether a directory begins with the ~ that stands for the home directory.
func inHome(dir string) bool { return dir == "~" || strings.HasPrefix(dir, "~/") }
