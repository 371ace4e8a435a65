package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

type whoseKey struct{}

// eventLog collects the message events of a connection.
type eventLog struct {
	mu    sync.Mutex
	texts []string
	count map[string]int
}

func (s *eventLog) onMessage(ctx context.Context, p instrument.MessageEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	direction := "in"
	if p.Direction == instrument.Out {
		direction = "out"
	}
	if s.count == nil {
		s.count = map[string]int{}
	}
	s.count[direction+" "+instrument.KindOf(p.Message)]++
	s.texts = append(s.texts, strings.Join(strings.Fields(fmt.Sprint(ctx.Value(whoseKey{}), " ", direction, " ",
		instrument.KindOf(p.Message), " ",
		p.Message.Method, " ", p.About.Method, " ", p.About.Outcome, " ", p.About.Fault)), " "))
}

// has reports whether there was an event with that text.
func (s *eventLog) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.texts, text)
}

func TestEachMessageIsOneMessageEventWithItsOwner(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		s := &eventLog{}
		e := newEnv(t, spec, func(c *Config) { c.Watched, c.OnMessage = func() bool { return true }, s.onMessage })
		c, err := e.dial(t.Context(), dialConfig{sink: &recorder{}, owner: context.WithValue(t.Context(), whoseKey{}, "owner"),
			negotiation: negotiation{identity: hub, era: protocol.Legacy}})
		if err != nil {
			t.Fatal(err)
		}
		call := func(who, tool, arguments string) {
			t.Helper()
			req := toolCall(tool, arguments)
			req.Sink = &recorder{answer: func(context.Context, jsonrpc.Message) (json.RawMessage, error) {
				return nil, &jsonrpc.Error{Code: -7, Message: "no"}
			}}
			if _, err := c.Call(context.WithValue(t.Context(), whoseKey{}, who), req); err != nil {
				t.Fatal(err)
			}
		}
		call("ann", "ask", `{"text":"roots/list"}`)
		call("bob", "ask", `{"text":"ping"}`)
		c.close(true)
		for _, want := range []string{
			"ann out request tools/call", "ann in request roots/list", "ann out error roots/list -7", "ann in response tools/call ok none",
			"bob out request tools/call", "bob in response tools/call ok none", "owner in request ping", "owner out response ping ok",
		} {
			if !s.has(want) {
				t.Errorf("not shown: %s", want)
			}
		}
		for what, n := range s.count {
			direction, kind, _ := strings.Cut(what, " ")
			if counted := instrumenttest.Value(t, e.reg, "mcphub_messages_total", "direction", direction, "kind", kind); int(counted) != n {
				t.Errorf("%s: %d were shown of %v", what, n, counted)
			}
		}
		if t.Failed() {
			t.Logf("shown was\n%s", strings.Join(s.texts, "\n"))
		}
	})
}

func TestUnwatchedMessagesCostNothing(t *testing.T) {
	for name, configure := range map[string]func(*Config){
		"never": func(*Config) {},
		"now":   func(c *Config) { c.Watched, c.OnMessage = func() bool { return false }, (&eventLog{}).onMessage },
	} {
		e := newEnv(t, Spec{Name: "one"}, configure)
		c := &Conn{spec: e.spec, tel: newConnTelemetry(e.tel, e.own, e.spec, "")}
		req, sent := Request{Method: "tools/call", Target: "x"}, e.state.since
		call := jsonrpc.Message{ID: "1", Method: "tools/call", Params: json.RawMessage(`{"name":"x"}`)}
		answer := jsonrpc.NewResult("1", json.RawMessage(`{"isError":true}`))
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() {
			c.tel.messageEvent(ctx, instrument.Out, call, instrument.About{Target: req.Target})
			c.tel.responseEvent(ctx, req, sent, answer)
			inbound{c}.messageEvent(nil, call)
		}); n != 0 {
			t.Errorf("watched %s: %v allocations", name, n)
		}
	}
}
