package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// decoder reads nodes into a Config. It records the position of every key and value, so that a finding of the
// validation can name its line.
type decoder struct {
	*problems
	lookup func(variable string) (string, bool)
	keys   map[string]position // by key path
	values map[string]position
}

// A reader reads one value; at is its key path.
type reader func(d *decoder, n *node, at string)

// A schema holds the keys of one mapping.
type schema map[string]schemaKey

type schemaKey struct {
	read       reader
	otherNames []string
}

// schemaOf returns the schema of the mapping that is decoded into s. A row named a.b is the key b of the mapping a.
func schemaOf[S any](rows []row[S], s *S) schema {
	top := schema{}
	sections := map[string]schema{}
	for _, r := range rows {
		mapping, key := top, r.Name
		if section, rest, nested := strings.Cut(r.Name, "."); nested {
			if sections[section] == nil {
				sections[section] = schema{}
				top[section] = schemaKey{read: sections[section].read}
			}
			mapping, key = sections[section], rest
		}
		mapping[key] = schemaKey{r.read(s), r.OtherNames}
	}
	return top
}

// read reads a mapping whose keys are those of s.
func (s schema) read(d *decoder, n *node, at string) {
	d.each(n, at, func(e entry, path string) {
		if key, ok := s[e.key]; ok {
			key.read(d, e.value, path)
			return
		}
		d.add(e.position, visible(at, e.key), "unknown key; "+s.suggestion(e.key))
	})
}

// suggestion returns the key that an unknown key probably stands for, or else all keys.
func (s schema) suggestion(unknown string) string {
	known := slices.Sorted(maps.Keys(s))
	for _, name := range known {
		if slices.Contains(s[name].otherNames, fold(unknown)) {
			return didYouMean(name)
		}
	}
	return suggestion(unknown, known)
}

// each calls f for every entry of a mapping. A key without a value, for example because everything under it is
// commented out, is an empty mapping.
func (d *decoder) each(n *node, at string, f func(e entry, at string)) {
	if n.kind == kindNone {
		return
	}
	if n.kind != kindMapping {
		d.wrong(n, at, aMapping)
		return
	}
	for _, e := range n.entries {
		if e.wrong != "" {
			d.add(e.position, visible(at, e.key), e.wrong)
			continue
		}
		path := join(at, e.key)
		d.keys[path] = e.position
		d.values[path] = e.value.position
		f(e, path)
	}
}

// wrong reports that n is not the expected kind of value.
func (d *decoder) wrong(n *node, at, expected string) {
	switch n.kind {
	case kindRefused:
		d.add(n.position, at, n.text)
	case kindNone:
		d.add(n.position, at, "has no value; expected "+expected)
	default:
		d.add(n.position, at, "is "+string(n.kind)+"; expected "+expected)
	}
}

// text returns the string in n with its variables expanded.
func (d *decoder) text(n *node, at, expected string) (string, bool) {
	if n.kind != kindText {
		d.wrong(n, at, expected)
		return "", false
	}
	s, err := expand(n.text, d.lookup)
	if err != nil {
		d.add(n.position, at, err.Error())
		return "", false
	}
	return s, true
}

// number returns the text of an integer, or of a string such as 4MiB.
func (d *decoder) number(n *node, at, expected string) (string, bool) {
	switch whole := n.whole.(type) {
	case int64:
		return strconv.FormatInt(whole, 10), true
	case uint64:
		return strconv.FormatUint(whole, 10), true
	}
	return d.text(n, at, expected)
}

// count returns the text of an integer. A string is an integer only if it contains a variable.
func (d *decoder) count(n *node, at, expected string) (string, bool) {
	if n.kind == kindText && !hasVariable(n.text) {
		d.wrong(n, at, expected)
		return "", false
	}
	return d.number(n, at, expected)
}

// bool returns the text of a boolean. A string is a boolean only if it contains a variable.
func (d *decoder) bool(n *node, at, expected string) (string, bool) {
	switch {
	case n.kind == kindBool:
		return n.text, true
	case n.kind == kindText && hasVariable(n.text):
		return d.text(n, at, expected)
	}
	d.wrong(n, at, expected)
	return "", false
}

func (d *decoder) strings(n *node, at string) (list []string, ok bool) {
	switch n.kind {
	case kindNone:
		return nil, false
	case kindList:
	default:
		d.wrong(n, at, aList)
		return nil, false
	}
	list = []string{}
	for i, item := range n.items {
		at := index(at, i)
		d.values[at] = item.position
		if s, ok := d.text(item, at, aString); ok {
			list = append(list, s)
		}
	}
	return list, true
}

func (d *decoder) secrets(n *node, at string) (values map[string]Secret, ok bool) {
	values = map[string]Secret{}
	d.each(n, at, func(e entry, at string) {
		if s, ok := d.text(e.value, at, aString); ok {
			values[e.key] = Secret(s)
		}
	})
	return values, true
}

// servers reads mcpServers.
func (d *decoder) servers(n *node, at string) (servers []Server, ok bool) {
	d.each(n, at, func(e entry, at string) {
		s := Server{Name: e.key}
		schemaOf(serverKeys, &s).read(d, e.value, at)
		servers = append(servers, s)
	})
	return servers, servers != nil
}
