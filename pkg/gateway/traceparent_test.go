package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestTraceContextOfAClientIsParentOrLinkOrNothing(t *testing.T) {
	const header = "Traceparent: 00-11111111111111111111111111111111-2222222222222222-01"
	meta := fmt.Sprintf(`{"name":"one__echo","_meta":{"traceparent":"00-%s-%s-01"}}`, callerTrace, callerSpan)
	for _, c := range []struct {
		mode   observe.TraceParent
		trace  string // of the hub's span; "": one of its own
		linked []string
	}{
		{"", callerTrace, []string{"2222222222222222"}},
		{observe.ParentRemote, callerTrace, []string{"2222222222222222"}},
		{observe.ParentLink, "", []string{"2222222222222222", callerSpan}},
		{observe.ParentIgnore, "", nil},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(cfg *Config) { cfg.TraceParent = c.mode }})
			r.connect().post(request("1", "tools/call", meta), header)
			s := r.served("tools/call one__echo")
			got := s.SpanContext().TraceID().String()
			if c.trace != "" && got != c.trace {
				t.Errorf("the trace is %s, want the client's", got)
			}
			if c.trace == "" && (got == callerTrace || strings.HasPrefix(got, "1111") || s.Parent().IsValid()) {
				t.Errorf("the trace is %s with the parent %v, want one of the hub's own", got, s.Parent())
			}
			var linked []string
			for _, l := range s.Links() {
				linked = append(linked, l.SpanContext.SpanID().String())
			}
			if fmt.Sprint(linked) != fmt.Sprint(c.linked) {
				t.Errorf("linked are %q, want %q", linked, c.linked)
			}
		})
	}
}

func TestOnlyAllowedBaggageIsForwarded(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(cfg *Config) { cfg.Baggage = []string{"tenant"} }})
	got := r.connect().post(request("1", "tools/call",
		`{"name":"one__echo","_meta":{"baggage":"tenant=acme,password=hunter2","traceparent":"00-`+
			callerTrace+`-`+callerSpan+`-01"}}`)).body
	if !strings.Contains(got, "tenant=acme") || strings.Contains(got, "hunter2") {
		t.Errorf("the server got %s", got)
	}
}
