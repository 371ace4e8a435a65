package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Reflection finds the fields, so that a field without a row is noticed.
func TestEveryFieldOfAConfigHasARow(t *testing.T) {
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	fields := append(fieldPaths("", reflect.TypeFor[Config]()), fieldPaths(serverPrefix, reflect.TypeFor[Server]())...)
	slices.Sort(names)
	slices.Sort(fields)
	if !slices.Equal(names, fields) {
		t.Errorf("the keys are\n%v\nthe fields are\n%v", names, fields)
	}
}

// fieldPaths returns the key paths that the fields of a struct stand for.
func fieldPaths(at string, structure reflect.Type) []string {
	var paths []string
	for f := range structure.Fields() {
		path := at + strings.ToLower(f.Name[:1]) + f.Name[1:]
		switch {
		case f.Name == "URL":
			paths = append(paths, at+"url")
		case structure == reflect.TypeFor[Server]() && f.Name == "Name": // it is the key in mcpServers
		case structure == reflect.TypeFor[Config]() && f.Name == "Servers":
			paths = append(paths, "mcpServers")
		case f.Type.Kind() == reflect.Struct:
			paths = append(paths, fieldPaths(path+".", f.Type)...)
		default:
			paths = append(paths, path)
		}
	}
	return paths
}

func TestEveryKeyIsCompletelyDescribed(t *testing.T) {
	for _, k := range Keys() {
		if k.Type == "" || !strings.HasSuffix(k.Help, ".") || strings.ContainsAny(k.Help, "|\n") {
			t.Errorf("%s has no type, or its help is no sentence for a cell of a table: %q", k.Name, k.Help)
		}
		if k.Flag != "" && (k.Variable == "" || k.Usage == "") {
			t.Errorf("%s has a flag but no variable or no usage", k.Name)
		}
	}
}

// The default of a key and the value that the file sets to the same text are equal.
func TestEveryDefaultMayBeWrittenInTheFile(t *testing.T) {
	for _, k := range Keys() {
		if k.Default == "" {
			continue
		}
		if name, ok := strings.CutPrefix(k.Name, serverPrefix); ok {
			if k.OnlyWith != "" {
				continue
			}
			written := mustParse(t, "mcpServers: {a: {command: x, "+name+": "+k.Default+"}}")
			if without := mustParse(t, "mcpServers: {a: {command: x}}"); !reflect.DeepEqual(written, without) {
				t.Errorf("%s: %s is not the default", k.Name, k.Default)
			}
			continue
		}
		text := strings.ReplaceAll(k.Name, ".", ": {") + ": " + k.Default + strings.Repeat("}", strings.Count(k.Name, "."))
		got := mustParse(t, text)
		for _, list := range []*[]string{&got.AllowedHosts, &got.AllowedOrigins, &got.Admin.AllowedOrigins, &got.Tracing.Baggage} {
			if len(*list) == 0 {
				*list = nil // the file may write an empty list
			}
		}
		if len(got.Log.Levels) == 0 {
			got.Log.Levels = nil
		}
		if !reflect.DeepEqual(got, Default()) {
			t.Errorf("%s is not the default", text)
		}
	}
}

func TestNoTwoKeysHaveTheSameNameVariableOrFlag(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Keys() {
		for _, name := range []string{k.Name, k.Variable, k.Flag} {
			if other := seen[name]; other != "" {
				t.Errorf("%s and %s both have %s", k.Name, other, name)
			}
			if name != "" {
				seen[name] = k.Name
			}
		}
	}
}
