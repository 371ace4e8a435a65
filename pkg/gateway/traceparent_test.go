package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestTheTraceContextOfAClientIsParentOrLinkOrNothing(t *testing.T) {
	const header = "Traceparent: 00-11111111111111111111111111111111-2222222222222222-01"
	meta := fmt.Sprintf(`{"name":"one__echo","_meta":{"traceparent":"00-%s-%s-01"}}`, callerTrace, callerSpan)
	for _, c := range []struct {
		mode   TraceParent
		trace  string // of the hub's span; "": one of its own
		linked []string
	}{
		{"", callerTrace, []string{"2222222222222222"}},
		{ParentRemote, callerTrace, []string{"2222222222222222"}},
		{ParentLink, "", []string{"2222222222222222", callerSpan}},
		{ParentIgnore, "", nil},
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

func TestOnlyBaggageThatIsAllowedGoesOn(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(cfg *Config) { cfg.Baggage = []string{"tenant"} }})
	got := r.connect().post(request("1", "tools/call", `{"name":"one__echo","_meta":{"baggage":"tenant=acme,password=hunter2","traceparent":"00-`+
		callerTrace+`-`+callerSpan+`-01"}}`)).body
	if !strings.Contains(got, "tenant=acme") || strings.Contains(got, "hunter2") {
		t.Errorf("the server got %s", got)
	}
}

// A client that asks for a session may not get one for reasons of its own, or the hub's;
// no server has anything to do with it.
func TestASessionThatIsNotHadIsTheFaultOfTheHubOrOfTheClient(t *testing.T) {
	for name, x := range map[string]struct {
		hub   setup
		fault instrument.Fault
	}{
		"a store that fails":    {setup{store: &moody{}}, instrument.FaultHub},
		"too many sessions":     {setup{sessions: func(c *session.Config) { c.MaxSessions = 1 }}, instrument.FaultHub},
		"too many of one's own": {setup{sessions: func(c *session.Config) { c.MaxSessionsPerClient = 1 }}, instrument.FaultClient},
		"a client that is gone": {setup{}, instrument.FaultClient},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, x.hub)
			r.connect()
			if store, ok := r.store.(*moody); ok {
				store.fails.Store(true)
				defer store.fails.Store(false)
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			if name == "a client that is gone" {
				leave()
			}
			request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/mcp", strings.NewReader(initializeBody))
			request.RemoteAddr = "127.0.0.1:1"
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Accept", "application/json, text/event-stream")
			r.gateway.ServeHTTP(httptest.NewRecorder(), request)
			count := func(fault instrument.Fault) float64 {
				return r.metric("mcphub_operations_total", "fault", string(fault), "mcp_method_name", "initialize")
			}
			if count(x.fault) != 1 {
				t.Errorf("it was not the fault of the %s, but %v of the hub, %v of the client, %v of a server", x.fault,
					count(instrument.FaultHub), count(instrument.FaultClient), count(instrument.FaultBackend))
			}
		})
	}
}

func TestEveryRequestSaysWhoseFaultItIs(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), absent("gone")}})
	c := r.connect()
	for _, x := range []struct {
		params string
		fault  instrument.Fault
	}{
		{`{"name":"one__echo"}`, instrument.FaultNone},
		{`{"name":"invented"}`, instrument.FaultClient},
		{`{"name":"one__fail"}`, instrument.FaultTool},
		{`{"name":"one__fail","arguments":{"error":{"code":-32000,"message":"no luck"}}}`, instrument.FaultBackend},
		{`{"name":"gone__x"}`, instrument.FaultBackend},
	} {
		count := func() float64 {
			return r.metric("mcphub_operations_total", "fault", string(x.fault), "mcp_method_name", "tools/call")
		}
		before := count()
		c.call("1", "tools/call", x.params)
		if after := count(); after != before+1 {
			t.Errorf("%s: faults of %s went from %v to %v", x.params, x.fault, before, after)
		}
	}
}
