package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// connectForBatches creates a session of the version that has batches.
func (r *rig) connectForBatches() *peer {
	r.t.Helper()
	return r.connectWith(strings.Replace(initializeBody, "2025-11-25", protocol.BatchVersion, 1))
}

func batchOf(messages ...string) string { return "[" + strings.Join(messages, ",") + "]" }

// responses returns the responses of a list, by id.
func (p reply) responses(t *testing.T) map[jsonrpc.ID][]jsonrpc.Message {
	t.Helper()
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(p.body), &all); err != nil || p.status != http.StatusOK ||
		p.header.Get("Content-Type") != protocol.TypeJSON {
		t.Fatalf("not a list: %d %s", p.status, p.body)
	}
	byID := map[jsonrpc.ID][]jsonrpc.Message{}
	for _, raw := range all {
		m, err := jsonrpc.Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		byID[m.ID] = append(byID[m.ID], m)
	}
	return byID
}

func TestBatchIsAnsweredWithAList(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connectForBatches()
	p := c.post(batchOf(request("1", "ping", `{}`), `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		request(`"a"`, "tools/list", `{}`), request("2", "no/such", `{}`), request("3", "initialize",
			`{"protocolVersion":"2025-03-26","capabilities":{}}`),
		request("4", "ping", `{}`), request("4", "tools/list", `{}`), `{"jsonrpc":"2.0","id":9}`, `1`, `[]`))
	all := p.responses(t)
	if string(all["1"][0].Result) != `{}` || !strings.Contains(string(all[`"a"`][0].Result), "one__echo") || all["2"][0].Error == nil {
		t.Errorf("answered with %s", p.body)
	}
	for id, want := range map[jsonrpc.ID]int{"1": 1, `"a"`: 1, "2": 1, "3": 1, "4": 2, "null": 3} {
		if len(all[id]) != want {
			t.Errorf("%d answers with id %s, want %d", len(all[id]), id, want)
		}
		for _, m := range all[id] {
			if m.Error != nil && id != "2" && jsonrpc.ParseError(m.Error).Code != -32600 {
				t.Errorf("%s is refused with %s", id, m.Error)
			}
		}
	}
	if len(all) != 6 || !strings.Contains(string(all["3"][0].Error), "cannot be part of a batch") {
		t.Errorf("answered with %s", p.body)
	}
	if sessions, _ := r.sessions.All(); len(sessions) != 1 {
		t.Errorf("there are %d sessions", len(sessions))
	}
	r.conserved(0)
	if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != 0 {
		t.Errorf("the session is %+v: %v", info, err)
	}
}

func TestBatchWithoutRequestsIsAccepted(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connectForBatches()
	s := c.open(http.MethodPost, request("1", "tools/call", `{"name":"one__hang","_meta":{"progressToken":1}}`))
	s.message()
	if p := c.post(batchOf(`{"jsonrpc":"2.0","id":"x","result":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)); p.status != http.StatusAccepted || p.body != "" {
		t.Errorf("answered %d %q", p.status, p.body)
	}
	if e, _ := s.next(); e.comment != "cancelled" {
		t.Errorf("the call received %+v", e)
	}
}

func TestSlowBatchIsAnsweredByAStreamThatCanBeResumed(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	c := r.connectForBatches()
	gated := func(id string) string {
		return request(id, "tools/call", fmt.Sprintf(`{"name":"one__gated","arguments":{"steps":1},"_meta":{"progressToken":%s}}`, id))
	}
	s := c.open(http.MethodPost, batchOf(gated("1"), gated("2"), request("3", "ping", `{}`)))
	if m := s.message(); m.ID != "3" || string(m.Result) != `{}` {
		t.Errorf("the stream begins with %s", m.Encode())
	}
	c.disconnect(s, "post_sse")
	c.steps(4)
	again := c.resume(s.last)
	seen := map[string]int{}
	for range 4 {
		m := again.message()
		seen[m.Method+string(m.ID)]++
	}
	again.waitForEnd()
	if seen["notifications/progress"] != 2 || seen["1"] != 1 || seen["2"] != 1 {
		t.Errorf("the rest of the stream is %v", seen)
	}
	// A hub without the stream answers all requests of the batch.
	unknown := c.resume("ABCDEFGH" + s.last[stream.EpochLength:])
	for _, id := range []jsonrpc.ID{"1", "2", "3"} {
		if m := unknown.message(); m.ID != id || !strings.Contains(string(m.Error), "not known") {
			t.Errorf("the answer is %s", m.Encode())
		}
	}
	unknown.waitForEnd()
	r.conserved(0)
}

func TestBatchIsLimited(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}, gateway: func(c *Config) { c.MaxInFlight = 2 }})
	c := r.connectForBatches()
	var hanging []string
	for i := range 4 {
		hanging = append(hanging, request(fmt.Sprint(i), "tools/call", `{"name":"one__hang"}`))
	}
	s := c.open(http.MethodPost, batchOf(hanging...))
	for range 2 {
		if m := s.message(); !strings.Contains(string(m.Error), "the session has 2 requests in flight already") {
			t.Errorf("a request beyond the limit got %s", m.Encode())
		}
	}
	c.post(batchOf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`))
	s.waitForEnd()
	for name, body := range map[string]string{
		"too many":    batchOf(strings.TrimSuffix(strings.Repeat("1,", jsonrpc.MaxBatch+1), ",")),
		"empty":       " [ ]",
		"not JSON":    `[{"jsonrpc":"2.0"`,
		"two of them": `[1][2]`,
	} {
		code := -32600
		if strings.Contains(name, "JSON") || strings.HasPrefix(name, "two") {
			code = -32700
		}
		if p := c.post(body); p.status != http.StatusBadRequest || p.rpcError(t).Code != code {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
	}
	if p := c.post(batchOf(strings.TrimSuffix(strings.Repeat("1,", jsonrpc.MaxBatch),
		","))); len(p.responses(t)["null"]) != jsonrpc.MaxBatch {
		t.Errorf("a batch of the maximum size: %d", p.status)
	}
	r.conserved(2)
}

func TestBatchesExistInOneVersionOnly(t *testing.T) {
	r := start(t, setup{})
	for _, version := range []string{"2025-11-25", "2025-06-18", "2024-11-05"} {
		c := r.connectWith(strings.Replace(initializeBody, "2025-11-25", version, 1))
		p := c.post(batchOf(pingBody))
		if e := p.rpcError(t); p.status != http.StatusBadRequest || e.Code != -32600 || !strings.Contains(e.Message, "batches") {
			t.Errorf("%s: %d %s", version, p.status, p.body)
		}
		if info, err := r.sessions.Info(t.Context(), c.id); err != nil || info.InFlight != 0 {
			t.Errorf("%s: the session is %+v: %v", version, info, err)
		}
	}
}
