package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// annotation is the keyword by which a schema asks for a header.
const annotation = "x-mcp-header"

// Limits of the inputSchema of a tool that asks for headers.
const (
	maxSchemaDepth  = 100 // levels of nesting; pkg/catalog has the same
	maxParamHeaders = 100
)

// A ParamHeader says that an argument of a tool is mirrored in a header.
type ParamHeader struct {
	Name string   // of the header, without Mcp-Param-, spelled as annotated
	Path []string // names of the properties that lead to the argument; at least one
	Type string   // string, integer or boolean: what the schema asks for
}

// ParamHeaders returns what the x-mcp-header annotations of a tool's
// inputSchema ask for. A tool for which it returns an error must not be offered
// to anyone over HTTP (basic/transports/streamable-http, Schema Extension):
// an annotation may stand only on properties of the type string, integer or
// boolean, reached from the root through "properties" alone; it is a token of
// RFC 9110, and no two differ only in case. What const, enum, default and
// examples hold is data and is not looked at; in every other keyword, known or
// not, the annotation counts and is in the wrong place.
func ParamHeaders(inputSchema json.RawMessage) ([]ParamHeader, error) {
	// Few schemas have any. A name can also be spelled with escapes.
	if !bytes.Contains(inputSchema, []byte(annotation)) && !bytes.Contains(inputSchema, []byte(`\u00`)) {
		return nil, nil
	}
	r := schemaReader{
		dec: jsontext.NewDecoder(bytes.NewBuffer(inputSchema), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
	}
	if err := r.schema(place{reachable: true}); err != nil {
		return nil, fmt.Errorf("inputSchema: %w", err)
	}
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("inputSchema: it is followed by more data")
	}
	if len(r.found) > 0 && r.repeated != "" {
		return nil, fmt.Errorf("inputSchema: %q occurs twice in one object, so readers may disagree about its %s", r.repeated, annotation)
	}
	return r.found, nil
}

// A schemaReader goes through a schema once and collects annotations.
type schemaReader struct {
	dec      *jsontext.Decoder
	found    []ParamHeader
	repeated string // a name on the way to a property that occurs twice
}

// A place is where in a schema the reader stands. The zero place is one where
// no annotation may be.
type place struct {
	path      []string // of the property; empty at the root
	reachable bool     // through properties alone
}

// property returns the place of a property of the schema at p.
func (p place) property(name string) place {
	if !p.reachable {
		return place{}
	}
	return place{path: append(slices.Clip(p.path), name), reachable: true}
}

// schema reads one schema, or the array of schemas of a keyword like allOf.
func (r *schemaReader) schema(at place) error {
	if r.dec.StackDepth() > maxSchemaDepth {
		return fmt.Errorf("it is nested deeper than %d levels", maxSchemaDepth)
	}
	switch r.dec.PeekKind() {
	case '{':
		return r.object(at)
	case '[':
		return r.array()
	default:
		return r.dec.SkipValue()
	}
}

func (r *schemaReader) array() error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != ']' {
		if err := r.schema(place{}); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

func (r *schemaReader) object(at place) error {
	var header, typ []string // the values of the two keywords as JSON; more than one is a fault
	properties := 0
	err := r.members(func(keyword string) error {
		switch keyword {
		case annotation:
			return r.keep(&header)
		case "type":
			return r.keep(&typ)
		case "properties":
			if properties++; properties > 1 && at.reachable {
				r.repeated = keyword
			}
			return r.named(at)
		case "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired", "dependencies":
			return r.named(place{})
		case "const", "enum", "default", "examples":
			return r.dec.SkipValue()
		default:
			return r.schema(place{})
		}
	})
	if err != nil || header == nil {
		return err
	}
	if err := r.add(at, header, typ); err != nil {
		return fmt.Errorf("%s at %q: %w", annotation, strings.Join(at.path, "."), err)
	}
	return nil
}

// members calls each for each member of an object; each reads the value.
func (r *schemaReader) members(each func(name string) error) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != '}' {
		name, err := r.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := each(name.String()); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// named reads an object that has a schema under each name. The names are not
// keywords.
func (r *schemaReader) named(at place) error {
	if r.dec.PeekKind() != '{' {
		return r.schema(place{})
	}
	seen := make(map[string]bool)
	return r.members(func(name string) error {
		if seen[name] && at.reachable {
			r.repeated = name
		}
		seen[name] = true
		return r.schema(at.property(name))
	})
}

// keep appends the next value to values.
func (r *schemaReader) keep(values *[]string) error {
	value, err := r.dec.ReadValue()
	*values = append(*values, string(value))
	return err
}

// add takes up the annotation of the schema at a place, or says what is wrong
// with it.
func (r *schemaReader) add(at place, header, typ []string) error {
	if !at.reachable || len(at.path) == 0 {
		return errors.New(`it may stand only on a property that is reached through "properties" alone`)
	}
	if len(header) > 1 || len(typ) > 1 {
		return errors.New("it or the type occurs twice")
	}
	h := ParamHeader{Path: at.path, Name: unquoted(header[0])}
	if typ != nil {
		h.Type = unquoted(typ[0])
	}
	switch {
	case h.Type != "string" && h.Type != "integer" && h.Type != "boolean":
		return errors.New("the type must be string, integer or boolean")
	case !isToken(h.Name):
		return errors.New("it must be a string that can be a part of the name of a header")
	case slices.ContainsFunc(r.found, func(o ParamHeader) bool { return strings.EqualFold(o.Name, h.Name) }):
		return errors.New("another property has the same, apart from case")
	case len(r.found) == maxParamHeaders:
		return fmt.Errorf("there are more than %d", maxParamHeaders)
	}
	r.found = append(r.found, h)
	return nil
}

// unquoted returns the value of a JSON string, and "" for anything else.
func unquoted(value string) string {
	if value == "" || value[0] != '"' {
		return ""
	}
	s, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return ""
	}
	return string(s)
}

// isToken reports whether s is a token as RFC 9110 section 5.6.2 defines it.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
