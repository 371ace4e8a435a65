package instrument

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

const validParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// The cases are trace contexts that are valid or invalid according to W3C Trace Context and Baggage.
func TestCheckedContextKeepsOnlyValidContexts(t *testing.T) {
	t.Parallel()
	parent := `"traceparent":"` + validParent + `"`
	for _, x := range []struct{ name, meta, want string }{
		{"valid", `{` + parent + `,"tracestate":"a=b,c=d","x": 1}`, `{` + parent + `,"tracestate":"a=b,c=d","x": 1}`},
		{"no context", `{"x": 1}`, `{"x": 1}`},
		{"invalid traceparent", `{"traceparent":"junk","x":1}`, `{"x":1}`},
		{"a number", `{"traceparent":7,"x":1}`, `{"x":1}`},
		{"all zeros", `{"traceparent":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}`, `{}`},
		{"upper case", `{"traceparent":"00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"}`, `{}`},
		{"version ff", `{"traceparent":"ff` + validParent[2:] + `"}`, `{}`},
		{"escaped key", `{"trace\u0070arent":"junk","x":1}`, `{"x":1}`},
		{"tracestate without traceparent", `{"tracestate":"a=b","x":1}`, `{"x":1}`},
		{"tracestate with invalid traceparent", `{"traceparent":"junk","tracestate":"a=b"}`, `{}`},
		{"bad tracestate", `{` + parent + `,"tracestate":"= ="}`, `{` + parent + `}`},
		{"oversize tracestate", `{` + parent + `,"tracestate":"` + strings.Repeat("a=b,", 40) + `a=b"}`, `{` + parent + `}`},
		{"baggage", `{"baggage":"user=ada,tenant=7;p=1, other=x"}`, `{"baggage":"tenant=7;p=1"}`},
		{"allowed baggage", `{"baggage":"tenant=7"}`, `{"baggage":"tenant=7"}`},
		{"foreign baggage", `{"baggage":"user=ada"}`, `{}`},
		{"bad baggage", `{"baggage":"tenant"}`, `{}`},
		{"oversize baggage", `{"baggage":"tenant=` + strings.Repeat("x", 9000) + `"}`, `{}`},
	} {
		params := json.RawMessage(`{"name":"echo","_meta":` + x.meta + `}`)
		got := CheckedContext(params, []string{"tenant"})
		fields, err := jsonrpc.Fields(got, "_meta", "name")
		if err != nil || string(fields[0]) != x.want || string(fields[1]) != `"echo"` {
			t.Errorf("%s: %s became %.200s, %v", x.name, x.meta, got, err)
		}
	}
	for _, params := range []string{``, `[1,"traceparent"]`, `{"_meta":"traceparent"}`, `{"traceparent":"junk"}`} {
		if got := CheckedContext(json.RawMessage(params), nil); string(got) != params {
			t.Errorf("%s became %s", params, got)
		}
	}
}

func TestCheckedContextAllocatesNothingWithoutAContext(t *testing.T) {
	params := json.RawMessage(`{"name":"echo","arguments":{"text":"` + strings.Repeat("x", 1000) + `"},"_meta":{"progressToken":1}}`)
	if n := testing.AllocsPerRun(100, func() { CheckedContext(params, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
