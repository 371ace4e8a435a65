package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

type kind string

// The kinds of values. Errors contain these names.
const (
	kindNone    kind = "nothing"
	kindText    kind = "a string"
	kindInteger kind = "a number"
	kindFloat   kind = "a number with a fraction"
	kindBool    kind = "a boolean"
	kindList    kind = "a list"
	kindMapping kind = "a mapping"
	kindRefused kind = "" // the text of the node is the reason
)

// A node is a value of the file, with aliases resolved and merge keys merged. Aliases share a node, so it is not
// changed once it is complete.
type node struct {
	position
	kind    kind
	text    string  // the text of a scalar, or the reason why the value is refused
	whole   any     // the value of an integer: int64 or uint64
	items   []*node // the items of a list
	entries []entry // the entries of a mapping
	size    int     // number of nodes in it, itself included; a shared node counts each time
}

type entry struct {
	position
	key   string
	value *node
	wrong string // what is wrong with the key; "" if nothing is
}

// builder makes nodes from the syntax tree of the YAML parser.
type builder struct {
	anchors map[string]*node // an anchor is added when its value is complete, so that no value contains itself
	spent   int              // number of nodes so far, at most maxNodes
	full    *position        // position of the first node above maxNodes; nil: none
}

func (b *builder) node(n ast.Node) *node {
	pos := at(n.GetToken())
	scalar := func(k kind, text string) *node { return &node{position: pos, kind: k, text: text, size: 1} }
	if !b.spend(1, pos) {
		return scalar(kindRefused, "")
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return scalar(kindNone, "")
	case *ast.StringNode:
		return scalar(kindText, n.Value)
	case *ast.LiteralNode:
		return scalar(kindText, n.Value.Value)
	case *ast.BoolNode:
		return scalar(kindBool, n.Token.Value)
	case *ast.IntegerNode:
		s := scalar(kindInteger, n.Token.Value)
		s.whole = n.Value
		return s
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return scalar(kindFloat, "")
	case *ast.AnchorNode:
		v := b.node(n.Value)
		b.anchors[n.Name.GetToken().Value] = v
		return v
	case *ast.AliasNode:
		target, ok := b.anchors[n.Value.GetToken().Value]
		switch {
		case !ok:
			return scalar(kindRefused, "is an alias without an anchor before it; expected &NAME before *NAME, or quotes")
		case !b.spend(target.size, pos):
			return scalar(kindRefused, "")
		}
		return target
	case *ast.SequenceNode:
		return b.list(n, pos)
	case *ast.MappingNode:
		return b.mapping(n.Values, pos)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, pos)
	}
	return scalar(kindRefused, "is not supported; expected a string, number, boolean, list or mapping")
}

// spend counts n nodes and reports whether there are still at most maxNodes. It keeps the aliases of a small file from
// filling the memory.
func (b *builder) spend(n int, pos position) bool {
	if b.full == nil {
		b.spent += n
		if b.spent > maxNodes {
			b.full = &pos
		}
	}
	return b.full == nil
}

func (b *builder) list(n *ast.SequenceNode, pos position) *node {
	l := &node{position: pos, kind: kindList, size: 1}
	for _, v := range n.Values {
		item := b.node(v)
		l.items = append(l.items, item)
		l.size += item.size
	}
	return l
}

func (b *builder) mapping(values []*ast.MappingValueNode, pos position) *node {
	m := &node{position: pos, kind: kindMapping, size: 1}
	seen := map[string]position{}
	var merges []entry
	for i, v := range values {
		e := entry{position: at(v.Key.GetToken()), value: b.node(v.Value)}
		if i == 0 && e.line == pos.line && e.column < pos.column {
			m.position = e.position // for a block mapping, the parser returns the position of its first colon
		}
		m.size += e.value.size
		if v.Key.IsMergeKey() {
			e.key = "<<"
			merges = append(merges, e)
			continue
		}
		var ok bool
		if e.key, ok = key(v.Key); !ok {
			e.wrong = "contains a key that is not a string; expected a string"
		} else if first, ok := seen[e.key]; ok {
			e.wrong = fmt.Sprintf("is given twice, first in line %d; expected it once", first.line)
		} else {
			seen[e.key] = e.position
		}
		m.entries = append(m.entries, e)
	}
	for _, e := range merges {
		m.merge(e, e.value, seen)
	}
	return m
}

// key returns the text of a key that is a scalar.
func key(n ast.MapKeyNode) (key string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// merge adds those entries of from that m does not have yet. from is the value of the merge key at: a mapping or a list
// of mappings.
func (m *node) merge(at entry, from *node, seen map[string]position) {
	switch {
	case from.kind == kindMapping:
		for _, e := range from.entries {
			if _, ok := seen[e.key]; !ok {
				seen[e.key] = e.position
				m.entries = append(m.entries, e)
				m.size += e.value.size
			}
		}
	case from.kind == kindList && from == at.value:
		for _, item := range from.items {
			m.merge(at, item, seen)
		}
	default:
		at.wrong = "merges a value that is not a mapping; expected a mapping or a list of mappings"
		m.entries = append(m.entries, at)
	}
}
