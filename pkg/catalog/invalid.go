package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// invalidity returns what in an item breaks the schema of MCP (specification 2025-11-25, schema), or an empty string. The
// clients of the TypeScript SDK, and those with the types of the Python SDK, refuse a whole list because of such an item.
// Raw is a JSON object. Only what those clients check is checked here: a schema that they pass on may still be a bad JSON
// Schema.
func invalidity(k Kind, raw json.RawMessage) string {
	var item map[string]json.RawMessage
	if json.Unmarshal(raw, &item) != nil {
		return "" // the catalog leaves it out
	}
	for _, member := range []struct {
		name  string
		first byte
		want  string
	}{{"title", '"', "a string"}, {"description", '"', "a string"}, {"annotations", '{', "an object"}, {"_meta", '{', "an object"}} {
		if value := item[member.name]; value != nil && value[0] != member.first {
			return fmt.Sprintf("its %s is not %s", member.name, member.want)
		}
	}
	switch k {
	case Tools:
		return toolFault(item)
	case Prompts:
		return argumentsFault(item["arguments"])
	}
	for _, name := range []string{"name", "mimeType"} {
		if value := item[name]; value != nil && value[0] != '"' {
			return fmt.Sprintf("its %s is not a string", name)
		}
	}
	if item["name"] == nil {
		return "it has no name"
	}
	return ""
}

// toolFault returns what is wrong with the schemas of a tool, or an empty string.
func toolFault(tool map[string]json.RawMessage) string {
	if tool["inputSchema"] == nil {
		return "it has no inputSchema"
	}
	for _, name := range []string{"inputSchema", "outputSchema"} {
		if schema := tool[name]; schema != nil {
			if fault := schemaFault(schema); fault != "" {
				return "its " + name + " " + fault
			}
		}
	}
	return ""
}

// argumentsFault returns what is wrong with the arguments of a prompt, or an empty string.
func argumentsFault(raw json.RawMessage) string {
	var arguments []map[string]json.RawMessage
	if raw == nil {
		return ""
	}
	if raw[0] != '[' || json.Unmarshal(raw, &arguments) != nil {
		return "its arguments are not a list of objects"
	}
	for _, argument := range arguments {
		if name := argument["name"]; name == nil || name[0] != '"' {
			return "one of its arguments has no name"
		}
	}
	return ""
}

// schemaFault returns what is wrong with the schema of the arguments or the result of a tool, or an empty string.
func schemaFault(schema json.RawMessage) string {
	if schema[0] != '{' {
		return "is not an object"
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(schema, &members) != nil {
		return "is not an object"
	}
	if string(members["type"]) != `"object"` {
		return `has not the type "object"`
	}
	if properties := members["properties"]; properties != nil {
		var all map[string]json.RawMessage
		if properties[0] != '{' || json.Unmarshal(properties, &all) != nil {
			return "has properties that are not an object"
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if all[name][0] != '{' {
				return fmt.Sprintf("has the property %.64q that is not an object", name)
			}
		}
	}
	if required := members["required"]; required != nil {
		var names []*string
		if json.Unmarshal(required, &names) != nil || required[0] != '[' {
			return "has required that is not a list of strings"
		}
		for _, name := range names {
			if name == nil {
				return "has required that is not a list of strings"
			}
		}
	}
	return ""
}
