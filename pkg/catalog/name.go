package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Naming says under which names the tools and prompts of the servers appear.
// Anything but Bare and Conflict means Prefix.
type Naming string

// The namings.
const (
	Prefix   Naming = "prefix"   // server__name
	Bare     Naming = "bare"     // name
	Conflict Naming = "conflict" // name, but server__name where several servers offer it
)

// MaxName is the length of the longest prefixed name, in characters: common
// model APIs refuse the tools of a client if one of their names is longer.
const MaxName = 64

const separator = "__"

// prefixed returns the name under which server's item appears when it carries
// the server's name. A name longer than MaxName is cut and ends in a hash of
// the whole, so it depends on nothing but its own two parts.
func prefixed(server, name string) (exposed string, cut bool) {
	full := strings.ToValidUTF8(server, "\uFFFD") + separator + name
	if utf8.RuneCountInString(full) <= MaxName {
		return full, false
	}
	sum := sha256.Sum256([]byte(full))
	tail := "_" + hex.EncodeToString(sum[:4])
	return string([]rune(full)[:MaxName-len(tail)]) + tail, true
}

// An exposeFunc returns the name under which server's item appears, and
// whether it had to be cut.
type exposeFunc func(server, name string) (exposed string, cut bool)

// exposer returns the rule for kind k among these offers. A name that gets no
// prefix is never cut: where the hub is transparent, it stays so.
func exposer(k Kind, naming Naming, order []string, offers map[string]offer) exposeFunc {
	asItIs := func(_, name string) (string, bool) { return name, false }
	switch {
	case !k.renamed() || naming == Bare:
		return asItIs
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
