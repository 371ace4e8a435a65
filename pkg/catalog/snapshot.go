package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Target says where a request for an exposed name goes.
type Target struct {
	Server string
	Name   string // as the server itself knows it; for resources the URI
}

// An Item is one entry of a merged list.
type Item struct {
	Target
	Exposed string // the name that clients see
	// Raw is what the server sent. If Exposed differs from Name, the value of
	// the top-level member "name" is replaced; every other byte is the server's.
	Raw json.RawMessage
}

// A Problem is an item that is hidden, left out or not exposed as expected.
type Problem struct {
	Server string
	Kind   Kind
	Name   string // as the server knows it; empty if that could not be read
	Text   string
}

// A Snapshot is what the servers offered at one moment. It never changes, and
// is safe for concurrent use. The slices it returns are shared: callers must
// not write to them.
type Snapshot struct {
	merged   [4]merged
	routes   []route
	tools    map[string]int
	problems []Problem
}

// merged is one kind's items of all servers.
type merged struct {
	items []Item
	index map[string]int // Exposed -> index in items
	list  json.RawMessage
	hint  Hint
	spans []span // of the items in list, while it is being built
}

type span struct{ start, end int }

// A route leads the URIs that a template can expand to, to a server.
type route struct {
	*pattern
	server string
}

// Tool finds the tool exposed as name.
func (s *Snapshot) Tool(name string) (Target, bool) { return s.lookup(Tools, name) }

// Prompt finds the prompt exposed as name.
func (s *Snapshot) Prompt(name string) (Target, bool) { return s.lookup(Prompts, name) }

// Template finds the server that lists exactly this template. Completion
// requests refer to templates in this way.
func (s *Snapshot) Template(uriTemplate string) (Target, bool) {
	return s.lookup(Templates, uriTemplate)
}

// Resource finds the server to read uri from: the one that lists the resource,
// otherwise the one with a matching template. Of several templates the one
// with the longest literal text before its first variable wins, then the one
// that is listed first. Templates do not match a URI of more than 8 KiB.
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

// Items returns the merged items of kind k: the servers in their order, then
// each server's items in its own order.
func (s *Snapshot) Items(k Kind) []Item { return s.merged[k].items }

// List returns the items of kind k as the result of a list request, such as
// {"tools":[...]}. An empty list is [], never null. White space is the
// servers', line breaks included.
func (s *Snapshot) List(k Kind) json.RawMessage { return s.merged[k].list }

// Problems returns what is wrong with the items, by kind, server and item.
func (s *Snapshot) Problems() []Problem { return s.problems }

// ServerTools returns how many tools of server are exposed.
func (s *Snapshot) ServerTools(server string) int { return s.tools[server] }

func merge(naming Naming, order []string, offers map[string]offer) *Snapshot {
	s := &Snapshot{tools: make(map[string]int)}
	for _, k := range Kinds() {
		s.merge(k, naming, order, offers)
	}
	for _, it := range s.Items(Tools) {
		s.tools[it.Server]++
	}
	slices.SortStableFunc(s.routes, func(a, b route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return s
}

// merge fills in what s has of kind k.
func (s *Snapshot) merge(k Kind, naming Naming, order []string, offers map[string]offer) {
	m := merged{index: make(map[string]int), list: fmt.Appendf(nil, `{"%s":[`, k), hint: mergeHints(k, offers)}
	expose := exposer(k, naming, order, offers)
	for _, server := range order {
		entries := offers[server].entries[k]
		for i := range entries {
			e := &entries[i]
			listed, problem := m.add(server, i, e, expose)
			if problem != "" {
				s.problems = append(s.problems, Problem{server, k, e.name, problem})
			}
			if listed && e.pattern != nil {
				s.routes = append(s.routes, route{e.pattern, server})
			}
		}
	}
	m.list = append(m.list, "]}"...)
	// Only now: the list moved as it grew.
	for i, at := range m.spans {
		m.items[i].Raw = m.list[at.start:at.end:at.end]
	}
	m.spans = nil
	s.merged[k] = m
}

// add appends e, the i-th item of server, unless it is faulty or its name is
// taken. The problem may also be one of an item that is listed.
func (m *merged) add(server string, i int, e *entry, expose exposeFunc) (listed bool, problem string) {
	if e.fault != "" {
		return false, fmt.Sprintf("left out: item %d %s", i, e.fault)
	}
	exposed, cut := expose(server, e.name)
	if at, taken := m.index[exposed]; taken {
		first := m.items[at]
		return false, fmt.Sprintf("hidden: %q is taken by %q of server %q", exposed, first.Name, first.Server)
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
	return true, problem
}
