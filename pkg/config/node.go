package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

type kind string

// What a value is, in the words of an error.
const (
	kindNone    kind = "nothing"
	kindText    kind = "a string"
	kindInteger kind = "a number"
	kindFloat   kind = "a fraction"
	kindBool    kind = "a truth value"
	kindList    kind = "a list"
	kindMapping kind = "a mapping"
	kindRefused kind = "" // text says why
)

// A node is a value of the file with its aliases followed and its merge keys
// merged. A node that aliases point to is shared, never changed.
type node struct {
	position
	kind   kind
	text   string  // of a scalar, or why it is refused
	whole  any     // of an integer: int64 or uint64
	items  []*node // of a list
	fields []field // of a mapping
	size   int     // nodes in it, itself included, as if nothing were shared
}

type field struct {
	position
	key   string
	value *node
	wrong string // with the key: it is there twice, or no plain word
}

// builder turns what the YAML parser found into nodes.
type builder struct {
	anchors map[string]*node // set once the value is complete: no alias can point into itself
	spent   int              // of maxNodes
	full    *position        // where it was too much
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
			return scalar(kindRefused, "has no anchor before it; expected *NAME behind &NAME, or a string in quotes")
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
	return scalar(kindRefused, "is not a value that is understood here; expected a plain one")
}

// spend keeps aliases from growing a small file into a huge one.
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
	var merges []field
	for i, v := range values {
		f := field{position: at(v.Key.GetToken()), value: b.node(v.Value)}
		if i == 0 && f.line == pos.line && f.column < pos.column {
			m.position = f.position // a block mapping begins at its first key, not at its colon
		}
		m.size += f.value.size
		if v.Key.IsMergeKey() {
			f.key = "<<"
			merges = append(merges, f)
			continue
		}
		var ok bool
		if f.key, ok = key(v.Key); !ok {
			f.wrong = "a key that is no plain word"
		} else if first, ok := seen[f.key]; ok {
			f.wrong = fmt.Sprintf("is given twice, first in line %d; expected it once", first.line)
		} else {
			seen[f.key] = f.position
		}
		m.fields = append(m.fields, f)
	}
	for _, f := range merges {
		m.merge(f, f.value, seen)
	}
	return m
}

func key(n ast.MapKeyNode) (key string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// merge adds the fields of from, a mapping or a list of mappings, that m does
// not have yet.
func (m *node) merge(at field, from *node, seen map[string]position) {
	switch {
	case from.kind == kindMapping:
		for _, f := range from.fields {
			if _, ok := seen[f.key]; !ok {
				seen[f.key] = f.position
				m.fields = append(m.fields, f)
				m.size += f.value.size
			}
		}
	case from.kind == kindList && from == at.value:
		for _, item := range from.items {
			m.merge(at, item, seen)
		}
	default:
		at.wrong = "merges what is no mapping; expected a mapping or a list of mappings"
		m.fields = append(m.fields, at)
	}
}
