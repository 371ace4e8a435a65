package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// updates returns the resources whose updates the sink got.
func updates(r *recorder) []string {
	var uris []string
	for _, m := range r.notifications() {
		if uri, _ := jsonrpc.StringField(m.Params, "uri"); m.Method == "notifications/resources/updated" {
			uris = append(uris, uri)
		}
	}
	return uris
}

func TestSubscriptionsOfOneConnectionAreOneStreamThatIsReplacedWithoutAGap(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	sink := &recorder{}
	c := newEnv(t, s.spec()).connect(t, sink)
	subscribe(t, c, "a:")
	stop, sent := make(chan struct{}), make(chan int)
	go func() { // there is never no stream for a:
		n := 0
		for {
			select {
			case <-stop:
				sent <- n
				return
			default:
				s.streams.Lock()
				if !slices.ContainsFunc(s.open, func(o *scriptStream) bool { return slices.Contains(o.uris, "a:") }) {
					t.Error("there was no stream for a while")
				}
				s.streams.Unlock()
				s.publish("notifications/resources/updated", "a:")
				n++
				_ = transport.Pause(t.Context(), time.Millisecond)
			}
		}
	}()
	for i := range 10 {
		subscribe(t, c, fmt.Sprintf("b:%d", i))
	}
	close(stop)
	n := wait(t, "the server stops", sent)
	hubtest.Eventually(t, "every update arrives", func() bool { return len(updates(sink)) >= n })
	hubtest.Eventually(t, "the old streams end", func() bool { open, _, _ := s.watched(); return open == 1 })
	for _, m := range sink.notifications() {
		if string(m.Params) != `{"uri":"a:"}` {
			t.Fatalf("the client is told %s", m.Params)
		}
	}
	if _, ever, _ := s.watched(); ever > 12 {
		t.Errorf("there were %d streams", ever)
	}
	c.close(true)
	hubtest.Eventually(t, "the stream ends with the connection", func() bool { open, _, _ := s.watched(); return open == 0 })
}

func TestManySubscriptionsAtOnceNeedFewStreams(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	c := newEnv(t, s.spec()).connect(t, nil)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { subscribe(t, c, fmt.Sprintf("x:%02d", i)) })
	}
	wg.Wait()
	hubtest.Eventually(t, "one stream is left", func() bool {
		open, _, uris := s.watched()
		return open == 1 && strings.Count(uris, " ") == 99
	})
	if _, ever, _ := s.watched(); ever > 60 {
		t.Errorf("there were %d streams", ever)
	}
}

func TestRefusedSubscriptionIsAnErrorAndTheOthersStay(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	s.deny = "denied:"
	s.refuse = func(uri string) string {
		return map[string]string{"bad:": `{"code":-32602,"message":"what is that?"}`, "busy:": `{"code":-32603,"message":"not now"}`}[uri]
	}
	sink := &recorder{}
	c := newEnv(t, s.spec()).connect(t, sink)
	subscribe(t, c, "a:")
	for uri, want := range map[string]string{"bad:": "what is that?", "busy:": "not now",
		"denied:": "the server does not report updates of this resource"} {
		_, err := c.Call(t.Context(), Request{Method: "resources/subscribe", Params: json.RawMessage(`{"uri":"` + uri + `"}`)})
		if err == nil || jsonrpc.AsError(err).Message != want {
			t.Errorf("%s: %v", uri, err)
		}
		if open, _, _ := s.watched(); open == 0 {
			t.Errorf("%s ended the stream that there was", uri)
		}
	}
	hubtest.Eventually(t, "the refused ones are not asked for again", func() bool {
		set := modernOf(c).subscriber.set
		set.mu.Lock()
		settled := set.answered == set.revision
		set.mu.Unlock()
		open, _, uris := s.watched()
		return settled && open == 1 && uris == "a:"
	})
	subscribe(t, c, "a:") // a second client's
	s.publish("notifications/resources/updated", "a:")
	hubtest.Eventually(t, "the update arrives", func() bool { return len(updates(sink)) == 1 })
}

func TestStreamThatTheServerEndsIsOpenedAgainAndMissedChangesAreReported(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	sink := &recorder{}
	c := newEnv(t, s.spec()).connect(t, sink)
	subscribe(t, c, "a:")
	hubtest.Eventually(t, "the stream before it has ended", func() bool { open, _, uris := s.watched(); return open == 1 && uris == "a:" })
	s.endStreams()
	hubtest.Eventually(t, "the stream is opened again", func() bool { open, _, uris := s.watched(); return open == 1 && uris == "a:" })
	hubtest.Eventually(t, "missed changes are reported", func() bool {
		var all []string
		for _, m := range sink.notifications() {
			all = append(all, m.Method+string(m.Params))
		}
		slices.Sort(all)
		return strings.Join(all, " ") == `notifications/resources/list_changed notifications/resources/updated{"uri":"a:"} `+
			`notifications/tools/list_changed`
	})
}

func TestStreamsThatEndAtOnceAreOpenedWithPauses(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	var mu sync.Mutex
	var at []time.Time
	s.on["subscriptions/listen"] = func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		mu.Lock()
		at = append(at, time.Now())
		mu.Unlock()
		startStream(w)
		writeEvent(w, "", `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}`)
	}
	newEnv(t, s.spec()).connect(t, nil)
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(at) }
	hubtest.Eventually(t, "it is tried four times", func() bool { return count() >= 4 })
	mu.Lock()
	defer mu.Unlock()
	if took := at[3].Sub(at[0]); took < 7*500*time.Millisecond {
		t.Errorf("four attempts within %s", took)
	}
}

func TestListChangesOfAModernServerAreReadAndReported(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]func(t *testing.T) Spec{
		"go-sdk http":  func(t *testing.T) Spec { return newTap(t, sdkHandler(t, newEnded(), true)).spec() },
		"go-sdk stdio": func(t *testing.T) Spec { return anyChild(t, "go-sdk") },
		"mcp-go http":  func(t *testing.T) Spec { return newTap(t, mcpGoHandler(newEnded())).spec() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var published inventories
			spec := spec(t)
			r := run(t, []Spec{spec}, published.configure).settled(t)
			ask(t, r.link(t, spec.Name, LinkConfig{}), nil, "grow")
			hubtest.Eventually(t, "the new tool is listed", func() bool {
				all := published.all()
				last := all[len(all)-1]
				return len(last.Tools) == 7 && slices.Contains(last.Changed, "notifications/tools/list_changed")
			})
		})
	}
}

func TestWaitingSubscriptionEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	s.on["subscriptions/listen"] = func(_ http.ResponseWriter, r *http.Request, _ jsonrpc.Message) { <-r.Context().Done() }
	c := newEnv(t, s.spec()).connect(t, nil)
	done := goCall(t.Context(), c, Request{Method: "resources/subscribe", Params: json.RawMessage(`{"uri":"a:"}`)})
	hubtest.Eventually(t, "it is asked", func() bool { return len(s.calls("subscriptions/listen")) == 1 })
	within(t, 5*time.Second, "closing", func() { c.close(true) })
	if err := wait(t, "the call returns", done); !errors.Is(err, ErrLost) {
		t.Errorf("error %v", err)
	}
}

func TestSubscriptionStreamIsNotMeasuredAsAnOperation(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	e, spans := traced(t, s.spec())
	c := e.connect(t, nil)
	c.dialect().awaitListening(t.Context())
	tool(t, c, "echo", "")
	if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 1 {
		t.Errorf("%v requests are in flight, want the stream", n)
	}
	c.close(true)
	if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
		t.Errorf("%v requests are in flight", n)
	}
	for _, s := range spans.Ended() {
		if strings.Contains(s.Name(), "subscriptions") {
			t.Errorf("there is a span %q", s.Name())
		}
	}
	count := func(direction, kind string) float64 {
		return instrumenttest.Value(t, e.reg, "mcphub_messages_total", "direction", direction, "kind", kind)
	}
	if count("out", "request") != 3 || count("in", "response") != 2 || count("in", "notification") != 1 || count("out", "notification") != 0 {
		t.Error("messages are not counted as they went") // discover, listen and its acknowledgement, the call
	}
}
