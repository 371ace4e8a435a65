package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	document = "../../docs/configuration.md"
	example  = "../../examples/mcphub.yaml"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md instead of comparing them")

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
	for _, k := range Keys() {
		if !regexp.MustCompile(`(?m)^ *` + k.Name[strings.LastIndex(k.Name, ".")+1:] + `:`).MatchString(completeExample(t)) {
			t.Errorf("%s is not in the complete example", k.Name)
		}
	}
	if len(c.Servers) != 3 || c.Servers[0].Command != "mcphub" {
		t.Errorf("%+v", c.Servers)
	}
}

const (
	endOfTable = "<!-- end of table -->\n"
	overrides  = "variables and flags" // the table of what overrides the file
)

// table matches a generated table of the document. The comment before it lists the sections of its keys.
var table = regexp.MustCompile(`(?s)<!-- table: ([^\n]+) -->\n.*?` + endOfTable)

// make docs writes what this test compares.
func TestTablesOfTheDocumentAreMadeFromTheTableOfKeys(t *testing.T) {
	text := readText(t, document)
	tables := map[string]int{} // the number of tables by key
	want := table.ReplaceAllStringFunc(text, func(old string) string {
		content := table.FindStringSubmatch(old)[1]
		lines := "<!-- table: " + content + " -->\n"
		if content == overrides {
			return lines + overridesTable() + endOfTable
		}
		keys := keysOf(strings.Split(content, ", "))
		for _, k := range keys {
			tables[k.Name]++
		}
		return lines + keyList(keys) + endOfTable
	})
	for _, k := range Keys() {
		if tables[k.Name] != 1 {
			t.Errorf("%s is in %d tables of %s; name its section in one of the comments <!-- table: ... -->",
				k.Name, tables[k.Name], document)
		}
	}
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	is := strings.Split(text, "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(is) || is[i] != line {
			t.Fatalf("%s is out of date, run make docs; line %d should be\n%s", document, i+1, line)
		}
	}
}

const serverPrefix = "mcpServers.<name>."

// keysOf returns the keys of some sections. A section is the first part of a name, or mcpServers.<name>.
func keysOf(sections []string) []Key {
	return slices.DeleteFunc(Keys(), func(k Key) bool {
		section, _, _ := strings.Cut(k.Name, ".")
		if strings.HasPrefix(k.Name, serverPrefix) {
			section = strings.TrimSuffix(serverPrefix, ".")
		}
		return !slices.Contains(sections, section)
	})
}

func keyList(keys []Key) string {
	var b strings.Builder
	for _, k := range keys {
		name := strings.TrimPrefix(k.Name, serverPrefix)
		writeItem(&b, "", fmt.Sprintf("`%s`: %s%s. %s", name, k.Type, defaultOf(k), meaningOf(k)))
		for _, c := range k.Choices {
			if c.Help != "" {
				writeItem(&b, "  ", fmt.Sprintf("`%s`: %s.", c.Value, c.Help))
			}
		}
	}
	return b.String()
}

// writeItem writes an item of a list, in lines of up to 120 columns.
func writeItem(b *strings.Builder, indent, text string) {
	line := indent + "-"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 120 {
			b.WriteString(line + "\n")
			line = indent + " "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// defaultOf returns the default with what separates it from the type; empty if there is none.
func defaultOf(k Key) string {
	switch {
	case k.Default == "":
		return ""
	case k.DefaultWithURL != "":
		return fmt.Sprintf(", default `%s`, with a `url`: `%s`", k.Default, k.DefaultWithURL)
	}
	return ", default `" + k.Default + "`"
}

// meaningOf returns the help of a key, with those of its values that need no explanation.
func meaningOf(k Key) string {
	text := k.Help
	if k.OnlyWith != "" {
		text += " Only with `" + k.OnlyWith + "`."
	}
	var plain []string
	for _, c := range k.Choices {
		if c.Help == "" {
			plain = append(plain, c.Value)
		}
	}
	if plain != nil {
		text += " Values: " + inCode(plain) + "."
	}
	return text
}

func overridesTable() string {
	var b strings.Builder
	b.WriteString("| Flag | Variable | Key |\n| --- | --- | --- |\n")
	for _, k := range Keys() {
		if k.Flag == "" && k.Variable == "" {
			continue
		}
		name := ""
		if k.Flag != "" {
			name = " `" + k.Flag + "`"
		}
		fmt.Fprintf(&b, "|%s | `%s` | `%s` |\n", name, k.Variable, k.Name)
	}
	return b.String()
}

func TestDocumentNamesTheVariablesAndFlagsThatAreNoKeys(t *testing.T) {
	text := readText(t, document)
	for _, name := range []string{"--config", "MCPHUB_CONFIG", "--banner", "SESSION_DEBUG"} {
		if !strings.Contains(text, "`"+name) {
			t.Errorf("%s is not in the document", name)
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
