package real

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const introduction = `# Compatibility

Real servers and clients, through the hub. Do not edit: ` + "`make e2e-real`" + ` runs all of it and writes this file.

- **connect, list, call:** the client initializes (or discovers), lists tools and prompts, and calls a tool.
- **sampling, elicitation, roots:** a tool of the server asks the client, and its result has the client's answer.
- **kill -9 of the hub:** the hub is killed and started again. The same client, which knows nothing of it, calls again
  and is asked again; the first call has to work. Only "the server is still starting" is answered by another call.
- **kill -9 of the server:** the same with the server behind the hub; here one call may fail before.
- **yes:** it works. **no:** it does not; the reason is below the tables. **–:** the client cannot answer it, or
  the server does not ask.
`

// document returns the text of docs/compatibility.md.
func (r *results) document(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(introduction)
	notes := &notes{}
	for _, c := range clients() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| server |", c.name, versions(t, c.packages))
		for _, s := range steps() {
			fmt.Fprintf(&b, " %s |", s)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(steps())) + "\n")
		for _, s := range servers() {
			i := slices.IndexFunc(r.pairs, func(p *pair) bool { return p.client.name == c.name && p.server.name == s.name })
			b.WriteString(r.pairs[i].row(notes))
		}
	}
	b.WriteString("\n## The servers\n\n| server | package |\n|---|---|\n")
	for _, s := range servers() {
		fmt.Fprintf(&b, "| %s | %s |\n", s.name, versions(t, s.packages))
	}
	b.WriteString(notes.String())
	return b.String()
}

// row returns the line of the table for a pair.
func (p *pair) row(n *notes) string {
	line := "| " + p.server.name + " |"
	for _, s := range steps() {
		cell := "yes"
		switch err, tried := p.done[s]; {
		case !tried:
			cell = "–"
		case err != nil:
			reason, known := knownReason(p.client.name, p.server.name, s)
			if !known {
				reason = "Not expected: " + withoutPaths(err.Error())
			}
			cell = fmt.Sprintf("no (%d)", n.number(reason))
		}
		line += " " + cell + " |"
	}
	return line + "\n"
}

// withoutPaths takes the names of the test's own directories out of a text.
func withoutPaths(text string) string {
	return regexp.MustCompile(`/\S*/TestReal[\w,-]*(/\d+)?`).ReplaceAllString(text, "DIR")
}

// notes are the numbered reasons below the tables.
type notes struct{ reasons []string }

func (n *notes) number(reason string) int {
	i := slices.Index(n.reasons, reason)
	if i < 0 {
		i = len(n.reasons)
		n.reasons = append(n.reasons, reason)
	}
	return i + 1
}

func (n *notes) String() string {
	if len(n.reasons) == 0 {
		return "\nEverything holds.\n"
	}
	text := "\n## What does not hold\n\n"
	for i, reason := range n.reasons {
		text += wrapped(fmt.Sprintf("%d. %.300s", i+1, strings.Join(strings.Fields(reason), " ")), "   ")
	}
	return text
}

// wrapped breaks a paragraph into lines of at most 120 columns.
func wrapped(text, indent string) (lines string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > 120 {
			lines += line + "\n"
			line = indent + word
			continue
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return lines + line + "\n"
}

// versions returns the packages with the versions that package.json pins.
func versions(t *testing.T, packages []string) string {
	t.Helper()
	text, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var pinned struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &pinned); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range packages {
		if pinned.Dependencies[name] == "" {
			t.Fatalf("package.json does not pin %s", name)
		}
		all = append(all, "`"+name+"` "+pinned.Dependencies[name])
	}
	return strings.Join(all, ", ")
}

func TestParagraphsAreWrappedWithAnIndent(t *testing.T) {
	t.Parallel()
	word := strings.Repeat("x", 59)
	want := "1. " + word + "\n   " + word + " y\n"
	if got := wrapped("1. "+word+" "+word+" y", "   "); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The document is made by a run that takes minutes. This finds one that was not made
// again after a client, a server or a version was changed.
func TestTheDocumentHasEveryClientServerAndVersion(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), introduction) {
		t.Error("docs/compatibility.md begins differently; run make e2e-real")
	}
	for _, c := range clients() {
		heading := "\n## " + c.name + "\n\n" + versions(t, c.packages) + "\n\n| server |"
		_, section, found := strings.Cut(string(text), heading)
		if !found {
			t.Errorf("docs/compatibility.md has no section %q; run make e2e-real", heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, s := range servers() {
			if !strings.Contains(section, "\n| "+s.name+" |") {
				t.Errorf("docs/compatibility.md has no row for %s with %s; run make e2e-real", c.name, s.name)
			}
		}
	}
	for _, s := range servers() {
		if row := "\n| " + s.name + " | " + versions(t, s.packages) + " |\n"; !strings.Contains(string(text), row) {
			t.Errorf("docs/compatibility.md has no line %q; run make e2e-real", row)
		}
	}
	for _, e := range exceptions() {
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), strings.Join(strings.Fields(e.reason), " ")) {
			t.Errorf("docs/compatibility.md does not give the reason %q; run make e2e-real", e.reason)
		}
	}
}
