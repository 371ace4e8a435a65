package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

const result = `{"jsonrpc":"2.0","id":$ID,"result":{"n":1}}`

// literally makes a call that is answered with exactly that text; $ID in it is the id of the call.
func literally(ctx context.Context, c caller, text string) (jsonrpc.Message, error) {
	quoted := string(jsonrpc.String(strconv.QuoteToASCII(text)))
	return c.Call(ctx, toolCall("literally", `{"text":`+quoted+`}`))
}

// overStreams connects over the transports that have one stream for all answers, and over Streamable HTTP with answers
// that are event streams.
func overStreams(t *testing.T, test func(t *testing.T, e env, c *Conn)) {
	t.Helper()
	for name, spec := range map[string]Spec{
		"stdio":           childSpec(t, "script"),
		"HTTP+SSE":        newSSEScript(t).spec(),
		"Streamable HTTP": newHTTPScript(t, func(h *httpScript) { h.events = true }).spec(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec.MaxMessage = 64 << 10
			e := newEnv(t, spec)
			test(t, e, e.connect(t, nil))
		})
	}
}

func TestAnswerThatIsNotQuiteJSONRPCIsRepairedAndCounted(t *testing.T) {
	t.Parallel()
	overStreams(t, func(t *testing.T, e env, c *Conn) {
		for name, test := range map[string]struct{ text, want, repair string }{
			"half an emoji": {`{"jsonrpc":"2.0","id":$ID,"result":{"a":"\ud83d"}}`, `{"a":"\ufffd"}`, "surrogate"},
			"latin-1": {
				"{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"a\":\"\xe9\"}}",
				"{\"a\":\"\ufffd\"}",
				"utf8",
			},
			"a raw tab": {
				"{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"a\":\"\t\"}}",
				`{"a":"\t"}`,
				"control",
			},
			"error: null":      {`{"jsonrpc":"2.0","id":$ID,"result":{"n":1},"error":null}`, `{"n":1}`, "envelope"},
			"no jsonrpc":       {`{"id":$ID,"result":{"n":1}}`, `{"n":1}`, "envelope"},
			"log text before":  {`done ` + result, `{"n":1}`, "framing"},
			"log text after":   {result + ` done`, `{"n":1}`, "framing"},
			"an array":         {`[` + result + `]`, `{"n":1}`, "framing"},
			"the id as text":   {strings.Replace(result, "$ID", `"$ID"`, 1), `{"n":1}`, "id"},
			"the id as double": {strings.Replace(result, "$ID", `$ID.0`, 1), `{"n":1}`, "id"},
			"error: text": {
				`{"jsonrpc":"2.0","id":$ID,"error":"boom"}`,
				`{"code":-32603,"message":"boom"}`,
				"error",
			},
		} {
			count := func() float64 {
				return instrumenttest.Value(t, e.reg, "mcphub_messages_repaired_total", "repair", test.repair)
			}
			before := count()
			m, err := literally(t.Context(), c, test.text)
			if got := string(m.Result) + string(m.Error); err != nil || got != test.want {
				t.Errorf("%s: %s, %v; want %s", name, got, err, test.want)
			}
			if n := count() - before; n != 1 {
				t.Errorf("%s: counted %v times as %s", name, n, test.repair)
			}
		}
		if n := len(e.log.attr("the server sends messages that are not quite JSON-RPC; they are repaired", "repaired")); n != 7 {
			t.Errorf("%d records of the log; want one for each kind of repair", n)
		}
	})
}

func TestAnswerThatCannotBeReadEndsItsCallAtOnceWithTheReason(t *testing.T) {
	t.Parallel()
	overStreams(t, func(t *testing.T, e env, c *Conn) {
		other := make(chan error, 1)
		go func() {
			_, err := c.Call(t.Context(), toolCall("hold", `{"key":"k"}`))
			other <- err
		}()
		told := 0
		for name, test := range map[string]struct{ text, want string }{
			"NaN":            {`{"jsonrpc":"2.0","id":$ID,"result":{"a":NaN}}`, "invalid character 'N'"},
			"truncated":      {`{"jsonrpc":"2.0","id":$ID,"result":{"content":[`, "it ends too early"},
			"an open quote":  {`{"result":{"a":"say "hi" now"},"jsonrpc":"2.0","id":$ID}`, "invalid character 'h'"},
			"both":           {`{"jsonrpc":"2.0","id":$ID,"result":{},"error":{"code":1,"message":"m"}}`, "not both"},
			"neither":        {`{"jsonrpc":"2.0","id":$ID}`, "needs a method, a result or an error"},
			"two results":    {`{"jsonrpc":"2.0","id":$ID,"result":{},"result":{"a":1}}`, `"result" occurs twice`},
			"two ids":        {`{"jsonrpc":"2.0","id":$ID,"id":99999,"result":{}}`, `"id" occurs twice`},
			"the id as text": {`{"jsonrpc":"2.0","id":"$ID","result":{"a":NaN}}`, "invalid character 'N'"},
			"log text":       {`done {"jsonrpc":"2.0","id":$ID,"result":{"a":NaN}}`, "invalid character 'N'"},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, err := literally(ctx, c, test.text)
			cancel()
			if !errors.Is(err, transport.ErrProtocol) ||
				!strings.Contains(err.Error(), "broke the protocol: its answer cannot be read: ") ||
				!strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v; want %q", name, err, test.want)
			}
			told++
		}
		if n := instrumenttest.Value(t, e.reg, "mcphub_messages_unreadable_total", "outcome", "told"); n != float64(told) {
			t.Errorf("%v are counted, want %d", n, told)
		}
		tool(t, c, "release", `{"key":"k"}`)
		if err := wait(t, "the other call ends", other); err != nil {
			t.Errorf("another call: %v", err)
		}
	})
}

func TestTextWithoutIDIsLoggedAndEndsNoCall(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.Secrets = []string{"s3cret-value"}
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	for _, text := range []string{`{"result":{"id":$ID,"a":NaN}}`, `listening with s3cret-value`, `{"level":"error","id":$ID,"error":"boom"}`,
		`got {"jsonrpc":"2.0","id":$ID,"method":"tools/call"}`, `sent {"jsonrpc":"2.0","id":$ID,"result":{"a":"` + strings.Repeat("x", 1000)} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := literally(ctx, c, text); !errors.Is(err, ErrCancelled) {
			t.Errorf("%s: %v", text, err)
		}
		cancel()
	}
	got := e.log.attr("the server sent a text that is no message", "text")
	if len(got) != 5 || got[1] != "listening with ***" || len(got[4]) != 120 {
		t.Errorf("the log has %q", got)
	}
	if n := instrumenttest.Value(t, e.reg, "mcphub_messages_unreadable_total", "outcome", "dropped"); n != 5 {
		t.Errorf("%v are counted", n)
	}
}

// JSON-RPC 2.0 section 5: a server that cannot read a request answers without its id.
func TestErrorWithoutIDEndsTheOnlyCallItCanBelongTo(t *testing.T) {
	t.Parallel()
	const refused = `"error":{"code":-32700,"message":"Parse error"}}`
	for name, spec := range map[string]Spec{"stdio": childSpec(t, "script"), "HTTP+SSE": newSSEScript(t).spec()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, spec)
			c := e.connect(t, nil)
			tool(t, c, "echo", "")
			for _, text := range []string{`"id":null,`, ``, `"id":[$ID],`} {
				m, err := literally(t.Context(), c, `{"jsonrpc":"2.0",`+text+refused)
				if err != nil || !strings.Contains(string(m.Error), "Parse error") {
					t.Errorf("%s: %s %s, %v", text, m.Result, m.Error, err)
				}
			}
			tool(t, c, "lines", `{"lines":["{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}"]}`)
			hubtest.Eventually(t, "what belongs to no call is in the log", func() bool {
				return len(e.log.attr("the server sent a response without the id of a request", "bytes")) == 1
			})
		})
	}
}

// Programs that print JSON for people write a message over several lines.
func TestMessageOverSeveralLinesIsReadOverStdio(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.MaxMessage = 64 << 10
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	const pretty = "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": $ID,\n  \"result\": {\n    \"n\": [\n      1\n    ]\n  }\n}"
	for name, test := range map[string]struct{ text, want string }{
		"indented":            {pretty, `1`},
		"not indented":        {strings.ReplaceAll(pretty, "  ", ""), `1`},
		"with CR":             {strings.ReplaceAll(pretty, "\n", "\r\n"), `1`},
		"brackets in strings": {strings.Replace(pretty, "1\n", "\"}]\\\"}\"\n", 1), `}]\"}`},
		"an array":            {"[\n" + pretty + "\n]", `1`},
		"behind log text":     {"ready\n{\n  a: 1\n}\n" + pretty, `1`},
		"behind an open one":  {"{\n" + result, `1`},
		"half an emoji":       {strings.Replace(pretty, "1\n", "\"\\ud83d\"\n", 1), `\ufffd`},
	} {
		m, err := literally(t.Context(), c, test.text)
		if err != nil || !strings.Contains(string(m.Result), test.want) {
			t.Errorf("%s: %s %s, %v; want %s", name, m.Result, m.Error, err, test.want)
		}
	}
	if n := instrumenttest.Value(t, e.reg, "mcphub_messages_repaired_total", "repair", "framing"); n != 6 {
		t.Errorf("%v are counted", n)
	}
	for name, test := range map[string]struct{ text, want string }{
		"NaN":      {strings.Replace(pretty, "1\n", "NaN\n", 1), "invalid character 'N'"},
		"too long": {strings.Replace(pretty, "1\n", strings.Repeat("1,\n", 30<<10)+"1\n", 1), "it ends too early"},
		"cut off":  {pretty[:50] + "\n" + `{"jsonrpc":"2.0","method":"m"}`, "it ends too early"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := literally(ctx, c, test.text)
		cancel()
		if !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %s", name, err, test.want)
		}
	}
	tool(t, c, "echo", "")
}

func TestRequestOfTheServerThatCannotBeReadIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	c := e.connect(t, nil)
	tool(t, c, "lines", `{"lines":["{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"roots/list\",\"params\":NaN}"]}`)
	hubtest.Eventually(t, "the server gets an error", func() bool {
		return len(seen(t, c, `"id":"q","error":{"code":-32700`)) == 1
	})
}

func TestTooLongTextThatTellsNoIDEndsTheConnection(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.MaxMessage = 64 << 10
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	_, err := literally(t.Context(), c, strings.Repeat("x", 100<<10))
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "a message is too long: more than 65536 bytes") {
		t.Errorf("error %v", err)
	}
	wait(t, "the connection is lost", c.done())
}

func TestTooLongAnswerWithItsIDAsTextEndsItsCall(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.MaxMessage = 64 << 10
	c := newEnv(t, spec).connect(t, nil)
	for _, form := range []string{`{"jsonrpc":"2.0","id":"$ID","result":{"a":"x"}}`, `{"result":{"a":"x"},"jsonrpc":"2.0","id":"$ID"}`} {
		m, err := literally(t.Context(), c, strings.Replace(form, `"x"`, `"`+strings.Repeat("x", 100<<10)+`"`, 1))
		if text := string(m.Error) + fmt.Sprint(err); !strings.Contains(text, "more than 65536 bytes (limits.maxMessageBytes)") {
			t.Errorf("%.40s: %s", form, text)
		}
		if m := tool(t, c, "echo", ""); m.Error != nil {
			t.Errorf("the next call: %s", m.Error)
		}
	}
}

// The answer to a POST belongs to its request, whatever its id.
func TestAnswerOverHTTPMayHaveNoID(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"null": `{"jsonrpc":"2.0","id":null,"result":{"n":1}}`, "none": `{"jsonrpc":"2.0","result":{"n":1}}`,
		"as text": `{"jsonrpc":"2.0","id":"$ID","result":{"n":1}}`, "in an array": `[` + result + `]`,
		"behind a notification": `{"jsonrpc":"2.0","method":"notifications/message","params":{}}` + "\n" + result,
		"behind log text":       `done ` + result, "half an emoji": `{"jsonrpc":"2.0","id":$ID,"result":{"n":1},"error":null}`,
	} {
		for _, events := range []bool{false, true} {
			h := newHTTPScript(t, answers(func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
				if !events {
					object(200, text)(w, r, m)
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				writeEvent(w, "", strings.ReplaceAll(text, "$ID", string(m.ID)))
			}))
			sink := &recorder{}
			req := toolCall("echo", "")
			req.Sink = sink
			m, err := newEnv(t, h.spec()).connect(t, nil).Call(t.Context(), req)
			if err != nil || string(m.Result) != `{"n":1}` {
				t.Errorf("%s: %s, %v", name, m.Result, err)
			}
			if n := len(sink.notifications()); n != strings.Count(text, "notifications/") {
				t.Errorf("%s: %d notifications", name, n)
			}
		}
	}
}

func TestStreamThatEndsAfterAnUnreadableEventSaysSo(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, answers(func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		w.Header().Set("Content-Type", "text/event-stream")
		writeEvent(w, "", `{"result":{"a":NaN}}`)
	}))
	_, err := newEnv(t, h.spec()).connect(t, nil).Call(t.Context(), toolCall("echo", ""))
	if !errors.Is(err, ErrLost) ||
		!strings.Contains(err.Error(), "EOF after an event that cannot be read: the message is not valid JSON") {
		t.Errorf("error %v", err)
	}
}

func TestResultForAClientIsAnObject(t *testing.T) {
	t.Parallel()
	l := run(t, []Spec{childSpec(t, "script")}).settled(t).link(t, "child", LinkConfig{})
	for name, test := range map[string]struct{ result, want, err string }{
		"an object": {`{"a":1}`, `{"a":1}`, ""},
		"null":      {`null`, `{}`, ""},
		"a text":    {`"done"`, ``, "broke the protocol: its result is not an object"},
		"a list":    {`[]`, ``, "its result is not an object"},
	} {
		m, err := l.Call(t.Context(), toolCall("raw", `{"text":`+string(jsonrpc.String(test.result))+`}`))
		if string(m.Result) != test.want || (err == nil) != (test.err == "") ||
			err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %s, %v; want %s, %q", name, m.Result, err, test.want, test.err)
		}
	}
}
