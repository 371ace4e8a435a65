package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const (
	document = "../../docs/configuration.md"
	example  = "../../examples/mcphub.yaml"
)

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func completeExample(t *testing.T) string {
	t.Helper()
	_, rest, ok := strings.Cut(readText(t, document), "## Complete example\n")
	_, rest, ok2 := strings.Cut(rest, "```yaml\n")
	text, _, ok3 := strings.Cut(rest, "```\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("no complete example in the document")
	}
	return text
}

func TestCompleteExampleOfTheDocumentIsAcceptedAndComplete(t *testing.T) {
	c, err := Parse(document, []byte(completeExample(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range leaves("", reflect.TypeFor[Config]()) {
		if !regexp.MustCompile(`(?m)^ *` + path[strings.LastIndex(path, ".")+1:] + `:`).MatchString(completeExample(t)) {
			t.Errorf("%s is not in the complete example", path)
		}
	}
	if len(c.Servers) != 3 || c.Servers[0].Command != "mcphub" {
		t.Errorf("%+v", c.Servers)
	}
}

// leaves are the key paths that the fields of a struct stand for.
func leaves(at string, t reflect.Type) []string {
	var paths []string
	for f := range t.Fields() {
		path := at + strings.ToLower(f.Name[:1]) + f.Name[1:]
		switch {
		case f.Name == "URL":
			paths = append(paths, at+"url")
		case t == reflect.TypeFor[Server]() && f.Name == "Name":
		case t == reflect.TypeFor[Config]() && f.Name == "Servers":
			paths = append(paths, "mcpServers")
			paths = append(paths, leaves("mcpServers.<name>.", f.Type.Elem())...)
		case f.Type.Kind() == reflect.Struct:
			paths = append(paths, leaves(path+".", f.Type)...)
		default:
			paths = append(paths, path)
		}
	}
	return paths
}

func TestEveryKeyHasARowInTheDocument(t *testing.T) {
	text := readText(t, document)
	for _, path := range leaves("", reflect.TypeFor[Config]()) {
		row := "\n| `" + strings.TrimPrefix(path, "mcpServers.<name>.") + "` | "
		if !strings.Contains(text, row) {
			t.Errorf("%s has no row", path)
		}
	}
}

func TestDefaultsOfTheDocumentAreTheDefaults(t *testing.T) {
	_, hub, _ := strings.Cut(readText(t, document), "## The hub\n")
	hub, _, _ = strings.Cut(hub, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([a-zA-Z.]+)` \\| [^|]+ \\| `([^`]+)` \\|").FindAllStringSubmatch(hub, -1)
	if len(rows) < 15 {
		t.Fatalf("%d rows with a default", len(rows))
	}
	for _, row := range rows {
		text := strings.ReplaceAll(row[1], ".", ": {") + ": " + row[2] + strings.Repeat("}", strings.Count(row[1], "."))
		got := mustParse(t, text)
		if len(got.AllowedHosts) == 0 {
			got.AllowedHosts = nil
		}
		if len(got.AllowedOrigins) == 0 {
			got.AllowedOrigins = nil
		}
		if len(got.Tracing.Baggage) == 0 {
			got.Tracing.Baggage = nil
		}
		if !reflect.DeepEqual(got, Default()) {
			t.Errorf("%s is not the default", text)
		}
	}
	s := mustParse(t, "mcpServers: {a: {command: x, connectTimeout: 30s, callTimeout: 15m, disabled: false}, b: {command: x}}").Servers
	if s[0].Name = "b"; !reflect.DeepEqual(s[0], s[1]) {
		t.Errorf("%+v", s)
	}
}

func TestDocumentNamesEveryFlagAndVariable(t *testing.T) {
	text := readText(t, document)
	for _, name := range []string{
		"--config", "--listen", "--admin-listen", "--data-dir", "--log-level", "--log-format", "SESSION_DEBUG",
		"MCPHUB_LISTEN", "MCPHUB_ADMIN_LISTEN", "MCPHUB_DATA_DIR", "MCPHUB_LOG_LEVEL", "MCPHUB_LOG", "MCPHUB_LOG_FORMAT",
		"--trace-parent", "MCPHUB_TRACE_PARENT",
	} {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s is not in the document", name)
		}
	}
	for _, name := range reservedHeaders[9:] {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("the header %s is not in the document", name)
		}
	}
}

func TestExampleFileIsAcceptedAsItIsAndWithItsCommentsTakenOut(t *testing.T) {
	text := readText(t, example)
	c := mustParse(t, text)
	want := Default()
	want.Servers = []Server{{Name: "demo", Command: "mcphub", Args: []string{"demo-server"}}}
	want.fill()
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
	before, docs, ok := strings.Cut(text, "  # docs:\n")
	if !ok {
		t.Fatal("no HTTP server in comments")
	}
	docs = strings.ReplaceAll(docs, "  # ", "  ")
	c, err := Parse(example, []byte(before+"  docs:\n"+docs), func(name string) (string, bool) { return "t", name == "DOCS_TOKEN" })
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Servers) != 2 || c.Servers[1].Headers["Authorization"].Reveal() != "Bearer t" {
		t.Errorf("%+v", c.Servers)
	}
}
