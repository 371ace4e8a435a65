package protocol

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"pgregory.net/rapid"
)

func TestAnnotationsAreFoundInAllowedPositions(t *testing.T) {
	for _, tt := range []struct {
		schema string
		want   []ParamHeader
	}{
		{``, nil},
		{`{"type":"object"}`, nil},
		{`{"properties":{"a":{"type":"string","x-mcp-header":"Region"}}}`, []ParamHeader{{"Region", []string{"a"}}}},
		{`{"properties":{"a":{"x-mcp-header":"A","type":"integer"},"b":{"type":"boolean","x-mcp-header":"!b|"}}}`,
			[]ParamHeader{{"A", []string{"a"}}, {"!b|", []string{"b"}}}},
		{`{"properties":{"o":{"type":"object","properties":{"p":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}},` +
			`"b":{"type":"string","x-mcp-header":"B"}}}}}`,
			[]ParamHeader{{"A", []string{"o", "p", "a"}}, {"B", []string{"o", "b"}}}},
		{`{"properties":{"a":{"type":"string","x-mcp-\u0068eader":"\u0041"}}}`, []ParamHeader{{"A", []string{"a"}}}},
		// The keyword in data, and properties with the name of a keyword.
		{`{"properties":{"a":{"type":"object","default":{"x-mcp-header":"A"}},"b":{"enum":[{"x-mcp-header":"A"}],` +
			`"const":{"x-mcp-header":1},"examples":[{"x-mcp-header":1}]}}}`, nil},
		{`{"properties":{"x-mcp-header":{"type":"string"}},"required":["x-mcp-header"],"description":"x-mcp-header"}`, nil},
		{`{"$defs":{"x-mcp-header":{"type":"string"}},"patternProperties":{"x-mcp-header":{}},"dependentRequired":{"x-mcp-header":["a"]}}`, nil},
		{`{"properties":{"default":{"type":"string","x-mcp-header":"A"}}}`, []ParamHeader{{"A", []string{"default"}}}},
		{`{"a":1,"a":2,"description":"x-mcp-header"}`, nil},
		{`{"properties":{"a":true,"b":false,"c":{"type":["string","null"]},"d":{"type":"string","$ref":"#/$defs/s","x-mcp-header":"D"}},` +
			`"$defs":{"s":{"type":"string"}}}`,
			[]ParamHeader{{"D", []string{"d"}}}},
	} {
		got, err := ParamHeaders(json.RawMessage(tt.schema))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, %v, want %v", tt.schema, got, err, tt.want)
		}
	}
}

func TestSchemaWithInvalidAnnotationIsAnError(t *testing.T) {
	const good = `{"type":"string","x-mcp-header":"A"}`
	property := func(schema string) string { return `{"type":"object","properties":{"v":` + schema + `}}` }
	schemas := []string{
		good, // of the root
		property(`{"x-mcp-header":"A"}`),
		property(`{"type":["string","null"],"x-mcp-header":"A"}`),
		property(`{"type":"string","x-mcp-header":null}`),
		property(`{"type":"string","x-mcp-header":["A"]}`),
		property(`{"type":"string","x-mcp-header":"A","x-mcp-header":"B"}`),
		property(`{"type":"string","type":"integer","x-mcp-header":"A"}`),
		`{"properties":{"a":` + good + `,"a":{"type":"integer"}}}`,
		`{"properties":{"a":` + good + `},"properties":{}}`,
		`{"properties":{"a":` + good + `,"b":{"properties":{"c":{"type":"string","x-mcp-header":"a"}}}}}`,
		property(good) + `{}`,
		`{"properties":{"a":` + good,
		strings.Repeat(`{"properties":{"a":`, 200) + good + strings.Repeat(`}}`, 200),
		strings.Repeat(`[`, 200_000) + `"x-mcp-header"`,
	}
	for _, typ := range []string{"number", "object", "array", "null", "String", ""} {
		schemas = append(schemas, property(fmt.Sprintf(`{"type":%q,"x-mcp-header":"A"}`, typ)))
	}
	for _, name := range []string{"", " ", "My Region", "Region:Primary", "Région", "Region\t1", "a\r\nb", "a\x00", "(a)", `a"b`} {
		quoted, _ := json.Marshal(name)
		schemas = append(schemas, property(fmt.Sprintf(`{"type":"string","x-mcp-header":%s}`, quoted)))
	}
	for _, keyword := range []string{"items", "contains", "additionalProperties", "unevaluatedProperties", "propertyNames", "not",
		"if", "then", "else", "contentSchema", "additionalItems", "x-unknown"} {
		schemas = append(schemas, fmt.Sprintf(`{%q:%s}`, keyword, good), fmt.Sprintf(`{%q:%s}`, keyword, property(good)),
			property(fmt.Sprintf(`{%q:%s}`, keyword, good)))
	}
	for _, keyword := range []string{"oneOf", "anyOf", "allOf", "prefixItems", "items"} {
		schemas = append(schemas, fmt.Sprintf(`{%q:[{},%s]}`, keyword, good), fmt.Sprintf(`{%q:[%s]}`, keyword, property(good)))
	}
	for _, keyword := range []string{"$defs", "definitions", "patternProperties", "dependentSchemas"} {
		schemas = append(schemas, fmt.Sprintf(`{%q:{"a":%s}}`, keyword, good), fmt.Sprintf(`{%q:{"a":%s}}`, keyword, property(good)))
	}
	var many []string
	for i := range maxParamHeaders + 1 {
		many = append(many, fmt.Sprintf(`"p%d":{"type":"string","x-mcp-header":"H%d"}`, i, i))
	}
	schemas = append(schemas, `{"properties":{`+strings.Join(many, ",")+`}}`)
	for _, schema := range schemas {
		if got, err := ParamHeaders(json.RawMessage(schema)); err == nil || got != nil {
			t.Errorf("%.200s: %v, %v", schema, got, err)
		}
	}
}

// drawSchema draws an object schema and arguments that are valid for it. next numbers the header names, so that they
// are unique in nested schemas too.
func drawSchema(t *rapid.T, depth int, next *int) (schema, arguments map[string]any) {
	properties, arguments := map[string]any{}, map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "properties") {
		name := rapid.SampledFrom([]string{"a", "b", "x-mcp-header", "properties", "const", "é"}).Draw(t, "name")
		if _, taken := properties[name]; taken {
			continue
		}
		kind := rapid.SampledFrom([]string{"string", "integer", "boolean", "object", "number"}).Draw(t, "type")
		property := map[string]any{"type": kind, "default": map[string]any{"x-mcp-header": 1}}
		var value any
		switch kind {
		case "string":
			value = rapid.String().Draw(t, "string")
		case "integer":
			value = rapid.Int64Range(-maxSafeInteger, maxSafeInteger).Draw(t, "integer")
		case "boolean":
			value = rapid.Bool().Draw(t, "boolean")
		case "number":
			value = 0.5
		case "object":
			if depth == 0 {
				continue
			}
			var inner map[string]any
			property, inner = drawSchema(t, depth-1, next)
			value = inner
		}
		if kind != "object" && kind != "number" && rapid.Bool().Draw(t, "annotated") {
			property["x-mcp-header"] = fmt.Sprintf("H%d", *next)
			*next++
		}
		properties[name] = property
		if present := rapid.SampledFrom([]string{"yes", "no", "null"}).Draw(t, "present"); present == "null" {
			arguments[name] = nil
		} else if present == "yes" {
			arguments[name] = value
		}
	}
	return map[string]any{"type": "object", "properties": properties}, arguments
}

func TestCheckParamsAcceptsExactlyTheHeadersOfParamValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := 0
		schema, arguments := drawSchema(t, 3, &count)
		rawSchema, _ := json.Marshal(schema)
		rawArguments, _ := json.Marshal(arguments)
		headers, err := ParamHeaders(rawSchema)
		if err != nil || len(headers) != count {
			t.Fatalf("%s: %v, %v, want %d", rawSchema, headers, err, count)
		}
		values, err := ParamValues(headers, rawArguments)
		if err != nil {
			t.Fatal(err)
		}

		tool := &mcp.Tool{Name: "t", RawInputSchema: rawSchema}
		params := fmt.Appendf(nil, `{"name":"t","arguments":%s}`, rawArguments)
		if want := mcp.GenerateParamHeaders(tool, params); !maps.Equal(want, values) {
			t.Fatalf("%s, %s: mcp-go returns %q, this package %q", rawSchema, rawArguments, want, values)
		}
		h := http.Header{}
		for name, value := range values {
			h.Set(name, value)
		}
		if err := CheckParams(h, headers, rawArguments); err != nil {
			t.Fatalf("%s, %s: %v", rawSchema, rawArguments, err)
		}
		for _, header := range headers {
			name := HeaderParamPrefix + header.Name
			value, has := values[name]
			if has {
				h.Del(name)
			} else {
				h.Set(name, "x")
			}
			if err := CheckParams(h, headers, rawArguments); err == nil || !strings.Contains(err.Error(), name) {
				t.Fatalf("%s, %s with %s missing or superfluous: %v", rawSchema, rawArguments, name, err)
			}
			h.Del(name)
			if has {
				h.Set(name, value)
			}
		}
	})
}

func FuzzParamHeaders(f *testing.F) {
	for _, seed := range []string{
		`{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"},` +
			`"o":{"type":"object","properties":{"b":{"type":"integer","x-mcp-header":"B"}}}}}`,
		`{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}`, `{"allOf":[{"x-mcp-header":""}]}`,
		`{"properties":{"a":{"x-mcp-header":"A","type":"number","default":{"x-mcp-header":1}}}}`,
		`{"$defs":{"x-mcp-header":true}}`, `{"properties":{"a":{"type":"string","x-mcp-\u0068eader":"A"}}}`,
		`[["x-mcp-header`, `"x-mcp-header"`, `null`,
	} {
		f.Add([]byte(seed), []byte(`{"a":"x","o":{"b":1}}`))
	}
	f.Fuzz(func(t *testing.T, schema, arguments []byte) {
		headers, err := ParamHeaders(schema)
		if err != nil {
			if headers != nil {
				t.Fatalf("%s: %v and %v", schema, headers, err)
			}
			return
		}
		seen := map[string]bool{}
		for _, h := range headers {
			lower := strings.ToLower(h.Name)
			if seen[lower] || !isToken(h.Name) || len(h.path) == 0 {
				t.Fatalf("%s: %v", schema, headers)
			}
			seen[lower] = true
		}
		values, err := ParamValues(headers, arguments)
		if err != nil {
			return
		}
		h := http.Header{}
		for name, value := range values {
			h.Set(name, value)
		}
		if err := CheckParams(h, headers, arguments); err != nil {
			t.Fatalf("%s, %s: %v", schema, arguments, err)
		}
	})
}

func BenchmarkParamHeaders(b *testing.B) {
	plain := json.RawMessage(`{"type":"object","properties":{"a":{"type":"string","description":"` + strings.Repeat("words ", 200) + `"}}}`)
	marked := json.RawMessage(strings.Replace(string(plain), `{"type":"string"`, `{"type":"string","x-mcp-header":"A"`, 1))
	for name, schema := range map[string]json.RawMessage{"plain": plain, "annotated": marked} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParamHeaders(schema); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
