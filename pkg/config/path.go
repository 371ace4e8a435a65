package config

import (
	"fmt"
	"strings"
)

// join returns the path of a key in the mapping at a path. Paths look like sessions.idleTimeout, args[0] and
// mcpServers["odd name"].
func join(at, key string) string {
	switch {
	case !plain(key):
		return fmt.Sprintf("%s[%q]", at, key)
	case at == "":
		return key
	default:
		return at + "." + key
	}
}

func index(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }

func parent(at string) string { return at[:max(0, strings.LastIndexAny(at, ".["))] }

// visible returns the path of an unknown key for an error. A key that does not look like a name may be a secret in the
// wrong place; then visible returns the path of the mapping around it.
func visible(at, key string) string {
	if plain(key) {
		return join(at, key)
	}
	return at
}

func plain(key string) bool {
	if key == "" || len(key) > 64 {
		return false
	}
	for _, r := range key {
		if !isWord(r) && r != '-' {
			return false
		}
	}
	return true
}

func isWord(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
