package config

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// valueType describes one type of value: its name, how it is read and what is valid.
type valueType[T any] struct {
	name    string
	choices []Choice
	empty   string // how the file writes an empty list or mapping; "" for scalars
	isZero  func(v T) bool

	// read returns the value in n. It reports what is wrong with n to d and then returns false.
	read func(d *decoder, n *node, at string) (T, bool)

	// parse returns the value that text stands for in an environment variable, a flag or a default; old is the value it
	// replaces. It adds what is wrong to fs, with source as its place, and then returns false. Keys of a type without
	// parse have neither a default nor a variable nor a flag.
	parse func(text string, old T, source string, fs *findings) (T, bool)

	// check adds what is wrong with v to fs. It also finds what was set in code.
	check func(v T, at string, fs *findings)
}

// Descriptions of valid values in error messages.
const (
	aString    = "a string; a number, true or false needs quotes"
	anAddress  = "an address host:port such as 127.0.0.1:7788"
	aURL       = "an http or https URL such as http://127.0.0.1:9000/mcp"
	aDuration  = "a duration such as 30s or 5m"
	aBound     = "a duration such as 24h, or 0 for none"
	aSize      = "a number of bytes such as 4194304, 512KiB, 4MiB or 1GiB"
	aCount     = "a whole number of at least 1"
	aCountOr0  = "a whole number, or 0 for no limit"
	aBool      = "true or false"
	aList      = "a list such as [one, two]"
	aMapping   = "a mapping of keys to values"
	aDirectory = "a directory"
)

var (
	addressType   = stringType("address", anAddress, checkAddress)
	directoryType = stringType("directory", aDirectory, checkDir)
	programType   = stringType("string", "the name or path of a program", checkPath)
	urlType       = optional(stringType("http or https URL", aURL, checkURL))
	durationType  = scalarType("duration", aDuration, (*decoder).text, parseDuration, positive[Duration](aDuration))
	boundType     = scalarType("duration", aBound, (*decoder).number, parseBound, checkBound)
	intervalType  = scalarType("duration", aBound, (*decoder).number, parseBound, checkInterval)
	sizeType      = scalarType("size", aSize, (*decoder).number, parseSize, positive[int64](aSize))
	countType     = scalarType("number", aCount, (*decoder).count, parseCount(1), positive[int](aCount))
	memoryType    = scalarType("size", aSize, (*decoder).number, parseSize, notNegative)
	numberType    = scalarType("number", aCountOr0, (*decoder).count, parseNumber, func(int) string { return "" })
	limitType     = scalarType("number", aCountOr0, (*decoder).count, parseCount(0), checkLimit)
	boolType      = scalarType("true or false", aBool, (*decoder).bool, parseBool, func(bool) string { return "" })
	stringsType   = listType("list of strings", checkNUL)
	hostsType     = listType("list of host names", checkHost)
	originsType   = listType("list of origins", checkOrigin)
	variablesType = namesType("[]")
	inheritType   = namesType("") // of a server: the list of the hub, if it has none
	keysType      = listType("list of strings", func(string) string { return "" })
	envType       = secretsType(checkEnv)
	headersType   = secretsType(checkHeaders)
)

// scalarType returns a type whose values are one word. textOf returns the word of a node, or reports that the node is
// not valid and returns false. parse and check return what is wrong with a value, "" if nothing is; what is expected
// instead is added to what parse returns.
func scalarType[T comparable](name, expected string,
	textOf func(d *decoder, n *node, at, expected string) (string, bool),
	parse func(text string) (v T, wrong string),
	check func(v T) string,
) valueType[T] {
	return valueType[T]{
		name:   name,
		isZero: func(v T) bool { return v == *new(T) },
		read: func(d *decoder, n *node, at string) (v T, ok bool) {
			text, ok := textOf(d, n, at, expected)
			if !ok {
				return v, false
			}
			v, wrong := parse(text)
			if wrong != "" {
				d.add(n.position, at, wrong+"; expected "+expected)
			}
			return v, wrong == ""
		},
		parse: func(text string, _ T, source string, fs *findings) (T, bool) {
			v, wrong := parse(text)
			if wrong != "" {
				wrong += "; expected " + expected
			} else {
				wrong = check(v)
			}
			fs.value(source, wrong)
			return v, wrong == ""
		},
		check: func(v T, at string, fs *findings) { fs.value(at, check(v)) },
	}
}

func stringType(name, expected string, check func(string) string) valueType[string] {
	return scalarType(name, expected, (*decoder).text, parseString, check)
}

// choiceType returns the type of strings that have a fixed set of values.
func choiceType(choices ...Choice) valueType[string] {
	t := stringType("string", alternatives(choices), oneOf(choices))
	t.choices = choices
	return t
}

// optional returns t with the empty string as a valid value. It is the value of a key that is not set.
func optional(t valueType[string]) valueType[string] {
	check := t.check
	t.check = func(v, at string, fs *findings) {
		if v != "" {
			check(v, at, fs)
		}
	}
	return t
}

// alternatives returns the values of choices as a list in words: a, b or c.
func alternatives(choices []Choice) string {
	var text strings.Builder
	for i, c := range choices {
		switch {
		case i == 0:
		case i == len(choices)-1:
			text.WriteString(" or ")
		default:
			text.WriteString(", ")
		}
		text.WriteString(c.Value)
	}
	return text.String()
}

// listType returns the type of lists of strings. check returns what is wrong with one of them.
func listType(name string, check func(item string) string) valueType[[]string] {
	return valueType[[]string]{
		name:   name,
		empty:  "[]",
		isZero: func(v []string) bool { return len(v) == 0 },
		read:   (*decoder).strings,
		check: func(v []string, at string, fs *findings) {
			for i, item := range v {
				fs.value(index(at, i), check(item))
			}
		},
	}
}

// namesType returns the type of lists of names of environment variables. An empty list is a value, unlike none.
func namesType(empty string) valueType[[]string] {
	t := listType("list of variables", checkVariable)
	t.empty = empty
	t.isZero = func(v []string) bool { return v == nil }
	t.parse = func(text string, _ []string, _ string, _ *findings) ([]string, bool) { // of the default
		return strings.Split(strings.Trim(text, "[]"), ", "), true
	}
	return t
}

// checkVariable returns what is wrong with the name of a variable, which may end with *.
func checkVariable(name string) string {
	if plain := strings.TrimSuffix(name, "*"); plain == "" || strings.Contains(plain, "*") || !envName(plain) {
		return "is not the name of a variable; expected a name, or the beginning of names with one * at its end"
	}
	return ""
}

func secretsType(check func(v map[string]Secret, at string, fs *findings)) valueType[map[string]Secret] {
	return valueType[map[string]Secret]{
		name:   "mapping of strings",
		empty:  "{}",
		isZero: func(v map[string]Secret) bool { return len(v) == 0 },
		read:   (*decoder).secrets,
		check:  check,
	}
}

// The functions below return the value of text, and what is wrong with it.

func parseString(text string) (v, wrong string) {
	if text == "" {
		return "", "is empty"
	}
	return text, ""
}

func parseDuration(text string) (v Duration, wrong string) {
	switch v, err := time.ParseDuration(text); {
	case err != nil:
		return 0, "is not a duration"
	case v <= 0:
		return 0, "is not positive"
	default:
		return v, ""
	}
}

// parseBound reads a duration for which 0 means Unlimited.
func parseBound(text string) (v Duration, wrong string) {
	switch v, err := time.ParseDuration(text); {
	case err != nil:
		return 0, "is not a duration"
	case v < 0:
		return 0, "is negative"
	case v == 0:
		return Unlimited, ""
	default:
		return v, ""
	}
}

func parseSize(text string) (v int64, wrong string) {
	unit := int64(1)
	for suffix, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = number, bytes
		}
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v <= 0 || v > math.MaxInt64/unit {
		return 0, "is not a size"
	}
	return v * unit, ""
}

// notNegative returns what is wrong with a size that may be missing.
func notNegative(v int64) string {
	if v < 0 {
		return "is not a size"
	}
	return ""
}

// parseNumber reads a limit whose default is not 0. The value of 0 is NoLimit, because 0 stands for a key that is not set.
func parseNumber(text string) (v int, wrong string) {
	if v, wrong = parseCount(0)(text); v == 0 && wrong == "" {
		v = NoLimit
	}
	return v, wrong
}

// parseCount returns a function that reads whole numbers from least up to the largest of 32 bits.
func parseCount(least int64) func(text string) (v int, wrong string) {
	return func(text string) (int, string) {
		v, err := strconv.ParseInt(text, 10, 32)
		if err != nil || v < least {
			return 0, "is not in range"
		}
		return int(v), ""
	}
}

func parseBool(text string) (v bool, wrong string) {
	switch strings.ToLower(text) {
	case "true":
		return true, ""
	case "false":
		return false, ""
	}
	return false, "is not a boolean"
}
