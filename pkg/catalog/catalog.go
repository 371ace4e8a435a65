// Package catalog merges the lists of all servers (tools, prompts, resources and
// resource templates) into one list of each kind.
//
//	Replace(server, inventory) -> read each item -> merge all servers -> Snapshot
//
// Items keep the bytes that the server sent; only the name of a tool or a prompt may
// be rewritten.
//
// A [Catalog] owns the latest inventory of each server, until it is replaced or
// removed. A [Snapshot] is immutable and lives for as long as somebody uses it. The
// package does no I/O and starts no goroutines.
package catalog

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
)

// A Kind is one of the four kinds of items that a server lists.
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

// String returns the name of the member of a list result that contains the items of k.
func (k Kind) String() string {
	return [...]string{"tools", "prompts", "resources", "resourceTemplates"}[k]
}

// identity returns the name of the member by which requests refer to an item of kind k.
func (k Kind) identity() string {
	return [...]string{"name", "name", "uri", "uriTemplate"}[k]
}

// renamed reports whether items of kind k may get a new name. A URI is never changed:
// it also occurs inside results, which the hub does not read.
func (k Kind) renamed() bool { return k == Tools || k == Prompts }

// An Inventory contains the lists of one server, each item exactly as the server sent
// it in tools/list, prompts/list, resources/list and resources/templates/list.
type Inventory struct {
	Tools, Prompts, Resources, Templates []json.RawMessage
	Hints                                [4]Hint // by Kind
	DropInvalid                          bool    // leave out tools that break the schema of MCP
}

// Items returns the items of kind k.
func (inv Inventory) Items(k Kind) []json.RawMessage {
	return [...][]json.RawMessage{inv.Tools, inv.Prompts, inv.Resources, inv.Templates}[k]
}

// A Catalog contains the latest inventory of each server and the Snapshot merged from
// them. Its methods are safe for concurrent use.
type Catalog struct {
	naming   Naming
	snapshot atomic.Pointer[Snapshot]

	mu     sync.Mutex // held while merging; readers use the snapshot instead
	order  []string   // servers by precedence, removed ones included
	offers map[string]offer
}

// An offer is a parsed Inventory; entries and hints are indexed by Kind.
type offer struct {
	entries     [4][]entry
	hints       [4]Hint
	dropInvalid bool
}

// New returns an empty catalog. If two servers offer the same name, the one that is
// first in servers wins.
func New(naming Naming, servers []string) *Catalog {
	c := &Catalog{naming: naming, offers: make(map[string]offer)}
	for _, server := range servers {
		c.rank(server)
	}
	c.snapshot.Store(merge(naming, nil, nil))
	return c
}

// Snapshot returns the current snapshot. It costs one atomic load.
func (c *Catalog) Snapshot() *Snapshot { return c.snapshot.Load() }

// Replace makes inv the inventory of server, publishes a new Snapshot and
// returns the kinds whose merged list changed. A server that was not passed to New
// gets the lowest precedence. An invalid item is left out and does not affect the
// others; see [Snapshot.Problems].
//
// The catalog retains the bytes in inv: the caller must not change them. Concurrent
// calls for one server take effect in the order in which they get the lock. A caller
// that needs a certain order must not call concurrently.
func (c *Catalog) Replace(server string, inv Inventory) []Kind {
	o := offer{hints: inv.Hints, dropInvalid: inv.DropInvalid} // parse without the lock, so that servers do not wait for each other
	for _, k := range Kinds() {
		o.entries[k] = readAll(k, inv.Items(k))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.rank(server)
	c.offers[server] = o
	return c.publish()
}

// Remove removes the inventory of server, publishes a new Snapshot and returns the
// kinds whose merged list changed. The server keeps its precedence, in case it
// returns.
func (c *Catalog) Remove(server string) []Kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.offers[server]; !ok {
		return nil
	}
	delete(c.offers, server)
	return c.publish()
}

// rank gives a new server the lowest precedence.
func (c *Catalog) rank(server string) {
	if !slices.Contains(c.order, server) {
		c.order = append(c.order, server)
	}
}

// publish merges the offers into a new snapshot. The caller holds c.mu.
//
// It stores the snapshot even if no list changed, because the same bytes may now
// belong to another server.
func (c *Catalog) publish() (changed []Kind) {
	before, after := c.snapshot.Load(), merge(c.naming, c.order, c.offers)
	c.snapshot.Store(after)
	for _, k := range Kinds() {
		if !bytes.Equal(before.List(k), after.List(k)) {
			changed = append(changed, k)
		}
	}
	return changed
}

// MayExpose reports whether a tool or a prompt of server, which need not be listed, may have the exposed name.
func (c *Catalog) MayExpose(server, exposed string) bool { return c.naming.mayExpose(server, exposed) }
