package gateway

import (
	"encoding/json"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestServerRequestsBeyondTheLimitGetNoID(t *testing.T) {
	t.Parallel()
	x := &serverRequests{prefix: "ABCDEFGH"}
	seen := map[jsonrpc.ID]bool{}
	for range maxServerRequests {
		id, response := x.add()
		if response == nil || seen[id] {
			t.Fatalf("request %d: id %s, channel %v", len(seen), id, response)
		}
		seen[id] = true
	}
	if id, response := x.add(); response != nil || id != "" {
		t.Errorf("a request beyond the limit got the id %s", id)
	}
	x.remove(jsonrpc.ID(`"hub-ABCDEFGH-1"`))
	if id, response := x.add(); response == nil || seen[id] {
		t.Errorf("after the end of a request: id %s, channel %v", id, response)
	}
}

func TestOnlyTheFirstResponseToAServerRequestIsDelivered(t *testing.T) {
	t.Parallel()
	x := &serverRequests{prefix: "ABCDEFGH"}
	id, response := x.add()
	other, _ := x.add()
	if x.deliver(jsonrpc.NewResult(`"unknown"`, json.RawMessage(`{}`))) {
		t.Error("a response to no request was delivered")
	}
	if !x.deliver(jsonrpc.NewResult(id, json.RawMessage(`{"n":1}`))) {
		t.Error("the first response was not delivered")
	}
	if x.deliver(jsonrpc.NewResult(id, json.RawMessage(`{"n":2}`))) {
		t.Error("a second response was delivered")
	}
	if x.remove(id) {
		t.Error("a request with a response still waits")
	}
	if m := <-response; string(m.Result) != `{"n":1}` {
		t.Errorf("received %s, want the first response", m.Encode())
	}
	if !x.remove(other) || x.remove(other) {
		t.Error("remove does not report whether the request was waiting")
	}
	if x.deliver(jsonrpc.NewResult(other, json.RawMessage(`{}`))) {
		t.Error("a response to a removed request was delivered")
	}
}

func TestIssuedIDsOfServerRequestsAreKnownAfterTheirEnd(t *testing.T) {
	t.Parallel()
	x := &serverRequests{prefix: "ABCDEFGH"}
	waiting, _ := x.add()
	removed, _ := x.add()
	x.remove(removed)
	for _, id := range []jsonrpc.ID{waiting, removed} {
		if !x.issued(id) {
			t.Errorf("%s was not issued", id)
		}
	}
	for _, id := range []jsonrpc.ID{"", "1", `""`, `"hub-ABCDEFGH-0"`, `"hub-ABCDEFGH--1"`, `"hub-ABCDEFGH-3"`, `"hub-ABCDEFGH-x"`,
		`"hub-ABCDEFGH-"`, `"hub-ABCDEFGH-01"`, `"hub-ABCDEFGH-+1"`, `"hub-ABCDEFGH-1`,
		`"hub-BCDEFGHI-1"`, `"hub-1"`, `"hub-ABCDEFGH-99999999999999999999"`} {
		if x.issued(id) {
			t.Errorf("%s was issued", id)
		}
	}
}
