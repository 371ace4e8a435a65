package upstream

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// weird is JSON that would not survive decoding and encoding.
const weird = `{ "big":12345678901234567890123 ,"float":1.10e+02, "neg":-0, "unknown":{"z":1,"a":[ ]},` +
	`"escaped":"\u00e9\u2028\/\ud83d\ude00", "dup":1, "dup":2, "html":"<&>", "utf8":"é😀", "":null}`

func TestParamsResultsAndErrorsKeepEveryByte(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)

		params := `{"name":"echo" , "arguments":` + weird + `,"more":[1.0,2.00]}`
		m, err := c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(params)})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(field(t, m.Result, "params")); got != params {
			t.Errorf("the server got\n%s, want\n%s", got, params)
		}

		result := `{"content":[ ],"structuredContent":` + weird + `}`
		m = tool(t, c, "raw", `{"text":`+string(jsonrpc.String(result))+`}`)
		if string(m.Result) != result || m.Error != nil {
			t.Errorf("the result is\n%s, want\n%s", m.Result, result)
		}

		failure := `{"code":-32042,"message":"a\u0062c","data":` + weird + `,"extra":1.0}`
		m = tool(t, c, "rawError", `{"text":`+string(jsonrpc.String(failure))+`}`)
		if string(m.Error) != failure || m.Result != nil {
			t.Errorf("the error is\n%s, want\n%s", m.Error, failure)
		}

		m, err = c.Call(t.Context(), Request{Method: "vendor/x", Params: json.RawMessage(weird)})
		if err != nil || string(field(t, m.Result, "params")) != weird {
			t.Errorf("an unknown method's params: %s, %v", m.Result, err)
		}
	})
}

// A message over stdio is one line; line breaks in valid JSON are white space.
func TestLineBreaksInParamsBecomeSpacesOverStdio(t *testing.T) {
	t.Parallel()
	c := newEnv(t, childSpec(t, "script")).connect(t, nil)
	params := "{\n\t\"name\": \"echo\",\r\n\t\"arguments\": {}\n}"
	request := json.RawMessage(params)
	m, err := c.Call(t.Context(), Request{Method: "tools/call", Params: request})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(field(t, m.Result, "params")), strings.NewReplacer("\n", " ", "\r", " ").Replace(params); got != want {
		t.Errorf("the server got %q, want %q", got, want)
	}
	if string(request) != params {
		t.Error("the caller's bytes were changed")
	}
}

func TestMessageOfMegabytesGoesBothWays(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		text := strings.Repeat("0123456789abcdef", 1<<17)
		m := tool(t, c, "echo", `{"text":"`+text+`"}`)
		if !strings.Contains(string(m.Result), text) {
			t.Errorf("%d bytes came back", len(m.Result))
		}
	})
}

func TestNotificationsAndServerRequestsKeepEveryByte(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		sink := &recorder{}
		line := `{"jsonrpc":"2.0","method":"notifications/message","params":` + weird + `}`
		lines, _ := json.Marshal([]string{line})
		req := toolCall("lines", `{"lines":`+string(lines)+`}`)
		req.Sink = sink
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := sink.notifications(); len(got) != 1 || string(got[0].Params) != weird || got[0].Method != "notifications/message" {
			t.Errorf("the sink got %+v", got)
		}
	})
}

func TestIDsAreUniqueOnAConnection(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		done := make(chan error)
		for range 32 {
			go func() {
				_, err := c.Call(t.Context(), toolCall("echo", ""))
				done <- err
			}()
		}
		for range 32 {
			if err := wait(t, "the calls return", done); err != nil {
				t.Fatal(err)
			}
		}
		ids := map[jsonrpc.ID]bool{}
		for _, line := range fieldStrings(t, tool(t, c, "seen", "").Result, "lines") {
			m, err := jsonrpc.Parse([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			if m.Kind() == jsonrpc.Request {
				if ids[m.ID] {
					t.Errorf("id %s was used twice", m.ID)
				}
				ids[m.ID] = true
			}
		}
		if len(ids) < 34 {
			t.Errorf("%d requests were seen", len(ids))
		}
	})
}

func TestParamsWhoseMetaCannotBeReadAreRefused(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	c := newEnv(t, h.spec()).connect(t, nil)
	for _, params := range []string{`{"_meta":3}`, `{"_meta":{"progressToken":1,"progressToken":2}}`, `{"_meta":{},"_meta":{}}`} {
		_, err := c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(params)})
		if e := jsonrpc.AsError(err); err == nil || e.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("%s: %v", params, err)
		}
	}
	if n := h.dispatched("tools/call"); n != 0 {
		t.Errorf("%d of them were sent", n)
	}
}
