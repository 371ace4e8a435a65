package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	callerSpan  = "b7ad6b7169203331"
)

// spansOf returns the finished spans of that kind and name.
func (r *rig) spansOf(kind trace.SpanKind, name string) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, s := range r.spans.Ended() {
		if s.SpanKind() == kind && s.Name() == name {
			found = append(found, s)
		}
	}
	return found
}

// served returns the last SERVER span of that name, once there is one.
func (r *rig) served(name string) sdktrace.ReadOnlySpan {
	r.t.Helper()
	hubtest.Eventually(r.t, "a span "+name, func() bool { return len(r.spansOf(trace.SpanKindServer, name)) > 0 })
	all := r.spansOf(trace.SpanKindServer, name)
	return all[len(all)-1]
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value.Emit()
	}
	return m
}

func TestEachMessageHasItsServerSpan(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two")}})
	c := r.connect()
	for _, x := range []struct {
		name, method, params string
		status               codes.Code
		want                 map[string]string // "" : must not be there
	}{
		{"tools/call one__echo", "tools/call", `{"name":"one__echo"}`, codes.Unset, map[string]string{
			"mcp.method.name": "tools/call", "gen_ai.tool.name": "one__echo", "gen_ai.operation.name": "execute_tool",
			"jsonrpc.request.id":   "77",
			"mcp.protocol.version": "2025-11-25", "network.transport": "tcp", "network.protocol.name": "http",
			"network.protocol.version": "1.1",
			"client.address":           "127.0.0.1", "mcp.session.id": c.id, "error.type": "", "rpc.response.status_code": ""}},
		{"tools/call one__fail", "tools/call", `{"name":"one__fail"}`, codes.Error, map[string]string{"error.type": "tool_error"}},
		{"tools/call two__fail", "tools/call", `{"name":"two__fail","arguments":{"error":{"code":-32000,"message":"no luck"}}}`,
			codes.Error,
			map[string]string{"error.type": "-32000", "rpc.response.status_code": "-32000"}},
		{"tools/call _OTHER", "tools/call", `{"name":"invented"}`, codes.Unset, map[string]string{
			"error.type": "", "rpc.response.status_code": "-32602", "gen_ai.tool.name": "_OTHER"}},
		{"prompts/get one__greet", "prompts/get", `{"name":"one__greet"}`, codes.Unset, map[string]string{
			"gen_ai.prompt.name": "one__greet", "gen_ai.operation.name": ""}},
		{"resources/read", "resources/read", `{"uri":"test://one/one"}`, codes.Unset,
			map[string]string{"mcp.resource.uri": "test://one/one"}},
		{"_OTHER", "x/invented", `{}`, codes.Unset,
			map[string]string{"mcp.method.name": "_OTHER", "rpc.response.status_code": "-32601", "error.type": ""}},
		{"ping", "ping", `{}`, codes.Unset, map[string]string{"error.type": ""}},
	} {
		c.call("77", x.method, x.params)
		s := r.served(x.name)
		have := attributesOf(s)
		for key, want := range x.want {
			if have[key] != want {
				t.Errorf("%s: %s is %q, want %q", x.name, key, have[key], want)
			}
		}
		if s.Status().Code != x.status {
			t.Errorf("%s: status %v", x.name, s.Status())
		}
	}
	if s := r.served("tools/call two__fail"); s.Status().Description != "error -32000" {
		t.Errorf("the description of the status is %q", s.Status().Description)
	}
	if have := attributesOf(r.served("initialize")); have["mcp.session.id"] != c.id || have["mcp.protocol.version"] != "2025-11-25" {
		t.Errorf("the span of initialize has %v", have)
	}
	if have := attributesOf(r.served("notifications/initialized")); have["mcp.session.id"] != c.id || have["jsonrpc.request.id"] != "" {
		t.Errorf("the span of a notification has %v", have)
	}

	// A long name, id or address is cut.
	long := strings.Repeat("x", 10_000)
	c.call(`"`+long+`"`, "x/"+long, `{}`)
	c.call("1", "resources/read", `{"uri":"`+long+`"}`)
	for _, s := range r.spans.Ended() {
		for key, value := range attributesOf(s) {
			if s.SpanKind() == trace.SpanKindServer && len(value) > maxField {
				t.Errorf("%s: %s has %d bytes", s.Name(), key, len(value))
			}
		}
	}
}

func TestSpanOfTheCallerIsTheParent(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connect()
	header := "Traceparent: 00-11111111111111111111111111111111-2222222222222222-01"
	meta := fmt.Sprintf(`{"name":"one__echo","_meta":{"traceparent":"00-%s-%s-01","tracestate":"a=b","other":1.50}}`, callerTrace,
		callerSpan)

	p := c.post(request("1", "tools/call", meta), header)
	s := r.served("tools/call one__echo")
	if s.Parent().TraceID().String() != callerTrace || s.Parent().SpanID().String() != callerSpan || !s.Parent().IsRemote() {
		t.Errorf("the header was preferred to _meta: the parent is %v", s.Parent())
	}
	clients := r.spansOf(trace.SpanKindClient, "tools/call echo")
	if len(clients) != 1 || clients[0].Parent().SpanID() != s.SpanContext().SpanID() {
		t.Errorf("the CLIENT span is not the child of the SERVER span: %v", clients)
	}
	body := string(p.response(t).Result)
	if !strings.Contains(body, fmt.Sprintf(`"traceparent":"00-%s-%s-01"`, callerTrace, clients[0].SpanContext().SpanID())) ||
		strings.Contains(body, callerSpan) || !strings.Contains(body, `"tracestate":"a=b"`) || !strings.Contains(body, `"other":1.50`) {
		t.Errorf("the server got %s", body)
	}

	c.post(request("1", "tools/call", `{"name":"one__weird","_meta":{"traceparent":"junk"}}`), header)
	if s := r.served("tools/call one__weird"); s.Parent().TraceID().String() != strings.Repeat("1", 32) {
		t.Errorf("the header was ignored: the parent is %v", s.Parent())
	}
	c.post(request("1", "ping", `{"_meta":7}`))
	if s := r.served("ping"); s.Parent().IsValid() {
		t.Errorf("an unexpected parent: %v", s.Parent())
	}
}

func TestVerifierIsShownNowhere(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")}})
	c := r.connect()
	stream := c.listen()
	var bodies strings.Builder
	for _, x := range [][2]string{
		{"tools/list", `{}`}, {"tools/call", `{"name":"one__echo"}`}, {"tools/call", `{"name":"one__state"}`},
		{"tools/call", `{"name":"web__count"}`},
		{"tools/call", `{"name":"none"}`}, {"no/such", `{}`}, {"resources/read", `{"uri":"x"}`}, {"logging/setLevel", `{"level":"debug"}`},
	} {
		bodies.WriteString(c.call("1", x[0], x[1]).body)
	}
	bodies.WriteString(c.post(`{`).body + c.post(pingBody, "Mcp-Protocol-Version: x").body)
	bodies.WriteString(r.send(http.MethodPost, pingBody, "Mcp-Session-Id: "+c.token+"x").body)
	bodies.WriteString(r.send(http.MethodPost, pingBody, "Mcp-Session-Id: x"+c.token).body)
	again := r.connect("Mcp-Session-Id: " + c.token)
	stream.waitForEnd()
	bodies.WriteString(again.send(http.MethodDelete, "", "Mcp-Session-Id: "+again.token).body)
	r.stop()

	var seen strings.Builder
	for _, s := range r.spans.Ended() {
		fmt.Fprintln(&seen, s.Name(), s.Attributes(), s.Events(), s.Status())
	}
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		seen.WriteString(f.String())
	}
	for _, v := range web.seen("", "") {
		fmt.Fprintln(&seen, v.session, v.method, string(v.params))
	}
	all := seen.String() + bodies.String() + r.logs.String()
	if !strings.Contains(all, c.id) {
		t.Error("the public id is missing: was anything recorded?")
	}
	for _, p := range []*peer{c, again} {
		_, verifier, _ := strings.Cut(p.token, ".")
		if i := strings.Index(all, verifier); i >= 0 {
			t.Errorf("the verifier is shown: %.200s", all[max(0, i-150):])
		}
	}
}

func TestMetricsAreNamedAndLimited(t *testing.T) {
	web := newWeb(t)
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), web.spec("web")}})
	c := r.connect()
	c.tool("one__echo", `{}`)
	before := r.series()
	for i := range 50 {
		c.call("1", fmt.Sprintf("invented/%d", i), `{}`)
		c.call("1", "tools/call", fmt.Sprintf(`{"name":"invented%d"}`, i))
		c.call("1", "tools/call", fmt.Sprintf(`{"name":"one__fail","arguments":{"error":{"code":%d,"message":"x"}}}`, 1000+i))
		c.post(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/invented/%d"}`, i))
		r.send(http.MethodPost, initializeBody, fmt.Sprintf("User-Agent: %d", i))
	}
	if grown := r.series() - before; grown > 8 {
		t.Errorf("invented names made %d series", grown)
	}
	const op = "mcp_server_operation_duration_seconds"
	for want, labels := range map[float64][]string{
		100: {"mcp_method_name", "_OTHER", "gen_ai_tool_name", "", "error_type", ""},
		50:  {"mcp_method_name", "tools/call", "gen_ai_tool_name", "_OTHER"},
		1: {"mcp_method_name", "tools/call", "gen_ai_tool_name", "one__echo", "network_transport", "tcp", "mcp_protocol_version",
			"2025-11-25"},
		51: {"mcp_method_name", "initialize"},
	} {
		if got := r.metric(op, labels...); got != want {
			t.Errorf("%s%q counts %v, want %v", op, labels, got, want)
		}
	}
	problems, err := testutil.GatherAndLint(r.registry)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{op, "mcp_client_operation_duration_seconds", "mcphub_messages_total", "mcphub_message_bytes_total",
		"mcphub_requests_in_flight", "mcphub_streams_active", "mcphub_streams_closed_total", "mcphub_notifications_dropped_total",
		"mcphub_unmatched_responses_total", "mcphub_sessions_active"} {
		if n, err := testutil.GatherAndCount(r.registry, name); n == 0 || err != nil {
			t.Errorf("%s has no series: %v", name, err)
		}
	}
	if got := r.metric("mcphub_sessions_created_total") + r.metric("mcphub_sessions_restored_total") -
		r.metric("mcphub_sessions_closed_total") - r.metric("mcphub_sessions_active"); got != 0 {
		t.Errorf("%v sessions are unaccounted for", got)
	}
	r.conserved(0)
}

// series returns the number of series.
func (r *rig) series() int {
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		n += len(f.GetMetric())
	}
	return n
}

func TestEveryRequestInFlightIsCountedOutAgain(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(c *Config) { c.MaxInFlight = 2 }})
	c, other := r.connect(), r.connect()
	for _, id := range []string{"1", "2"} {
		s := c.open(http.MethodPost, request(id, "tools/call", `{"name":"one__hang","_meta":{"progressToken":1}}`))
		s.message()
		defer s.cancel()
	}
	c.call("1", "ping", `{}`) // an id that is in flight
	c.call("3", "ping", `{}`) // a request beyond the limit
	if got := r.metric("mcphub_requests_in_flight", "hop", "downstream"); got != 2 {
		t.Errorf("%v requests are in flight", got)
	}
	gone := other.open(http.MethodPost, request("1", "tools/call", `{"name":"one__hang","_meta":{"progressToken":1}}`))
	gone.message()
	gone.cancel() // the client does not read the response to this one
	gone.waitForEnd()
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	for _, p := range []*peer{c, other} {
		if _, err := r.sessions.End(t.Context(), p.id, session.Admin); err != nil {
			t.Error(err)
		}
	}
	r.conserved(1)
	if got := r.metric("mcp_server_operation_duration_seconds", "error_type", "cancelled"); got != 3 {
		t.Errorf("%v operations ended as cancelled", got)
	}
	kinds := []string{}
	for _, kind := range []string{"request", "response", "error", "notification"} {
		kinds = append(kinds, fmt.Sprint(kind, r.metric("mcphub_messages_total", "hop", "downstream", "direction", "in", "kind", kind)))
	}
	if want := []string{"request7", "response0", "error0", "notification3"}; !slices.Equal(kinds, want) {
		t.Errorf("came in: %q, want %q", kinds, want)
	}
}

func TestOverheadOfTheHubIsNeverNegative(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one"), stdio(t, "two"), stdio(t, "three"), stdio(t, "four")}})
	c := r.connect()
	for range 10 {
		c.call("1", "logging/setLevel", `{"level":"debug"}`).response(t)
	}
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if sum := m.GetHistogram().GetSampleSum(); sum < 0 {
				t.Errorf("%s has the sum %v", f.GetName(), sum)
			}
		}
	}
}
