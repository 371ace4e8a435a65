package config

import (
	"errors"
	"fmt"
	"strings"
)

var errReference = errors.New(
	"${ does not begin a variable; expected ${NAME} or ${NAME:-default}, or $$ for a literal $")

// expand replaces ${NAME} and ${NAME:-default} in s by the value of the variable, and $$ by $. The default replaces a
// variable that is missing or empty. The value of a variable is not expanded again.
func expand(s string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), nil
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			reference, rest, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", errReference
			}
			value, err := resolve(reference, lookup)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			s = rest
		default:
			out.WriteByte('$')
			s = after
		}
	}
}

// resolve returns the value of NAME or NAME:-default.
func resolve(reference string, lookup func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !variableName(name) {
		return "", errReference
	}
	var (
		value string
		ok    bool
	)
	if lookup != nil {
		value, ok = lookup(name)
	}
	switch {
	case hasFallback && value == "":
		return fallback, nil
	case !ok:
		return "", fmt.Errorf("the variable %s is not set; set it, or write ${%s:-default}", name, name)
	}
	return value, nil
}

// hasVariable reports whether expand would replace a variable in s, or refuse s.
func hasVariable(s string) bool { return strings.Contains(s, "${") }

func variableName(s string) bool {
	for i, r := range s {
		if !isWord(r) || i == 0 && '0' <= r && r <= '9' {
			return false
		}
	}
	return s != ""
}
