package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Target is the destination of a request for an exposed name.
type Target struct {
	Server string
	Name   string // as the server knows it; the URI of a resource
}

// An Item is one entry of a merged list.
type Item struct {
	Target
	Exposed string // the name that clients see
	// Raw is the item as the server sent it. If Exposed differs from Name, the value
	// of the top-level member "name" is replaced, and no other byte.
	Raw json.RawMessage
}

// A Problem describes an item that is hidden, left out, or exposed differently than
// expected.
type Problem struct {
	Server string
	Kind   Kind
	Index  int    // of the item in the list of the server
	Name   string // as the server knows it; empty if it could not be read
	Hidden bool   // by another item with its name or URI
	Text   string
}

// A Snapshot contains the merged lists of all servers at one moment. It is immutable and
// safe for concurrent use. The slices that it returns are shared: callers must not
// change them.
type Snapshot struct {
	merged   [4]merged
	routes   []route // by length of the prefix, longest first
	problems []Problem
	invalid  []Problem
}

// merged contains the items of one kind of all servers.
type merged struct {
	items []Item
	index map[string]int // Exposed -> index in items
	list  json.RawMessage
	hint  Hint
	spans []span // positions of the items in list while it is being built
}

type span struct{ start, end int }

// A route maps the URIs that match a template to the server of the template.
type route struct {
	*pattern
	server string
}

// Tool returns the target of the tool exposed as name.
func (s *Snapshot) Tool(name string) (Target, bool) { return s.lookup(Tools, name) }

// Prompt returns the target of the prompt exposed as name.
func (s *Snapshot) Prompt(name string) (Target, bool) { return s.lookup(Prompts, name) }

// Template returns the target of exactly this template. Completion requests refer to
// templates in this way.
func (s *Snapshot) Template(uriTemplate string) (Target, bool) {
	return s.lookup(Templates, uriTemplate)
}

// Resource returns the target for reading uri: the server that lists the resource,
// otherwise the one with a matching template. Of several templates the one with the
// longest literal text before its first variable wins, then the one that is listed
// first. Templates do not match a URI of more than 8 KiB.
func (s *Snapshot) Resource(uri string) (Target, bool) {
	if t, ok := s.lookup(Resources, uri); ok {
		return t, true
	}
	if len(uri) > maxURI {
		return Target{}, false
	}
	for _, r := range s.routes {
		if r.match(uri) {
			return Target{Server: r.server, Name: uri}, true
		}
	}
	return Target{}, false
}

func (s *Snapshot) lookup(k Kind, exposed string) (Target, bool) {
	m := &s.merged[k]
	i, ok := m.index[exposed]
	if !ok {
		return Target{}, false
	}
	return m.items[i].Target, true
}

// Items returns the merged items of kind k, ordered by server and, within a server, as
// that lists them.
func (s *Snapshot) Items(k Kind) []Item { return s.merged[k].items }

// List returns the items of kind k as the result of a list request, such as
// {"tools":[...]}. An empty list is [], never null. The white space inside the items is
// that of the servers, including line breaks.
func (s *Snapshot) List(k Kind) json.RawMessage { return s.merged[k].list }

// Problems returns the problems of the items, ordered by kind, server and item.
func (s *Snapshot) Problems() []Problem { return s.problems }

// Invalid returns the items that break the schema of MCP, ordered by kind, server and item. They are listed, but for the
// tools of a server whose Inventory has DropInvalid.
func (s *Snapshot) Invalid() []Problem { return s.invalid }

// merge returns the snapshot of these offers.
func merge(naming Naming, order []string, offers map[string]offer) *Snapshot {
	s := &Snapshot{}
	for _, k := range Kinds() {
		s.merge(k, naming, order, offers)
	}
	slices.SortStableFunc(s.routes, func(a, b route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return s
}

// merge adds the items of kind k to s.
func (s *Snapshot) merge(k Kind, naming Naming, order []string, offers map[string]offer) {
	m := merged{index: make(map[string]int), list: fmt.Appendf(nil, `{"%s":[`, k), hint: mergeHints(k, offers)}
	expose := exposer(k, naming, order, offers)
	for _, server := range order {
		entries := offers[server].entries[k]
		for i := range entries {
			e := &entries[i]
			if e.invalid != "" {
				s.invalid = append(s.invalid, Problem{Server: server, Kind: k, Index: i, Name: e.name, Text: e.invalid})
				if k == Tools && offers[server].dropInvalid {
					continue
				}
			}
			listed, hidden, problem := m.add(server, i, e, expose)
			if problem != "" {
				s.problems = append(s.problems, Problem{server, k, i, e.name, hidden, problem})
			}
			if listed && e.pattern != nil {
				s.routes = append(s.routes, route{e.pattern, server})
			}
		}
	}
	m.list = append(m.list, "]}"...)
	// Set Raw only now, because append has moved the list.
	for i, at := range m.spans {
		m.items[i].Raw = m.list[at.start:at.end:at.end]
	}
	m.spans = nil
	s.merged[k] = m
}

// add appends e, the i-th item of server, unless it is invalid or its name is taken. An
// item that is listed may have a problem too.
func (m *merged) add(server string, i int, e *entry, expose exposeFunc) (listed, hidden bool, problem string) {
	if e.fault != "" {
		return false, false, fmt.Sprintf("left out: item %d %s", i, e.fault)
	}
	exposed, cut := expose(server, e.name)
	if at, taken := m.index[exposed]; taken {
		first := m.items[at]
		return false, true, fmt.Sprintf("%q is taken by %q of server %q", exposed, first.Name, first.Server)
	}

	if len(m.items) > 0 {
		m.list = append(m.list, ',')
	}
	start := len(m.list)
	m.list = e.appendTo(m.list, exposed)
	m.spans = append(m.spans, span{start, len(m.list)})
	m.index[exposed] = len(m.items)
	m.items = append(m.items, Item{Target: Target{server, e.name}, Exposed: exposed})

	switch {
	case cut:
		problem = fmt.Sprintf("shortened to %q: a name has at most %d characters", exposed, MaxName)
	case e.unmatched != "":
		problem = "listed, but no URI matches it: " + e.unmatched
	}
	return true, false, problem
}
