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

// headerKeyword is the schema keyword that names the header of a property.
const headerKeyword = "x-mcp-header"

// Limits of an inputSchema with header annotations.
const (
	maxSchemaDepth  = 100 // levels of nesting; pkg/catalog has the same limit
	maxParamHeaders = 100
)

// A ParamHeader is an Mcp-Param header, which mirrors an argument of a tool.
type ParamHeader struct {
	Name string   // without HeaderParamPrefix, in the spelling of the schema
	path []string // names of the properties that lead to the argument; at least one
}

// ParamHeaders returns the headers that the x-mcp-header annotations of a tool's inputSchema define (specification
// 2026-07-28, basic/transports/streamable-http, Schema Extension). A tool for which it returns an error must not be
// offered over HTTP. An annotation is valid if
//   - it is on a property of type string, integer or boolean,
//   - the path from the root to that property consists of "properties" keywords only,
//   - it is a token of RFC 9110, and no other annotation is equal apart from case.
//
// The values of const, enum, default and examples are data: annotations in them are ignored. An annotation in any
// other keyword, known or unknown, is an error.
func ParamHeaders(inputSchema json.RawMessage) ([]ParamHeader, error) {
	// Most schemas have no annotation and need no parsing. An escape can hide the keyword from bytes.Contains.
	if !bytes.Contains(inputSchema, []byte(headerKeyword)) && !bytes.Contains(inputSchema, []byte(`\u00`)) {
		return nil, nil
	}
	r := schemaReader{
		dec: jsontext.NewDecoder(bytes.NewBuffer(inputSchema), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
	}
	if err := r.readSchema(position{reachable: true}); err != nil {
		return nil, fmt.Errorf("inputSchema: %w", err)
	}
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("inputSchema: more data follows the schema")
	}
	if len(r.headers) > 0 && r.duplicate != "" {
		return nil, fmt.Errorf("inputSchema: the name %q occurs more than once in an object, which makes its %s ambiguous",
			r.duplicate, headerKeyword)
	}
	return r.headers, nil
}

// A schemaReader reads a schema once and collects the headers of its annotations.
type schemaReader struct {
	dec       *jsontext.Decoder
	headers   []ParamHeader
	duplicate string // a duplicate name on the path to a reachable property; "" if there is none
}

// A position is the position of a subschema in a schema. At the zero position no annotation is allowed.
type position struct {
	path      []string // of the property; empty at the root
	reachable bool     // the path consists of "properties" keywords only
}

// property returns the position of a property of the schema at p.
func (p position) property(name string) position {
	if !p.reachable {
		return position{}
	}
	return position{path: append(slices.Clip(p.path), name), reachable: true}
}

// readSchema reads one schema, or the array of schemas of a keyword like allOf.
func (r *schemaReader) readSchema(at position) error {
	if r.dec.StackDepth() > maxSchemaDepth {
		return fmt.Errorf("nested deeper than %d levels", maxSchemaDepth)
	}
	switch r.dec.PeekKind() {
	case '{':
		return r.readObject(at)
	case '[':
		return r.readArray()
	default:
		return r.dec.SkipValue()
	}
}

// readArray reads an array of schemas, none of which may have an annotation.
func (r *schemaReader) readArray() error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != ']' {
		if err := r.readSchema(position{}); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// readObject reads the schema object at a position and adds the header of its annotation.
func (r *schemaReader) readObject(at position) error {
	var header, typ []string // the values of the two keywords as JSON; more than one is an error
	properties := 0
	err := r.readMembers(func(keyword string) error {
		switch keyword {
		case headerKeyword:
			return r.appendValue(&header)
		case "type":
			return r.appendValue(&typ)
		case "properties":
			if properties++; properties > 1 && at.reachable {
				r.duplicate = keyword
			}
			return r.readSchemaMap(at)
		case "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired", "dependencies":
			return r.readSchemaMap(position{})
		case "const", "enum", "default", "examples":
			return r.dec.SkipValue()
		default:
			return r.readSchema(position{})
		}
	})
	if err != nil || header == nil {
		return err
	}
	if err := r.addHeader(at, header, typ); err != nil {
		return fmt.Errorf("%s at %q: %w", headerKeyword, strings.Join(at.path, "."), err)
	}
	return nil
}

// readMembers calls readValue for each member of an object. readValue reads the value of the member.
func (r *schemaReader) readMembers(readValue func(name string) error) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != '}' {
		name, err := r.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := readValue(name.String()); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// readSchemaMap reads an object whose values are schemas and whose names are not keywords.
func (r *schemaReader) readSchemaMap(at position) error {
	if r.dec.PeekKind() != '{' {
		return r.readSchema(position{})
	}
	seen := make(map[string]bool)
	return r.readMembers(func(name string) error {
		if seen[name] && at.reachable {
			r.duplicate = name
		}
		seen[name] = true
		return r.readSchema(at.property(name))
	})
}

// appendValue reads the next value and appends its JSON to values.
func (r *schemaReader) appendValue(values *[]string) error {
	value, err := r.dec.ReadValue()
	*values = append(*values, string(value))
	return err
}

// addHeader adds the header of the annotation at a position. An error says why the annotation is invalid.
func (r *schemaReader) addHeader(at position, header, typ []string) error {
	if !at.reachable || len(at.path) == 0 {
		return errors.New(`only a property that is reached through "properties" alone can have this keyword`)
	}
	if len(header) > 1 || len(typ) > 1 {
		return errors.New("this keyword or the type occurs more than once")
	}
	if typ == nil || !slices.Contains([]string{"string", "integer", "boolean"}, unquote(typ[0])) {
		return errors.New("the type must be string, integer or boolean")
	}
	h := ParamHeader{Name: unquote(header[0]), path: at.path}
	switch {
	case !isToken(h.Name):
		return errors.New("the value must be a string that is valid in a header name")
	case slices.ContainsFunc(r.headers, func(o ParamHeader) bool { return strings.EqualFold(o.Name, h.Name) }):
		return errors.New("another property has the same value, apart from case")
	case len(r.headers) == maxParamHeaders:
		return fmt.Errorf("more than %d properties have this keyword", maxParamHeaders)
	}
	r.headers = append(r.headers, h)
	return nil
}

// unquote returns the value of a JSON string, and "" for anything else.
func unquote(value string) string {
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
