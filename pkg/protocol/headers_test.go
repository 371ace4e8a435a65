package protocol

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"pgregory.net/rapid"
)

func TestHeaderValueIsPlainOrBase64(t *testing.T) {
	for in, want := range map[string]string{
		"us-west1":                    "us-west1",
		"us west 1":                   "us west 1",
		"file:///a%20b?c=d#e":         "file:///a%20b?c=d#e",
		"":                            "",
		"Hello, 世界":                   "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":                    "=?base64?IHBhZGRlZCA=?=",
		"trailing ":                   "=?base64?dHJhaWxpbmcg?=",
		"line1\nline2":                "=?base64?bGluZTEKbGluZTI=?=",
		"a\tb":                        "=?base64?YQli?=",
		"\x7f":                        "=?base64?fw==?=",
		"=?base64?literal?=":          "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"=?base64?=":                  "=?base64?PT9iYXNlNjQ/PQ==?=",
		"=?BASE64?literal?=":          "=?BASE64?literal?=",
		"=?base64?no suffix":          "=?base64?no suffix",
		"not the beginning =?base64?": "not the beginning =?base64?",
	} {
		if got := EncodeHeader(in); got != want {
			t.Errorf("EncodeHeader(%q) = %q, want %q", in, got, want)
		}
		if got, err := decodeHeader(want); err != nil || got != in {
			t.Errorf("decodeHeader(%q) = %q, %v, want %q", want, got, err, in)
		}
	}
	if got, err := decodeHeader(EncodeHeader("a\xffb")); err != nil || got != "a\uFFFDb" {
		t.Errorf("invalid UTF-8: %q, %v", got, err)
	}
}

func TestInvalidHeaderValueIsRejected(t *testing.T) {
	for _, in := range []string{
		"=?base64?SGVsbG8?=",     // no padding
		"=?base64?SGVs!!!bG8=?=", // not of the alphabet
		"=?base64?SGVs\nbG8=?=",  // line breaks
		"=?base64?__-_?=",        // the other alphabet
		"=?base64?/w==?=",        // not UTF-8
		"=?base64?7aCA?=",        // a lone surrogate
		"caf\xc3\xa9", "a\x00", "a\rb", "\x7f",
	} {
		if got, err := decodeHeader(in); err == nil {
			t.Errorf("decodeHeader(%q) = %q", in, got)
		} else if strings.Contains(err.Error(), "SGVs") {
			t.Errorf("the error quotes the value: %v", err)
		}
	}
	if got, err := decodeHeader("a\tb"); err != nil || got != "a\tb" { // RFC 9110 allows it as inner white space
		t.Errorf("an inner tab: %q, %v", got, err)
	}
}

func TestHeaderValueRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`), rapid.StringMatching(`=\?base64\?[ -~]*(\?=)?`)).Draw(t, "s")
		e := EncodeHeader(s)
		if e != strings.TrimSpace(e) || strings.ContainsFunc(e, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q is not a header value", e)
		}
		if got, err := decodeHeader(e); err != nil || got != s {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
		if theirs, _ := mcp.EncodeHeaderValue(s); theirs != e {
			t.Fatalf("%q: mcp-go returns %q, this package %q", s, theirs, e)
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	for _, seed := range []string{"", "plain", "=?base64?SGVsbG8=?=", "=?base64?SGVsbG8?=", "=?base64?/w==?=",
		"=?base64?=", "=?base64??=", "a\tb", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, err := decodeHeader(value)
		if err != nil {
			return
		}
		if !utf8.ValidString(s) {
			t.Fatalf("%q is not UTF-8", s)
		}
		if again, err := decodeHeader(EncodeHeader(s)); err != nil || again != s {
			t.Fatalf("%q became %q: %v", s, again, err)
		}
		if theirs, ok := mcp.DecodeHeaderValue(value); !ok || theirs != s {
			t.Fatalf("%q: mcp-go returns %q, this package %q", value, theirs, s)
		}
	})
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestNamedByIsTheMemberThatMcpNameMirrors(t *testing.T) {
	for method, want := range map[string]string{
		MethodToolsCall: "name", MethodPromptsGet: "name", MethodResourcesRead: "uri",
		MethodTasksGet: "taskId", MethodTasksUpdate: "taskId", MethodTasksCancel: "taskId",
		MethodToolsList: "", MethodResourcesSubscribe: "", "vendor/method": "",
	} {
		if got := NamedBy(method); got != want {
			t.Errorf("%s: %q, want %q", method, got, want)
		}
	}
}

func TestStandardHeadersMustMatchBody(t *testing.T) {
	for _, tt := range []struct {
		name          string
		header        http.Header
		method, value string
		named         bool
		want          string // text of the error; empty: no error
	}{
		{"both", header("Mcp-Method", "tools/call", "Mcp-Name", "x"), "tools/call", "x", true, ""},
		{"the case of names", header("MCP-METHOD", "tools/call", "mcp-name", "x"), "tools/call", "x", true, ""},
		{"white space around", header("Mcp-Method", " tools/call\t", "Mcp-Name", "  x  "), "tools/call", "x", true, ""},
		{"name in base64", header("Mcp-Method", "tools/call", "Mcp-Name", "=?base64?w6k=?="), "tools/call", "é", true, ""},
		{"name in base64 without need", header("Mcp-Method", "tools/call", "Mcp-Name", "=?base64?eA==?="), "tools/call", "x", true, ""},
		{"no name needed", header("Mcp-Method", "tools/list"), "tools/list", "", false, ""},
		{"name not asked for", header("Mcp-Method", "tools/list", "Mcp-Name", "x"), "tools/list", "", false, ""},
		{"no method", header("Mcp-Name", "x"), "tools/call", "x", true, "Mcp-Method is missing"},
		{"another method", header("Mcp-Method", "tools/list", "Mcp-Name", "x"), "tools/call", "x", true, "Mcp-Method does not match"},
		{"another case of the method", header("Mcp-Method", "TOOLS/CALL"), "tools/call", "x", true, "Mcp-Method does not match"},
		{"method in base64", header("Mcp-Method", "=?base64?cGluZw==?="), "ping", "", false, "Mcp-Method does not match"},
		{"method twice", header("Mcp-Method", "ping", "Mcp-Method", "ping"), "ping", "", false, "Mcp-Method occurs more than once"},
		{"no name", header("Mcp-Method", "tools/call"), "tools/call", "x", true, "Mcp-Name is missing"},
		{"another name", header("Mcp-Method", "tools/call", "Mcp-Name", "secret"), "tools/call", "x", true, "Mcp-Name does not match"},
		{"name twice", header("Mcp-Method", "tools/call", "Mcp-Name", "x", "Mcp-Name", "x"),
			"tools/call", "x", true, "Mcp-Name occurs more than once"},
		{"broken name", header("Mcp-Method", "tools/call", "Mcp-Name", "=?base64?secret?="),
			"tools/call", "x", true, "Mcp-Name is not valid base64"},
	} {
		checkError(t, tt.name, CheckStandard(tt.header, tt.method, tt.value, tt.named), tt.want)
	}
}

// checkError fails the test unless the text of err contains want. An empty want requires err to be nil.
func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: %v, want %q", name, err, want)
	case err != nil && strings.Contains(err.Error(), "secret"):
		t.Errorf("%s: the error quotes the value: %v", name, err)
	}
}

var annotated = []ParamHeader{
	{Name: "Region", path: []string{"region"}},
	{Name: "Limit", path: []string{"options", "limit"}},
	{Name: "Dry", path: []string{"options", "dry"}},
}

func TestParamValuesFollowTheSpecification(t *testing.T) {
	for _, tt := range []struct {
		arguments string
		want      map[string]string
	}{
		{``, map[string]string{}},
		{`null`, map[string]string{}},
		{`{}`, map[string]string{}},
		{`{"other":"x","region":null,"options":null}`, map[string]string{}},
		{`{"region":"us-west1"}`, map[string]string{"Mcp-Param-Region": "us-west1"}},
		{`{"region":""}`, map[string]string{"Mcp-Param-Region": ""}},
		{`{"region":" \u00e9"}`, map[string]string{"Mcp-Param-Region": "=?base64?IMOp?="}},
		{`{"options":{"limit":-7,"dry":false}}`, map[string]string{"Mcp-Param-Limit": "-7", "Mcp-Param-Dry": "false"}},
		{`{"options":{"limit":1e3}}`, map[string]string{"Mcp-Param-Limit": "1000"}},
		{`{"options":{"limit":1.0,"dry":true}}`, map[string]string{"Mcp-Param-Limit": "1", "Mcp-Param-Dry": "true"}},
		{`{"options":{"limit":-0}}`, map[string]string{"Mcp-Param-Limit": "0"}},
		{`{"options":{"limit":9007199254740991}}`, map[string]string{"Mcp-Param-Limit": "9007199254740991"}},
		{`{"options":"no object","region":"a"}`, map[string]string{"Mcp-Param-Region": "a"}},
		{`{"options":{"limit":"a text where a number should be"}}`, map[string]string{"Mcp-Param-Limit": "a text where a number should be"}},
		{`{"other":1,"other":2,"region":"a"}`, map[string]string{"Mcp-Param-Region": "a"}},
	} {
		got, err := ParamValues(annotated, json.RawMessage(tt.arguments))
		if err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.arguments, got, err, tt.want)
		}
		h := http.Header{}
		for name, value := range got {
			h.Set(name, value)
		}
		if err := CheckParams(h, annotated, json.RawMessage(tt.arguments)); err != nil {
			t.Errorf("%s: %q is rejected: %v", tt.arguments, got, err)
		}
	}
}

func TestArgumentThatNoHeaderCanCarryIsAnError(t *testing.T) {
	for _, arguments := range []string{
		`{"options":{"limit":9007199254740992}}`, `{"options":{"limit":1.5}}`, `{"options":{"limit":1e999999999}}`,
		`{"region":{"secret":1}}`, `{"region":["secret"]}`,
		`{"region":"secret","region":"other"}`, `{"options":{"dry":true,"dry":false}}`,
		`[]`, `"secret"`, `{`, `{"region":secret}`,
	} {
		got, err := ParamValues(annotated, json.RawMessage(arguments))
		if err == nil {
			t.Errorf("%s: %q", arguments, got)
			continue
		}
		checkError(t, arguments, err, "must be")
	}
}

func TestParamHeadersMustMatchArguments(t *testing.T) {
	const both = `{"region":"secret","options":{"limit":42}}`
	for _, tt := range []struct {
		name      string
		header    http.Header
		arguments string
		want      string // text of the error; empty: no error
	}{
		{"equal", header("Mcp-Param-Region", "secret", "Mcp-Param-Limit", "42"), both, ""},
		{"the case of names", header("MCP-PARAM-REGION", "secret", "mcp-param-limit", "42"), both, ""},
		{"equal as numbers", header("Mcp-Param-Region", "secret", "Mcp-Param-Limit", "42.0"), both, ""},
		{"equal as numbers in base64", header("Mcp-Param-Region", "=?base64?c2VjcmV0?=", "Mcp-Param-Limit", "=?base64?NC4yZTE=?="), both, ""},
		{"other headers are ignored", header("Mcp-Param-Other", "é", "Mcp-Param-Other", "x"), `{"other":1}`, ""},
		{"missing", header("Mcp-Param-Region", "secret"), both, "Mcp-Param-Limit is missing"},
		{"another text", header("Mcp-Param-Region", "Secret", "Mcp-Param-Limit", "42"), both, "Mcp-Param-Region does not match"},
		{"another number", header("Mcp-Param-Region", "secret", "Mcp-Param-Limit", "43"), both, "Mcp-Param-Limit does not match"},
		{"no number", header("Mcp-Param-Region", "secret", "Mcp-Param-Limit", "0x2a"), both, "Mcp-Param-Limit does not match"},
		{"texts are no numbers", header("Mcp-Param-Region", "1.0"), `{"region":"1"}`, "Mcp-Param-Region does not match"},
		{"another boolean", header("Mcp-Param-Dry", "True"), `{"options":{"dry":true}}`, "Mcp-Param-Dry does not match"},
		{"twice", header("Mcp-Param-Region", "secret", "Mcp-Param-Region", "secret"), both, "Mcp-Param-Region occurs more than once"},
		{"of an absent argument", header("Mcp-Param-Region", "secret"), `{}`, "Mcp-Param-Region mirrors an argument"},
		{"empty, of an absent argument", header("Mcp-Param-Region", ""), ``, "Mcp-Param-Region mirrors an argument"},
		{"of a null argument", header("Mcp-Param-Region", "null"), `{"region":null}`, "Mcp-Param-Region mirrors an argument"},
		{"missing, of an empty argument", header(), `{"region":""}`, "Mcp-Param-Region is missing"},
		{"no padding", header("Mcp-Param-Region", "=?base64?c2VjcmV0Cg?="), both, "Mcp-Param-Region is not valid base64"},
		{"no prefix", header("Mcp-Param-Region", "SGVsbG8="), `{"region":"SGVsbG8="}`, ""},
		{"no suffix", header("Mcp-Param-Region", "=?base64?SGVsbG8="), `{"region":"=?base64?SGVsbG8="}`, ""},
		{"raw bytes", header("Mcp-Param-Region", "é"), `{"region":"é"}`, "Mcp-Param-Region contains a byte"},
		{"a value that cannot be mirrored", header("Mcp-Param-Region", "{}"), `{"region":{"secret":1}}`, "Mcp-Param-Region must be"},
		{"no arguments object", header(), `["secret"]`, "must be a JSON object"},
	} {
		checkError(t, tt.name, CheckParams(tt.header, annotated, json.RawMessage(tt.arguments)), tt.want)
	}
	if err := CheckParams(header("Mcp-Param-Region", "x"), nil, json.RawMessage(`[]`)); err != nil {
		t.Errorf("a tool without annotations: %v", err)
	}
}

func FuzzCheckParams(f *testing.F) {
	f.Add("us-west1", "42", "true", []byte(`{"region":"us-west1","options":{"limit":42,"dry":true}}`))
	f.Add("=?base64?w6k=?=", "4.2e1", "", []byte(`{"region":"\u00e9","options":{"limit":42}}`))
	f.Add("", "", "", []byte(`{"options":{"limit":1e999,"dry":null}}`))
	f.Add("é", "0x1", "1", []byte(`[{}]`))
	f.Fuzz(func(t *testing.T, region, limit, dry string, arguments []byte) {
		h := http.Header{}
		for name, value := range map[string]string{"Region": region, "Limit": limit, "Dry": dry} {
			if value != "" {
				h.Set(HeaderParamPrefix+name, value)
			}
		}
		checked := CheckParams(h, annotated, arguments)
		values, err := ParamValues(annotated, arguments)
		if checked == nil && err != nil {
			t.Fatalf("%q, %s: accepted, but %v", h, arguments, err)
		}
		if err != nil {
			return
		}
		generated := http.Header{}
		for name, value := range values {
			generated.Set(name, value)
		}
		if err := CheckParams(generated, annotated, arguments); err != nil {
			t.Fatalf("%q, %s: %v", generated, arguments, err)
		}
		if checked == nil && len(generated) != len(h) {
			t.Fatalf("%q, %s: accepted, want %q", h, arguments, generated)
		}
	})
}

func BenchmarkCheckParams(b *testing.B) {
	arguments := []byte(`{"region":"us-west1","options":{"limit":42},"text":"` + base64.StdEncoding.EncodeToString(make([]byte, 3000)) + `"}`)
	h := header("Mcp-Param-Region", "us-west1", "Mcp-Param-Limit", "42")
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckParams(h, annotated, arguments); err != nil {
			b.Fatal(err)
		}
	}
}
