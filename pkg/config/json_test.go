package config

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"
)

// inArgs is a configuration in JSON with that text between the brackets of the arguments, in line 5.
func inArgs(text string) string {
	return `{
  "mcpServers": {
    "files": {
      "command": "x",
      "args": [` + text + `]
    }
  }
}
`
}

// As people write it for Visual Studio Code, Zed, Amp and Cline.
func TestCommentsAndTrailingCommasOfJSONAreNoValues(t *testing.T) {
	want := []string{"--root", "/srv/docs"}
	for name, text := range map[string]string{
		"plain":                      inArgs(`"--root", "/srv/docs"`),
		"a commented-out argument":   inArgs("\"--root\",\n // \"/home/me/private\",\n \"/srv/docs\""),
		"a remark above an argument": inArgs("\"--root\",\n // where the documents are, \"the public ones\"\n \"/srv/docs\""),
		"a remark behind":            inArgs("\"--root\", // where the documents are\n \"/srv/docs\""),
		"a block comment":            inArgs(`"--root", /* "--debug", */ "/srv/docs"`),
		"a comment of lines":         inArgs("\"--root\", /* \"--debug\",\n [{ \" * / // \n*/ \"/srv/docs\""),
		"a trailing comma":           inArgs("\"--root\", \"/srv/docs\",\n"),
		"comma and comment":          inArgs("\"--root\", \"/srv/docs\" , // last\n"),
		"a comment before all":       "// of mine\n\n/* {\n */ " + inArgs(`"--root", "/srv/docs"`),
		"a comment after all":        inArgs(`"--root", "/srv/docs"`) + "// of mine",
		"line ends of Windows":       strings.ReplaceAll(inArgs("\"--root\", // a\n \"/srv/docs\""), "\n", "\r\n"),
		"tabs":                       strings.ReplaceAll(inArgs(`"--root",	"/srv/docs"`), "  ", "\t"),
		"byte order mark":            "\ufeff" + inArgs(`"--root", "/srv/docs"`),
		"UTF-16":                     inUTF16(binary.LittleEndian, inArgs(`"--root", "/srv/docs"`)),
		"UTF-16 of the other order":  inUTF16(binary.BigEndian, inArgs(`"--root", "/srv/docs"`)),
		"all other servers left out": strings.Replace(inArgs(`"--root", "/srv/docs"`), "{", "{ /*\"a\": {\"command\": \"y\"},*/ //\n", 1),
	} {
		c := mustParse(t, text)
		if len(c.Servers) != 1 || !slices.Equal(c.Servers[0].Args, want) {
			t.Errorf("%s: %+v", name, c.Servers)
		}
	}
}

func inUTF16(order binary.ByteOrder, text string) string {
	b := make([]byte, 0, 2*len(text)+2)
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b = append(b, 0, 0)
		order.PutUint16(b[len(b)-2:], unit)
	}
	return string(b)
}

func TestUTF16IsReadInYAMLToo(t *testing.T) {
	if c := mustParse(t, inUTF16(binary.LittleEndian, "dataDir: /srv/äöü𝄞\r\n")); c.DataDir != "/srv/äöü𝄞" {
		t.Errorf("%q", c.DataDir)
	}
}

func TestStringsOfJSONAreNotThoseOfYAML(t *testing.T) {
	want := []string{"# a", "http://x/y", "/* no */ //", `C:\apps\bin`, `\\host\share`, "😀/é\u2028", "null", "*a", "\ufffd", "<<"}
	text := `"# a", "http://x/y", "/* no */ //", "C:\\apps\\bin", "\\\\host\\share", "\ud83d\uDE00\/\u00e9\u2028", "null", "*a",` +
		` "\ufffd", "<<"`
	if got := mustParse(t, inArgs(text)).Servers[0].Args; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	env := mustParse(t, `{"mcpServers": {"a": {"command": "x", "env": {"<<": "y", "on": "no"}}}}`).Servers[0].Env
	if !reflect.DeepEqual(env, map[string]Secret{"<<": "y", "on": "no"}) {
		t.Errorf("the variables are %v", env)
	}
}

// Each want has the line, the column, what is wrong and what was expected.
func TestEveryRefusalOfJSONNamesFileLineAndColumn(t *testing.T) {
	const path = `a backslash is written as \\, so a Windows path is "C:\\apps\\bin" or "C:/apps/bin"`
	for name, c := range map[string]struct{ text, want string }{
		"windows path":         {inArgs(`"--root", "C:\apps\bin"`), `f:5:29: \a is not an escape of JSON; ` + path},
		"windows path 2":       {inArgs(`"--root", "C:\new\temp"`), "f:5:29: this looks like a Windows path whose backslashes are"},
		"windows path 3":       {inArgs(`"c:\users"`), "f:5:19: \\u is not followed by the four hexadecimal digits"},
		"after umlauts":        {inArgs(`"äöü€𝄞", "\d"`), `f:5:26: \d is not an escape of JSON`},
		"after tabs":           {"{\n\t\"listen\":\t\"\\d\"}", `f:2:13: \d is not an escape of JSON`},
		"line ends of Windows": {strings.ReplaceAll(inArgs(`"\d"`), "\n", "\r\n"), `f:5:17: \d is not an escape`},
		"in UTF-16":            {inUTF16(binary.LittleEndian, inArgs(`"\d"`)), `f:5:17: \d is not an escape`},
		"in a name":            {`{"\q": 1}`, `f:1:3: \q is not an escape of JSON`},
		"odd escape":           {"{\"\\\u202e\": 1}", `f:1:3: a backslash before this character is not an escape of JSON`},
		"half a surrogate":     {inArgs(`"\ud83d"`), `f:5:17: \u is not followed by`},
		"two first halves":     {inArgs(`"\ud83d\ud83d"`), `f:5:17: \u is not followed by`},
		"string over lines":    {inArgs("\"a\nb\""), "f:5:16: the string is not closed in its line; expected a closing quote"},
		"tab in a string":      {inArgs("\"a\tb\""), `f:5:18: the string contains a tab; expected \t`},
		"unquoted name":        {"{listen: \":1\"}", "f:1:2: not valid JSON: expected a name in double quotes; a file that"},
		"unquoted text":        {"{\"listen\": canary}", "f:1:12: not valid JSON: expected a value: a string in double quotes"},
		"other quotes":         {"{\"listen\": ':1'}", "f:1:12: not valid JSON: strings are written in double quotes"},
		"unquoted variable":    {"{\"listen\": ${HOST}}", `f:1:12: not valid JSON: a ${VAR} needs quotes: "${VAR}"`},
		"other comment":        {"{\n  # canary\n  \"listen\": \":1\"}", "f:2:3: not valid JSON: a comment begins with //, or"},
		"half a comment":       {"{ / canary\n}", "f:1:3: not valid JSON: a comment begins with //"},
		"odd comment":          {"{ // \u2028\n}", "f:1:6: not valid JSON: the comment contains a character"},
		"no colon":             {`{"listen" ":1"}`, "f:1:11: not valid JSON: expected a colon after the name"},
		"no comma":             {"{\"listen\": \":1\"\n \"naming\": \"bare\"}", "f:2:2: not valid JSON: expected a comma or } after the value"},
		"no comma in a list":   {inArgs(`"a" "b"`), "f:5:20: not valid JSON: expected a comma or ] after the value"},
		"two commas":           {`{"listen": ":1",, }`, "f:1:17: not valid JSON: expected a"},
		"two documents":        {"{}\n{}", "f:2:1: not valid JSON: expected nothing after the last }"},
		"open brace":           {"{\n\"listen\": \":1\"\n", "f:3:1: not valid JSON: the file ends too early; expected a"},
		"open comment":         {"{} /* canary", "f:1:13: not valid JSON: the file ends too early"},
		"open string":          {`{"listen": "canary`, "f:1:19: not valid JSON: the file ends too early"},
		"open escape":          {`{"listen": "canary\`, "f:1:20: not valid JSON: the file ends too early"},
		"deep":                 {`{"a":` + strings.Repeat("[", 100000), "f:1:37: nested deeper than 32 levels"},
		"many values":          {`{"a":[` + strings.Repeat("1,", 100000) + `]}`, "f:1:1: the file has more than 100000 values"},
		"given twice":          {"{\"listen\": \":1\",\n \"listen\": \":2\"}", "f:2:2: listen: is given twice, first in line 1"},
		"unknown key":          {"{\n  // canary\n  \"listn\": \":1\"}", "f:3:3: listn: unknown key; did you mean listen?"},
		"nothing":              {`{"listen": null}`, "f:1:12: listen: has no value; expected an address"},
		"number for text":      {inArgs("\"a\", 80"), "f:5:21: mcpServers.files.args[1]: is a number; expected a string"},
		"fraction":             {`{"limits": {"maxInFlight": 1e3}}`, "f:1:28: limits.maxInFlight: is a number with a fraction"},
		"truth for text":       {`{"listen": true}`, "f:1:12: listen: is a boolean; expected an address"},
		"list for text":        {`{"listen": [1]}`, "f:1:12: listen: is a list; expected an address"},
		"no variable":          {inArgs(`"${NOPE}"`), "f:5:16: mcpServers.files.args[0]: the variable NOPE is not set"},
		"no byte order mark":   {"{\x00\"\x00", "f:1:1: the file looks like UTF-16 without a byte order mark"},
		"half of UTF-16":       {"\xff\xfe{\x00\"", "f:1:1: the file begins like UTF-16 but is damaged"},
		"surrogate in UTF-16":  {"\xff\xfe\x3d\xd8", "f:1:1: the file begins like UTF-16 but is damaged"},
		"bell in a command":    {"mcpServers:\n  a: {command: \"C:\\apps\"}\n", "f:2:16: mcpServers.a.command: contains a control"},
		"backspace in cwd":     {"mcpServers:\n  a: {command: x, cwd: \"..\\bin\"}\n", "f:2:24: mcpServers.a.cwd: contains a control"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, c.text, c.want) })
	}
}

// Whatever is written where, an error does not show it.
func TestNoErrorOfJSONShowsAValue(t *testing.T) {
	const canary = "c4n4ry"
	lines := strings.Split("{\n\"listen\":\":1\",\n\"mcpServers\":\n{\n\"a\":{\n\"command\":\"x\",\n\"args\":[\"a\",\n\"b\"\n],\n"+
		"\"env\":{\n\"K\":\"v\"\n}\n}\n}\n}", "\n")
	rapid.Check(t, func(t *rapid.T) {
		changed := slices.Clone(lines)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			i := rapid.IntRange(0, len(changed)-1).Draw(t, "line")
			changed[i] += rapid.SampledFrom([]string{
				canary, `"` + canary + `"`, `"` + canary, `"\` + canary + `"`, `,"` + canary + `",`, "//" + canary, "/*" + canary, "'" + canary,
				"1" + canary, "${" + canary, `"${NOPE} ` + canary + `"`, `:"` + canary + `"`, "#" + canary, `"\u` + canary + `"`, `,["` + canary,
			}).Draw(t, "text")
		}
		_, err := Parse("f", []byte(strings.Join(changed, "\n")), nil)
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Fatalf("%v\nof\n%s", err, strings.Join(changed, "\n"))
		}
	})
}
