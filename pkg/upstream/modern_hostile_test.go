package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// Otherwise a client that subscribes and goes away, often enough, keeps all others from subscribing.
func TestAbandonedSubscriptionsAreNotKept(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	c := newEnv(t, s.spec()).connect(t, nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	subscribed := 1
	for i := range maxSubscriptions {
		if _, err := c.Call(gone, Request{Method: "resources/subscribe", Params: fmt.Appendf(nil, `{"uri":"x://%d"}`, i)}); err == nil {
			subscribed++
		}
	}
	subscribe(t, c, "a:")
	if _, uris := modernOf(c).subscriber.set.current(); len(uris) != subscribed {
		t.Errorf("%d resources are watched, and %d callers were told so", len(uris), subscribed)
	}
}

func TestSubscriptionThatACallerWaitsForStaysWhenOthersAbandonIt(t *testing.T) {
	t.Parallel()
	f := newSubscriptionSet()
	for _, uri := range []string{"a:", "a:", "b:"} {
		if _, err := f.add(uri); err != nil {
			t.Fatal(err)
		}
	}
	f.done("a:", false)
	f.remove("a:")
	f.done("b:", true)
	if _, uris := f.current(); len(uris) != 2 {
		t.Errorf("%q are watched", uris)
	}
	f.done("a:", false)
	f.remove("b:")
	if _, uris := f.current(); len(uris) != 0 {
		t.Errorf("%q are watched", uris)
	}
}

func TestInvalidInputRequestsReachNoClient(t *testing.T) {
	t.Parallel()
	for _, question := range []string{`null`, `{}`, `{"method":"elicitation/create","params":5}`} {
		s := newModernScript(t)
		s.on["asks"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
			reply(w, m, `"result":{"resultType":"input_required","inputRequests":{"a":`+question+`}}`)
		}
		c := newEnv(t, s.spec()).connect(t, nil)
		sink := &recorder{}
		if m, err := c.Call(t.Context(), Request{Method: "tools/call", Params: json.RawMessage(`{"name":"asks"}`),
			Sink: sink}); !errors.Is(err, transport.ErrProtocol) {
			t.Errorf("%s: %s, %v", question, m.Encode(), err)
		}
	}
}

// A client's own stream over a pipe could end that of the hub, and with it the notifications for all others.
func TestLegacyClientOpensNoSubscriptionStream(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	c := newEnv(t, s.spec()).connect(t, nil)
	_, err := c.Call(t.Context(), Request{Method: protocol.MethodSubscriptionsListen,
		Params: json.RawMessage(`{"notifications":{"toolsListChanged":true}}`)})
	if refused, ok := errors.AsType[*jsonrpc.Error](err); !ok || refused.Code != jsonrpc.CodeMethodNotFound {
		t.Error(err)
	}
}
