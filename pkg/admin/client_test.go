package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// api returns a client of the admin API of the rig.
func (r *rig) api() *admin.Client {
	r.t.Helper()
	return clientOf(r.t, r.server.URL+"/", r.client)
}

func clientOf(t *testing.T, url string, client *http.Client) *admin.Client {
	t.Helper()
	c, err := admin.NewClient(url, client)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientListsShowsChangesAndEndsSessions(t *testing.T) {
	r := start(t)
	c := r.api()
	s, _ := r.session(session.Session{ClientName: "probe"})
	derived := r.derived(session.Session{Principal: "ann"})
	for kind, want := range map[string][]string{"": {s.ID, derived}, "protocol": {s.ID}, "derived": {derived}} {
		list, err := c.AllSessions(t.Context(), kind)
		var ids []string
		for _, s := range list.Sessions {
			ids = append(ids, s.SessionID)
		}
		slices.Sort(want)
		if err != nil || !slices.Equal(ids, want) || list.Count != len(want) {
			t.Errorf("kind %q: %+v, %v", kind, list, err)
		}
	}
	first, err := c.Sessions(t.Context(), admin.SessionQuery{Limit: 1})
	if err != nil || len(first.Sessions) != 1 || first.Next != first.Sessions[0].SessionID {
		t.Errorf("the first page is %+v, %v", first, err)
	}
	rest, err := c.Sessions(t.Context(), admin.SessionQuery{After: first.Next})
	if err != nil || len(rest.Sessions) != 1 || rest.Next != "" || rest.Sessions[0].SessionID == first.Next {
		t.Errorf("the rest is %+v, %v", rest, err)
	}
	changed, err := c.PatchMetadata(t.Context(), s.ID, map[string]json.RawMessage{"k": json.RawMessage(`1`)})
	if err != nil || string(changed.Metadata["k"]) != "1" {
		t.Errorf("changed is %+v, %v", changed, err)
	}
	one, err := c.Session(t.Context(), s.ID)
	if err != nil || one.ClientName != "probe" || one.Kind != "protocol" || one.State != session.Initializing ||
		string(one.Metadata["k"]) != "1" {
		t.Errorf("shown is %+v, %v", one, err)
	}
	if text := string(one.Raw); !strings.HasPrefix(text, `{`) || !strings.Contains(text, `"clientName": "probe"`) {
		t.Errorf("its text is %s", text)
	}
	if err := c.EndSession(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	events, err := c.SessionEvents(t.Context(), s.ID)
	if err != nil || events.Count != 2 || events.Events[1].Type != session.EventEnded {
		t.Errorf("its events are %+v, %v", events, err)
	}
}

func TestClientReadsServersAndLogLevels(t *testing.T) {
	l := new(levels)
	r := startWith(t, func(cfg *admin.Config) { cfg.LogLevels, cfg.SetLogLevels = l.list, l.change })
	c := r.api()
	list, err := c.Upstreams(t.Context())
	if err != nil || list.Count != 2 || list.Upstreams[0].Name != "up" || list.Upstreams[0].NextAttempt != nil {
		t.Errorf("the servers are %+v, %v", list, err)
	}
	one, err := c.Upstream(t.Context(), "down")
	if err != nil || one.Name != "down" || one.Error == "" {
		t.Errorf("the server is %+v, %v", one, err)
	}
	got, err := c.LogLevels(t.Context())
	if err != nil || len(got.Levels) != 2 || got.Levels[1].Then != "default" {
		t.Errorf("the levels are %+v, %v", got, err)
	}
	want := map[string]string{"session": "debug"}
	if got, err := c.SetLogLevels(t.Context(), want, 10*time.Minute); err != nil || len(got.Levels) != 2 || !maps.Equal(l.set, want) ||
		l.d != 10*time.Minute {
		t.Errorf("set was %v for %s: %+v, %v", l.set, l.d, got, err)
	}
	if len(want) != 1 {
		t.Errorf("the caller's levels are changed to %v", want)
	}
	if _, err := c.SetLogLevels(t.Context(), map[string]string{"for": "10m"}, 0); err == nil || l.calls != 1 {
		t.Errorf("a duration among the levels: %v, %d calls", err, l.calls)
	}
}

func TestClientFollowsEventsUntilItsContextEnds(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := r.api().Events(ctx, s.ID)
	if err != nil {
		t.Fatal(err)
	}
	r.session(session.Session{}) // whose event is not of s
	r.sessions.AddEvent(s.ID, session.EventStreamOpened, "get_sse")
	var got []admin.StreamedEvent
	for item, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item)
		cancel()
	}
	if len(got) != 1 || got[0].Event.Type != session.EventStreamOpened || got[0].Event.Detail != "get_sse" || got[0].Lost != 0 {
		t.Errorf("received %+v", got)
	}
}

func TestClientFollowsMessagesUntilTheSessionEnds(t *testing.T) {
	r := startWith(t, func(cfg *admin.Config) { cfg.Payloads = true })
	s, _ := r.session(session.Session{})
	messages, err := r.api().Messages(t.Context(), s.ID, admin.MessageQuery{Payload: true, Method: "tools/call", Errors: true})
	if err != nil {
		t.Fatal(err)
	}
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "ping", Outcome: "-32601"}, nil)
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "tools/call", Outcome: "ok"}, nil)
	r.sessions.PublishMessage(session.Message{SessionID: s.ID, Method: "tools/call", Outcome: "tool_error"}, []byte(`{"text":"x"}`))
	if err := r.api().EndSession(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	var got []admin.StreamedMessage
	for item, err := range messages {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item)
	}
	if len(got) != 2 || got[0].Message.Outcome != "tool_error" || string(got[0].Message.Payload) != `{"text":"x"}` ||
		!strings.Contains(string(got[0].Raw), `"outcome":"tool_error"`) || got[1].End != session.Admin {
		t.Errorf("received %+v", got)
	}
}

func TestClientReportsGapsOfAStreamAndSkipsUnknownEvents(t *testing.T) {
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(
			[]byte(": x\n\nevent: later\ndata: {\"x\":1}\n\nevent: lost\ndata: {\"count\":7}\n\nevent: end\ndata: {\"reason\":\"shutdown\"}\n\n" +
				"event: message\ndata: {}\n\n"),
		)
	}))
	defer hub.Close()
	messages, err := clientOf(t, hub.URL, hub.Client()).Messages(t.Context(), "s1", admin.MessageQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var got []admin.StreamedMessage
	for item, err := range messages {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item)
	}
	if len(got) != 2 || got[0].Lost != 7 || got[1].End != session.Shutdown {
		t.Errorf("received %+v", got)
	}
	events, err := clientOf(t, hub.URL, hub.Client()).Events(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for item, err := range events {
		if err != nil || item.Lost != 7 {
			t.Errorf("received %+v, %v", item, err)
		}
		break
	}
}

// last returns the error that ends a stream.
func last[T any](items iter.Seq2[T, error], err error) error {
	if err != nil {
		return err
	}
	for _, err = range items {
	}
	return err
}

func TestClientErrorsNameTheCallAndWhatIsWrong(t *testing.T) {
	r := start(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("data: <html>\n\n")) }))
	defer page.Close()
	short := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(": x\n\n")) }))
	defer short.Close()
	ctx := t.Context()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	api := r.api()
	foreign := clientOf(t, r.server.URL, &http.Client{Transport: otherHost{r.client.Transport}})
	for name, test := range map[string]struct {
		err    error
		want   string
		status int
		noHub  bool
	}{
		"unknown session": {api.EndSession(ctx, "none"), "end session none: session not found", 404, false},
		"unknown kind":    {second(api.AllSessions(ctx, "x")), "list sessions: ", 400, false},
		"no payloads": {last(api.Messages(ctx, "x", admin.MessageQuery{Payload: true})), "follow the messages of session " +
			"x: payloads are not shown", 403, false},
		"guarded":        {foreign.EndSession(ctx, "x"), "end session x: ", 403, false},
		"nobody listens": {clientOf(t, gone.URL, nil).EndSession(ctx, "x"), "end session x: no hub answers at " + gone.URL, 0, true},
		"another server": {clientOf(t, other.URL, nil).EndSession(ctx, "x"), "answers 404 Not Found, which is not", 404, true},
		"no JSON":        {second(clientOf(t, page.URL, nil).Session(ctx, "x")), "get session x: the answer is not the JSON", 200, false},
		"no JSON, stream": {last(clientOf(t, page.URL, nil).Events(ctx, "")), "follow the events of all sessions: the answer " +
			"is not the JSON", 200, false},
		"stream is closed": {last(clientOf(t, short.URL, nil).Events(ctx, "x")), "follow the events of session x: the hub " +
			"has closed the stream", 200, false},
		"cancelled": {last(api.Events(cancelled, "")), "follow the events of all sessions: context canceled", 0, false},
	} {
		failed, ok := errors.AsType[*admin.Error](test.err)
		if !ok || !strings.Contains(test.err.Error(), test.want) || failed.Status != test.status ||
			errors.Is(test.err, admin.ErrNoHub) != test.noHub {
			t.Errorf("%s: %v, %+v", name, test.err, failed)
		}
	}
	if _, err := admin.NewClient("http://a b", nil); err == nil || !strings.Contains(err.Error(), "http://a b is not the URL") {
		t.Errorf("a URL with a space: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// second returns the error of a call.
func second[T any](_ T, err error) error { return err }

// otherHost sends requests that name a host which the guard does not know.
type otherHost struct{ http.RoundTripper }

func (o otherHost) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = "evil.example"
	return o.RoundTripper.RoundTrip(r)
}
