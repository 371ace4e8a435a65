package config

import (
	"errors"
	"fmt"
	"strings"
)

var errReference = errors.New("${ does not begin a variable; expected ${NAME} or ${NAME:-default}, and $$ for a $ itself")

// expand replaces ${NAME} and ${NAME:-default} in s, and $$ by $. The default
// stands for a variable that is missing or empty. What comes out of a
// variable is not looked at again.
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

func variableName(s string) bool {
	for i, r := range s {
		if !isWord(r) || i == 0 && '0' <= r && r <= '9' {
			return false
		}
	}
	return s != ""
}
