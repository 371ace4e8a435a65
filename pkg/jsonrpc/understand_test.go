package jsonrpc

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	open  = `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":`
	shut  = `}]}}`
	plain = `{"jsonrpc":"2.0","id":7,"result":{}}`
)

func TestWhatHasOneMeaningIsRepaired(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in, want string // want: the messages, separated by spaces
		repairs  Repairs
	}{
		"as it should be": {plain, plain, 0},
		"half an emoji":   {open + `"cut \ud83d"` + shut, open + `"cut \ufffd"` + shut, RepairedSurrogate},
		"the other half":  {open + `"\uDE00 cut"` + shut, open + `"\ufffd cut"` + shut, RepairedSurrogate},
		"two first halves": {
			open + `"\ud83d\ud83d\ude00"` + shut,
			open + `"\ufffd\ud83d\ude00"` + shut,
			RepairedSurrogate,
		},
		"a half and a letter": {open + `"\ud83d\u0041"` + shut, open + `"\ufffd\u0041"` + shut, RepairedSurrogate},
		"an escaped backslash": {
			open + `"\\ud83d \ud83d"` + shut,
			open + `"\\ud83d \ufffd"` + shut,
			RepairedSurrogate,
		},
		"latin-1":         {open + "\"caf\xe9\"" + shut, open + "\"caf\ufffd\"" + shut, RepairedUTF8},
		"a cut character": {open + "\"\xe2\x82\"" + shut, open + "\"\ufffd\ufffd\"" + shut, RepairedUTF8},
		"a surrogate in UTF-8": {
			open + "\"\xed\xa0\xbd\"" + shut,
			open + "\"\ufffd\ufffd\ufffd\"" + shut,
			RepairedUTF8,
		},
		"a raw tab":     {open + "\"a\tb\"" + shut, open + `"a\tb"` + shut, RepairedControl},
		"raw line ends": {open + "\"a\r\nb\"" + shut, open + `"a\r\nb"` + shut, RepairedControl},
		"a colour":      {open + "\"\x1b[31m\"" + shut, open + `"\u001b[31m"` + shut, RepairedControl},
		"a zero byte":   {open + "\"\x00\"" + shut, open + `"\u0000"` + shut, RepairedControl},
		"in a name": {
			"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"\t\xff\":1}}",
			`{"jsonrpc":"2.0","id":7,"result":{"\t` + "\ufffd" + `":1}}`,
			RepairedControl | RepairedUTF8,
		},
		"a byte order mark": {"\ufeff" + plain, plain, RepairedBOM},
		"error: null":       {`{"jsonrpc":"2.0","id":7,"result":{},"error":null}`, plain, RepairedEnvelope},
		"result: null": {
			`{"jsonrpc":"2.0","id":7,"result":null,"error":{"code":1,"message":"m"}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}`,
			RepairedEnvelope,
		},
		"both null": {
			`{"jsonrpc":"2.0","id":7,"result":null,"error":null}`,
			`{"jsonrpc":"2.0","id":7,"result":null}`,
			RepairedEnvelope,
		},
		"all members": {
			`{"jsonrpc":"2.0","id":7,"method":null,"params":null,"result":{},"error":null}`,
			plain,
			RepairedEnvelope,
		},
		"all of a notification": {
			`{"jsonrpc":"2.0","id":null,"method":"m","params":null,"result":null,"error":null}`,
			`{"jsonrpc":"2.0","method":"m"}`,
			RepairedEnvelope,
		},
		"with the request": {
			`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"n"},"result":{}}`,
			plain,
			RepairedEnvelope,
		},
		"no jsonrpc": {`{"id":7,"result":{}}`, plain, RepairedEnvelope},
		"no jsonrpc, a request": {
			`{"id":7,"method":"ping"}`,
			`{"jsonrpc":"2.0","id":7,"method":"ping"}`,
			RepairedEnvelope,
		},
		"jsonrpc: 2.0":   {`{"jsonrpc":2.0,"id":7,"result":{}}`, plain, RepairedEnvelope},
		"jsonrpc: 2":     {`{"jsonrpc":"2","id":7,"result":{}}`, plain, RepairedEnvelope},
		"jsonrpc: null":  {`{"jsonrpc":null,"id":7,"result":{}}`, plain, RepairedEnvelope},
		"upper case":     {`{"JSONRPC":"2.0","ID":7,"Result":{}}`, plain, RepairedEnvelope},
		"the same twice": {`{"jsonrpc":"2.0","id":7,"id":7,"result":{}}`, plain, RepairedEnvelope},
		"error: text": {
			`{"jsonrpc":"2.0","id":7,"error":"boom"}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"boom"}}`,
			RepairedError,
		},
		"error: list": {
			`{"jsonrpc":"2.0","id":7,"error":["boom"]}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"[\"boom\"]"}}`,
			RepairedError,
		},
		"code as text": {
			`{"jsonrpc":"2.0","id":7,"error":{"code":"-32601","message":"m","data":1}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"m","data":1}}`,
			RepairedError,
		},
		"code with a point is an integer and stays": {
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32601.0,"message":"m"}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32601.0,"message":"m"}}`,
			0,
		},
		"code as a word": {
			`{"jsonrpc":"2.0","id":7,"error":{"code":"EFAIL","message":"m"}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"m","data":{"code":"EFAIL","message":"m"}}}`,
			RepairedError,
		},
		"no code": {
			`{"jsonrpc":"2.0","id":7,"error":{"message":"m","data":2}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"m","data":2}}`,
			RepairedError,
		},
		"no message": {
			`{"jsonrpc":"2.0","id":7,"error":{"code":-5}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-5,"message":"the server gave no message with its error"}}`,
			RepairedError,
		},
		"message as an object": {
			`{"jsonrpc":"2.0","id":7,"error":{"code":-5,"message":{"a":1}}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-5,"message":"{\"a\":1}"}}`,
			RepairedError,
		},
		"log text before": {`done ` + plain, plain, RepairedFraming},
		"log text after":  {plain + ` done`, plain, RepairedFraming},
		"a time before":   {`[2026-01-01 10:00:00] INFO {"a":1} ` + plain + "\r", plain, RepairedFraming},
		"a quote before":  {`it's "done {"jsonrpc": "2.0", "id":7,"result":{}}`, plain, RepairedFraming},
		"two messages": {
			plain + `{"jsonrpc":"2.0","method":"m"} ` + plain,
			plain + ` {"jsonrpc":"2.0","method":"m"} ` + plain,
			RepairedFraming,
		},
		"an array": {`[` + plain + `]`, plain, RepairedFraming},
		"an array of two": {
			`[` + plain + `,{"id":8,"result":{}}]`,
			plain + ` {"jsonrpc":"2.0","id":8,"result":{}}`,
			RepairedFraming | RepairedEnvelope,
		},
		"no id": {`{"jsonrpc":"2.0","result":{}}`, `{"jsonrpc":"2.0","result":{}}`, 0},
		"an error without id": {
			`{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}`,
			`{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}`,
			0,
		},
		"several ways at once": {
			"\ufefflog {\"id\":7,\"result\":{\"a\":\"\xff\\ud800\t\"},\"error\":null}",
			`{"jsonrpc":"2.0","id":7,"result":{"a":"` + "\ufffd" + `\ufffd\t"}}`,
			RepairedBOM | RepairedFraming | RepairedEnvelope | RepairedUTF8 | RepairedSurrogate | RepairedControl,
		},
		"an echo of the request": {
			`got {"jsonrpc":"2.0","id":7,"method":"tools/call"} ` + plain,
			plain,
			RepairedFraming,
		},
	} {
		said := Understand([]byte(test.in))
		var got []string
		for _, m := range said.Messages {
			got = append(got, string(m.Encode()))
		}
		if strings.Join(got, " ") != test.want || said.Repairs != test.repairs || said.Unreadable != nil {
			t.Errorf(
				"%s: %q with %v and %+v; want %q with %v",
				name,
				got,
				said.Repairs.Names(),
				said.Unreadable,
				test.want,
				test.repairs.Names(),
			)
		}
	}
}

func TestWhatCannotBeUnderstoodTellsItsID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for name, test := range map[string]struct {
		in, ids, reason string
	}{
		"NaN": {`{"jsonrpc":"2.0","id":7,"result":{"mean":NaN}}`, `7`, `invalid character 'N'`},
		"Infinity": {
			`{"jsonrpc":"2.0","id":7,"result":{"max":-Infinity}}`,
			`7`,
			`invalid character 'I'`,
		},
		"truncated":              {`{"jsonrpc":"2.0","id":7,"result":{"content":[{"te`, `7`, "ends too early"},
		"truncated after the id": {`{"jsonrpc":"2.0","id":7`, ``, "unexpected EOF"},
		"truncated in the id":    {`{"jsonrpc":"2.0","id":"abc`, ``, "unexpected EOF"},
		"an open quote": {
			`{"jsonrpc":"2.0","id":7,"result":{"text":"say "hi" now"}}`,
			`7`,
			"invalid character 'h'",
		},
		"an open quote, id last": {
			`{"result":{"text":"say "hi} now"}},"jsonrpc":"2.0","id":7}`,
			`7`,
			"ends too early",
		},
		"an open quote, long": {
			`{"result":{"text":"say "` + long + `},"jsonrpc":"2.0","id":"7"}` + " \r",
			`"7"`,
			"invalid character 'x'",
		},
		"ids in the result": {
			`{"result":{"id":1,"items":[{"id":2},{"jsonrpc":"2.0","id":3}],"x":NaN},"jsonrpc":"2.0","id":7}`,
			`7`,
			"invalid character 'N'",
		},
		"ids in a truncated result": {
			`{"result":{"id":1,"items":[{"id":2},{"jsonrpc":"2.0","id":3}`,
			``,
			"unexpected EOF",
		},
		"a trailing comma": {`{"jsonrpc":"2.0","id":7,"result":{},}`, `7`, "invalid character ','"},
		"result and error": {
			`{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"m"}}`,
			`7`,
			"not both",
		},
		"neither": {`{"jsonrpc":"2.0","id":7}`, `7`, "needs a method, a result or an error"},
		"error: null alone": {
			`{"jsonrpc":"2.0","id":7,"error":null}`,
			`7`,
			"needs a method, a result or an error",
		},
		"two results": {
			`{"jsonrpc":"2.0","id":7,"result":{},"result":{"a":1}}`,
			`7`,
			`"result" occurs twice`,
		},
		"two ids":               {`{"jsonrpc":"2.0","id":7,"id":8,"result":{}}`, `7 8`, `"id" occurs twice`},
		"another version":       {`{"jsonrpc":"1.0","id":7,"result":{}}`, `7`, `must be "2.0"`},
		"log text and NaN":      {`done {"jsonrpc":"2.0","id":7,"result":NaN}`, `7`, "invalid character 'N'"},
		"UTF-16":                {utf16LE(plain), `7`, "UTF-16"},
		"UTF-16 with a mark":    {"\xff\xfe" + utf16LE(plain), `7`, "UTF-16"},
		"UTF-16, big end first": {"\x00" + utf16LE(plain), `7`, "UTF-16"},
		"a request": {
			`{"jsonrpc":"2.0","id":7,"method":"roots/list","params":{"a":NaN}}`,
			`7`,
			"invalid character 'N'",
		},
		"in an array":         {`[{"jsonrpc":"2.0","id":7,"result":{},"error":{}}]`, `7`, "not both"},
		"an id that is no id": {`{"jsonrpc":"2.0","id":{"id":7},"result":NaN}`, ``, "invalid character 'N'"},
		"a bare object":       {`{"id":7}`, `7`, "needs a method"},

		"single quotes": {
			`{'jsonrpc': '2.0', 'id': 7, 'result': {'a': None}}`,
			`7`,
			"invalid character '\\''",
		},
		"text":                 {`server is listening`, ``, "invalid character 's'"},
		"nothing":              {``, ``, "unexpected EOF"},
		"an array of text":     {`["a"]`, ``, "batches"},
		"a record of a log":    {`{"level":"error","id":7,"error":"boom"}`, ``, `must be "2.0"`},
		"a record, truncated":  {`{"level":"error","id":7,"msg":"bo`, ``, "unexpected EOF"},
		"a text with an id":    {`handled {"id":7,"took":3}`, ``, "invalid character 'h'"},
		"an echo of a request": {`got {"jsonrpc":"2.0","id":7,"method":"tools/call"}`, ``, "invalid character 'g'"},
		"an echo, with NaN": {
			`got {"jsonrpc":"2.0","id":7,"method":"tools/call","params":NaN}`,
			``,
			"invalid character 'g'",
		},
		"the beginning of what": {
			`sent {"jsonrpc":"2.0","id":7,"result":{"content":[{"ty...`,
			``,
			"invalid character 's'",
		},
	} {
		said := Understand([]byte(test.in))
		if said.Messages != nil || said.Unreadable == nil {
			t.Errorf("%s: %+v", name, said)
			continue
		}
		var ids []string
		for _, id := range said.Unreadable.IDs {
			ids = append(ids, string(id))
		}
		if strings.Join(ids, " ") != test.ids || !strings.Contains(said.Unreadable.Reason.Message, test.reason) {
			t.Errorf("%s: ids %q, reason %v; want %q, %q", name, ids, said.Unreadable.Reason, test.ids, test.reason)
		}
		if want := name == "a request"; said.Unreadable.IsMethod != want && test.ids != "" {
			t.Errorf("%s: a method: %v", name, said.Unreadable.IsMethod)
		}
	}
}

func utf16LE(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.Write([]byte{c, 0})
	}
	return b.String()
}

func TestReadablePartOfATextIsReadBesideTheRest(t *testing.T) {
	t.Parallel()
	said := Understand([]byte(plain + `{"jsonrpc":"2.0","id":8,"result":NaN}` + `{"jsonrpc":"2.0","id":9,"result":{}}`))
	if len(said.Messages) != 2 || said.Messages[0].ID != "7" || said.Messages[1].ID != "9" ||
		said.Unreadable == nil || !slices.Equal(said.Unreadable.IDs, []ID{"8"}) {
		t.Errorf("%+v", said)
	}
}

func TestOversizedMessageTellsItsID(t *testing.T) {
	t.Parallel()
	reason := &Error{Message: "too long"}
	for _, test := range []struct {
		head, tail string
		want       []ID
		method     bool
	}{
		{`{"jsonrpc":"2.0","id":7,"result":{"a":"xxx`, `xxx"}}`, []ID{"7"}, false},
		{`{"result":{"id":1,"a":"xxx`, `xxx"},"jsonrpc":"2.0","id":7}`, []ID{"7"}, false},
		{`{"jsonrpc":"2.0","method":"m","params":"xxx`, `xxx","jsonrpc":"2.0","id":7}`, nil, true},
		{`xxx`, `xxx`, nil, false},
	} {
		u := Oversized([]byte(test.head), []byte(test.tail), reason)
		if !slices.Equal(u.IDs, test.want) || u.IsMethod != test.method || u.Reason != reason {
			t.Errorf("%s: %+v", test.head, u)
		}
	}
}

func TestIDsOfAnotherTypeAreRecognized(t *testing.T) {
	t.Parallel()
	for in, want := range map[ID]ID{`7`: "7", `"7"`: "7", `7.0`: "7", `7e0`: "7", `70e-1`: "7", `"7.0"`: "7", `-0`: "0",
		`1796623456789012.0`: "1796623456789012", `1.796623456789012e15`: "1796623456789012",
		`7.5`: "", `"a"`: "", `null`: "", ``: "", `1e400`: "", `"0x7"`: "", `"1_0"`: "", `"Inf"`: "", `true`: "", `1e17`: ""} {
		if got, ok := in.Integer(); got != want || ok != (want != "") {
			t.Errorf("%s is %s, %v; want %s", in, got, ok, want)
		}
	}
}

func TestMessagesOfClientsAreReadPatiently(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in, want string // want: the message, or the id
		repairs  Repairs
		err      string
	}{
		"half a surrogate": {`{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":"\ud83d"}}`,
			`{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":"\ufffd"}}`, RepairedSurrogate, ""},
		"latin-1": {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{\"a\":\"\xe9\"}}",
			"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{\"a\":\"\ufffd\"}}", RepairedUTF8, ""},
		"a raw tab": {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":{\"a\":\"\t\"}}",
			`{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":"\t"}}`, RepairedControl, ""},
		"params: null": {
			`{"jsonrpc":"2.0","id":7,"method":"m","params":null}`,
			`{"jsonrpc":"2.0","id":7,"method":"m"}`,
			RepairedEnvelope,
			"",
		},
		"error: null":       {`{"jsonrpc":"2.0","id":7,"result":{},"error":null}`, plain, RepairedEnvelope, ""},
		"a byte order mark": {"\ufeff" + plain, plain, RepairedBOM, ""},
		"NaN":               {`{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":NaN}}`, `7`, 0, "not valid JSON"},
		"truncated":         {`{"jsonrpc":"2.0","id":"x","method":"m","params":{"a":`, `"x"`, 0, "not valid JSON"},
		"no jsonrpc":        {`{"id":7,"method":"m"}`, `7`, 0, `must be "2.0"`},
		"twice":             {`{"jsonrpc":"2.0","id":7,"method":"m","method":"m"}`, `7`, 0, "occurs twice"},
		"two ids":           {`{"jsonrpc":"2.0","id":7,"id":8,"method":"m"}`, ``, 0, "occurs twice"},
		"upper case":        {`{"jsonrpc":"2.0","ID":7,"METHOD":"m"}`, `7`, 0, "needs a method"},
		"two messages":      {plain + plain, `7`, 0, "not valid JSON"},
		"text before":       {`x ` + plain, ``, 0, "not valid JSON"},
		"id: null":          {`{"jsonrpc":"2.0","id":null,"method":"m"}`, `null`, 0, "must not be null"},
		"no id":             {`{"jsonrpc":"2.0","result":{},"error":null}`, ``, 0, "needs an id"},
		"half an id": {
			`{"jsonrpc":"2.0","id":"\ud83d","method":"m"}`,
			`"\ufffd"`,
			0,
			"the id is not valid UTF-8",
		},
		"valid": {plain, plain, 0, ""},
	} {
		m, repairs, err := ParsePatiently([]byte(test.in))
		got := string(m.ID)
		if err == nil {
			got = string(m.Encode())
		}
		if got != test.want || repairs != test.repairs || (err == nil) != (test.err == "") ||
			err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf(
				"%s: %s with %v, %v; want %s with %v, %q",
				name,
				got,
				repairs.Names(),
				err,
				test.want,
				test.repairs.Names(),
				test.err,
			)
		}
	}
}

// A text that Parse accepts is not changed, and everything else becomes messages that Parse accepts.
func FuzzUnderstand(f *testing.F) {
	for _, seed := range []string{plain, open + `"\ud83d` + "\xe9\t" + `"` + shut, `[` + plain + `]`, "log " + plain + plain, "\ufeff" + plain,
		`{"ID":"7","result":null,"error":{"code":"1"}}`, `{"result":{"a":"b"c"},"jsonrpc":"2.0","id":7}`, utf16LE(plain),
		`{"jsonrpc":"2.0","id":7,"method":"m","params":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		strict, strictErr := Parse(data)
		for _, said := range []Said{Understand(data), patiently(data)} {
			for _, m := range said.Messages {
				check := m
				if check.Kind() == Response && check.ID == "" {
					check.ID = Null
				}
				again, err := Parse(check.Encode())
				if err != nil || string(again.Encode()) != string(check.Encode()) || !utf8.Valid(check.Encode()) {
					t.Fatalf("%q is understood as %q, which is no message: %v", data, check.Encode(), err)
				}
				if m.Error != nil && !isErrorObject(m.Error) && strictErr != nil {
					t.Fatalf("%q has the error %s", data, m.Error)
				}
			}
			if u := said.Unreadable; u != nil {
				for _, id := range u.IDs {
					if _, err := parseID(json.RawMessage(id)); err != nil || !json.Valid([]byte(id)) {
						t.Fatalf("%q has the id %q", data, id)
					}
				}
			}
			if strictErr == nil && strict.Error == nil && (len(said.Messages) != 1 || said.Repairs != 0 || said.Unreadable != nil ||
				string(said.Messages[0].Encode()) != string(strict.Encode())) {
				t.Fatalf("%q is understood as %+v", data, said)
			}
		}
	})
}

func patiently(data []byte) Said {
	m, repairs, err := ParsePatiently(data)
	if err != nil {
		return Said{Unreadable: &Unreadable{Reason: AsError(err)}}
	}
	return Said{Messages: []Message{m}, Repairs: repairs}
}
