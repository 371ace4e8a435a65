// Package catalog merges what the servers offer into one list of names.
//
//	Replace(server, inventory) -> read each item -> merge all servers -> Snapshot
//
// Items stay the bytes that the server sent; the name of a tool or a prompt
// is the only thing that is ever rewritten. The package does no I/O and
// starts no goroutines.
package catalog

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
)

// A Kind is one of the four things that a server lists.
type Kind int

// The kinds.
const (
	Tools Kind = iota
	Prompts
	Resources
	Templates
)

// Kinds returns every Kind, in the order of their values.
func Kinds() [4]Kind { return [...]Kind{Tools, Prompts, Resources, Templates} }

// String returns the member of the list result that holds the items of k.
func (k Kind) String() string {
	return [...]string{"tools", "prompts", "resources", "resourceTemplates"}[k]
}

// identity returns the member of an item of kind k that requests refer to.
func (k Kind) identity() string {
	return [...]string{"name", "name", "uri", "uriTemplate"}[k]
}

// renamed reports whether items of kind k may be exposed under a new name.
// A URI goes through as it is: it also occurs inside results, where the hub
// does not look.
func (k Kind) renamed() bool { return k == Tools || k == Prompts }

// An Inventory is all that one server offers, each item exactly as the server
// sent it in tools/list, prompts/list, resources/list and
// resources/templates/list.
type Inventory struct {
	Tools, Prompts, Resources, Templates []json.RawMessage
	Hints                                [4]Hint // by Kind
}

// Items returns the items of kind k.
func (inv Inventory) Items(k Kind) []json.RawMessage {
	return [...][]json.RawMessage{inv.Tools, inv.Prompts, inv.Resources, inv.Templates}[k]
}

// A Catalog holds the latest inventory of each server and the Snapshot merged
// from them. Its methods are safe for concurrent use.
type Catalog struct {
	naming   Naming
	snapshot atomic.Pointer[Snapshot]

	mu     sync.Mutex // held while merging; readers take the snapshot instead
	order  []string   // order of precedence; a removed server keeps its place
	offers map[string]offer
}

// An offer is an Inventory that has been read; both fields are indexed by Kind.
type offer struct {
	entries [4][]entry
	hints   [4]Hint
}

// New returns an empty catalog. Where two servers claim the same name, the one
// that comes first in servers wins.
func New(naming Naming, servers []string) *Catalog {
	c := &Catalog{naming: naming, offers: make(map[string]offer)}
	for _, server := range servers {
		c.rank(server)
	}
	c.snapshot.Store(merge(naming, nil, nil))
	return c
}

// Snapshot returns the current state, in one atomic load.
func (c *Catalog) Snapshot() *Snapshot { return c.snapshot.Load() }

// Replace makes inv the inventory of server, publishes a new Snapshot and
// returns the kinds whose merged list changed. A server that New was not told
// of comes last in the order. A broken item costs only itself; see
// [Snapshot.Problems].
//
// The catalog keeps the bytes in inv: the caller must not change them. Calls
// for one server take effect in the order in which they get the lock, so a
// caller that needs an order makes them one after the other.
func (c *Catalog) Replace(server string, inv Inventory) []Kind {
	o := offer{hints: inv.Hints} // read before taking the lock, so that servers do not wait for each other
	for _, k := range Kinds() {
		o.entries[k] = readAll(k, inv.Items(k))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.rank(server)
	c.offers[server] = o
	return c.publish()
}

// Remove forgets the inventory of server, publishes a new Snapshot and returns
// the kinds whose merged list changed. The server keeps its place in the order
// for the case that it comes back.
func (c *Catalog) Remove(server string) []Kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.offers[server]; !ok {
		return nil
	}
	delete(c.offers, server)
	return c.publish()
}

// rank puts a server that has no place in the order yet at its end.
func (c *Catalog) rank(server string) {
	if !slices.Contains(c.order, server) {
		c.order = append(c.order, server)
	}
}

// publish merges the offers anew. The caller holds c.mu.
//
// The snapshot is stored even when no list changed: the same bytes may now
// come from another server.
func (c *Catalog) publish() (changed []Kind) {
	was, now := c.snapshot.Load(), merge(c.naming, c.order, c.offers)
	c.snapshot.Store(now)
	for _, k := range Kinds() {
		if !bytes.Equal(was.List(k), now.List(k)) {
			changed = append(changed, k)
		}
	}
	return changed
}
