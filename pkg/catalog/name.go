package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Naming says under which names clients see the tools and prompts of the servers. Any
// value except Bare and Conflict means Prefix.
type Naming string

// The namings.
const (
	Prefix   Naming = "prefix"   // server__name
	Bare     Naming = "bare"     // name
	Conflict Naming = "conflict" // name, but server__name where several servers offer it
)

// MaxName is the length of the longest prefixed name, in characters. Common model APIs
// reject all tools of a client if one name is longer.
const MaxName = 64

const separator = "__"

// prefixed returns the exposed name of an item with the name of its server as a prefix.
// A name longer than MaxName is cut and ends in a hash of the full name, so it depends
// only on server and name.
func prefixed(server, name string) (exposed string, cut bool) {
	full := strings.ToValidUTF8(server, "\uFFFD") + separator + name
	if utf8.RuneCountInString(full) <= MaxName {
		return full, false
	}
	sum := sha256.Sum256([]byte(full))
	tail := "_" + hex.EncodeToString(sum[:4])
	return string([]rune(full)[:MaxName-len(tail)]) + tail, true
}

// An exposeFunc returns the exposed name of an item, and whether it was cut.
type exposeFunc func(server, name string) (exposed string, cut bool)

// exposer returns the exposeFunc for kind k and these offers. A name without a prefix is
// never cut, because a transparent hub must not change names.
func exposer(k Kind, naming Naming, order []string, offers map[string]offer) exposeFunc {
	unchanged := func(_, name string) (string, bool) { return name, false }
	switch {
	case !k.renamed() || naming == Bare:
		return unchanged
	case naming == Conflict:
		contested := contested(k, order, offers)
		return func(server, name string) (string, bool) {
			if contested[name] {
				return prefixed(server, name)
			}
			return name, false
		}
	default:
		return prefixed
	}
}

// contested returns the names of kind k that more than one server offers.
func contested(k Kind, order []string, offers map[string]offer) map[string]bool {
	owner, contested := make(map[string]string), make(map[string]bool)
	for _, server := range order {
		for _, e := range offers[server].entries[k] {
			if e.fault != "" {
				continue
			}
			if first, ok := owner[e.name]; !ok {
				owner[e.name] = server
			} else if first != server {
				contested[e.name] = true
			}
		}
	}
	return contested
}

// mayExpose reports whether a tool or a prompt of server, which need not be listed, may have the exposed name.
func (n Naming) mayExpose(server, exposed string) bool {
	full, _ := prefixed(server, "")
	return n == Bare || n == Conflict || strings.HasPrefix(exposed, full)
}
