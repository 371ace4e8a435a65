package jsonrpc

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseDistinguishesRequestsNotificationsAndResponses(t *testing.T) {
	for _, tt := range []struct {
		in   string
		kind Kind
		id   ID
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"ping"}`, Request, "1"},
		{`{"jsonrpc":"2.0","id":"1","method":"ping","params":{}}`, Request, `"1"`},
		{`{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, Request, "9007199254740993"},
		{`{"method":"notifications/initialized","jsonrpc":"2.0"}`, Notification, ""},
		{`{"jsonrpc":"2.0","id":1.50,"result":{}}`, Response, "1.50"},
		{`{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}`, Response, "null"},
		{"\t\n{\"jsonrpc\" : \"2.0\" , \"id\":0,\"result\":null}\r\n", Response, "0"},
	} {
		m, err := Parse([]byte(tt.in))
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if m.Kind() != tt.kind || m.ID != tt.id {
			t.Errorf("%s: kind %v id %q, want %v %q", tt.in, m.Kind(), m.ID, tt.kind, tt.id)
		}
	}
}

func TestParseRefusesInvalidMessages(t *testing.T) {
	for in, code := range map[string]int{
		``:                       CodeParse,
		`{`:                      CodeParse,
		`{"jsonrpc":"2.0"`:       CodeParse,
		`nonsense`:               CodeParse,
		`{"jsonrpc":"2.0"} {}`:   CodeParse,
		"{\"jsonrpc\":\"\xff\"}": CodeParse,
		`[`:                      CodeParse,
		`[]`:                     CodeInvalidRequest,
		`"text"`:                 CodeInvalidRequest,
		`{}`:                     CodeInvalidRequest,
		`{"jsonrpc":"2.0"}`:      CodeInvalidRequest,
		`{"jsonrpc":"1.0","id":1,"method":"ping"}`:                     CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":{},"method":"ping"}`:                    CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":true,"method":"ping"}`:                  CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":null,"method":"ping"}`:                  CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":7}`:                          CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":""}`:                         CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":"a","result":{}}`:            CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`:              CodeInvalidRequest,
		`{"jsonrpc":"2.0","result":{}}`:                                CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":3}`:             CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"error":"x"}`:                         CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`:           CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}`:      CodeInvalidRequest,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{},"params":0}`: CodeInvalidRequest,
	} {
		_, err := Parse([]byte(in))
		var e *Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%q: %v, want code %d", in, err, code)
		}
	}
}

func TestMemberNamesAreComparedExactly(t *testing.T) {
	m, err := Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","METHOD":"b","Id":2,"method\u0000":"c"}`))
	if err != nil || m.Method != "a" || m.ID != "1" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParseReturnsTheIDOfAnInvalidMessage(t *testing.T) {
	m, err := Parse([]byte(`{"jsonrpc":"2.0","id":"x","method":"a","params":1}`))
	if err == nil || m.ID != `"x"` {
		t.Errorf("id %q, err %v", m.ID, err)
	}
}

func TestRawMembersKeepEveryByte(t *testing.T) {
	const params = `{ "name" : "x","n":12345678901234567890, "e":1e400,"s":"\u00e9\/<>&","dup":1,"dup":{"a":1,"a":2} }`
	m, err := Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + params + `}`))
	if err != nil || string(m.Params) != params {
		t.Fatalf("%s, %v", m.Params, err)
	}
	again, err := Parse(m.Encode())
	if err != nil || string(again.Params) != params || again.ID != "1" || again.Method != "tools/call" {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestRewriteChangesNothingElse(t *testing.T) {
	for _, tt := range []struct {
		in    string
		edits []Edit
		want  string
	}{
		{`{"name":"a__b","arguments":{"name":"keep"}}`, []Edit{{Name: "name", Value: String("b")}},
			`{"name":"b","arguments":{"name":"keep"}}`},
		{"{ \"x\" : 1 ,\n\"name\" : \"a\" }", []Edit{{Name: "name", Value: String("b")}}, "{ \"x\" : 1 ,\n\"name\" : \"b\" }"},
		{`{}`, []Edit{{Name: "_meta", Value: json.RawMessage(`{"a":1}`)}}, `{"_meta":{"a":1}}`},
		{``, []Edit{{Name: "_meta", Value: json.RawMessage(`{}`)}, {Name: "b", Value: json.RawMessage(`2`)}}, `{"_meta":{},"b":2}`},
		{` { } `, []Edit{{Name: "a", Value: json.RawMessage(`1`)}}, ` {"a":1 } `},
		{`{"a":1}`, []Edit{{Name: "b", Value: json.RawMessage(`2`)}}, `{"a":1,"b":2}`},
		{`{"a":1,"b":2,"c":3}`, []Edit{{Name: "b", Value: nil}}, `{"a":1,"c":3}`},
		{`{"a":1,"b":2}`, []Edit{{Name: "a", Value: nil}}, `{"b":2}`},
		{`{"a":1}`, []Edit{{Name: "a", Value: nil}}, `{}`},
		{`{"a":1,"b":2}`, []Edit{{Name: "a", Value: nil}, {Name: "b", Value: nil}, {Name: "c", Value: json.RawMessage(`3`)}}, `{"c":3}`},
		{`{"\u0061":1}`, []Edit{{Name: "a", Value: json.RawMessage(`2`)}}, `{"\u0061":2}`},
		{`{"z":1}`, []Edit{{Name: "a", Value: nil}}, `{"z":1}`},
		{`{"z":1,"m":{ "a":1, "b":2 } }`,
			[]Edit{{Name: "m", Members: []Edit{{Name: "a"}, {Name: "c", Value: json.RawMessage(`3`)}}}}, `{"z":1,"m":{ "b":2,"c":3 } }`},
		{`{"z":1}`, []Edit{{Name: "m", Members: []Edit{{Name: "a"}, {Name: "c", Value: json.RawMessage(`3`)}}}}, `{"z":1,"m":{"c":3}}`},
		{``, []Edit{{Name: "m", Members: []Edit{{Name: "c", Value: json.RawMessage(`3`)}}}}, `{"m":{"c":3}}`},
	} {
		got, err := Rewrite(json.RawMessage(tt.in), tt.edits...)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestFieldsRefusesAMemberThatOccursTwice(t *testing.T) {
	if _, err := Fields(json.RawMessage(`{"name":"a","name":"b"}`), "name"); err == nil {
		t.Error("no error")
	}
	if v, err := Fields(json.RawMessage(`{"other":1,"other":2,"name":"b"}`), "name"); err != nil || string(v[0]) != `"b"` {
		t.Errorf("%s, %v", v, err)
	}
}

func TestOneLineKeepsTheMeaning(t *testing.T) {
	in := "{\n\"a\": \"x\\ny\",\r\n\"b\":1}"
	out := OneLine([]byte(in))
	if strings.ContainsAny(string(out), "\r\n") || !json.Valid(out) || !strings.Contains(string(out), `x\ny`) {
		t.Errorf("%s", out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":1}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m"}}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if e := AsError(err); e.Code != CodeParse && e.Code != CodeInvalidRequest {
				t.Fatalf("code %d", e.Code)
			}
			return
		}
		again, err := Parse(m.Encode())
		if err != nil || again.ID != m.ID || again.Method != m.Method || string(again.Params) != string(m.Params) ||
			string(again.Result) != string(m.Result) || string(again.Error) != string(m.Error) {
			t.Fatalf("%q became %q: %v", data, m.Encode(), err)
		}
		// encoding/json reads the same members, and none occurs twice.
		var members map[string]json.RawMessage
		var method string
		if err := json.Unmarshal(data, &members); err != nil || members["method"] != nil &&
			json.Unmarshal(members["method"], &method) != nil {
			t.Fatalf("%q is not JSON for encoding/json: %v", data, err)
		}
		if string(members["id"]) != string(m.ID) || method != m.Method || string(members["params"]) != string(m.Params) ||
			string(members["result"]) != string(m.Result) || string(members["error"]) != string(m.Error) {
			t.Fatalf("%q is read as %+v", data, m)
		}
	})
}

// FuzzRewrite edits two members and compares all members with those that encoding/json
// reads.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte(`{"a":1,"_meta":{"b":2}}`), "_meta", "name")
	f.Add([]byte(`{ "\u0061" : 1e2 , "b" : [ ] ,"c":{"a":1,"a":2}} `), "a", "b")
	f.Add([]byte("{\n}"), "", "\u2028")
	f.Fuzz(func(t *testing.T, data []byte, first, second string) {
		if !utf8.ValidString(first) || !utf8.ValidString(second) {
			return // the names of edits are constants in the program
		}
		var before map[string]json.RawMessage
		_ = json.Unmarshal(data, &before) // an empty object if there is none
		for _, edits := range [][]Edit{
			{{Name: first, Value: json.RawMessage(`{"x":1}`)}}, {{Name: first}},
			{{Name: first}, {Name: second, Value: json.RawMessage(`2.0`)}}, {{Name: first, Value: json.RawMessage(`1`)}, {Name: second}},
		} {
			out, err := Rewrite(data, edits...)
			if err != nil || len(edits) > 1 && first == second {
				continue
			}
			var after map[string]json.RawMessage
			if err := json.Unmarshal(out, &after); err != nil {
				t.Fatalf("%q became %q: %v", data, out, err)
			}
			want := maps.Clone(before)
			if want == nil {
				want = map[string]json.RawMessage{}
			}
			for _, e := range edits {
				if want[e.Name] = e.Value; e.Value == nil {
					delete(want, e.Name)
				}
			}
			if !maps.EqualFunc(after, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
				t.Fatalf("%q became %q with %q", data, out, edits)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	msg := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"text":"` +
		strings.Repeat("a", 1000) + `"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(msg); err != nil {
			b.Fatal(err)
		}
	}
}
