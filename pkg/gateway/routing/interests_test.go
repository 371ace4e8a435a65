package routing

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

type client struct{ name string }

func (*client) Updated(string, jsonrpc.Message) {}

func newTestInterests() *Interests {
	router := New(Config{Pool: upstream.NewPool(nil, upstream.Config{}), Catalog: catalog.New(catalog.Prefix, nil), PageSize: 10,
		Version: "test"})
	return NewInterests(router, func(fn func()) { fn() }, slog.New(slog.DiscardHandler))
}

func logMessage(level string) jsonrpc.Message {
	return jsonrpc.Message{Method: "notifications/message", Params: []byte(`{"level":"` + level + `"}`)}
}

// A server may send an update of a part of a resource that a client has subscribed to.
func TestSubscribersOfAResourceGetUpdatesOfItsParts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		uri := rapid.StringMatching(`[ab]?(:/?/?)?([ab]?/){0,4}[ab]?`)
		x, ann := newTestInterests(), &client{"ann"}
		have, named := uri.Draw(t, "subscribed"), uri.Draw(t, "named")
		x.Join(ann, "", []string{have})
		want := have == named || strings.HasPrefix(named, strings.TrimSuffix(have, "/")+"/")
		if got := slices.Contains(x.Subscribers(named), Subscriber(ann)); got != want {
			t.Errorf("a subscriber of %q gets an update of %q: %v", have, named, got)
		}
		if got := x.Wants(ann, named); got != want {
			t.Errorf("a subscriber of %q wants an update of %q: %v", have, named, got)
		}
	})
}

func TestSubscriptionIsUnwantedWhenItsLastSubscriberLeaves(t *testing.T) {
	t.Parallel()
	x, ann, bob := newTestInterests(), &client{"ann"}, &client{"bob"}
	x.Join(ann, "", []string{"a", "b"})
	x.Join(bob, "", nil)
	x.Subscribe(bob, "b")
	if !x.WantedBesides(ann, "b") || x.WantedBesides(ann, "a") || !x.WantedBesides(nil, "a") {
		t.Error("WantedBesides is wrong")
	}
	if got := x.Leave(ann); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the unwanted subscriptions are %q", got)
	}
	x.Subscribe(ann, "c") // a request that was in flight when the session ended
	if len(x.Subscribers("c")) != 0 || x.Subscriptions(ann) != nil || x.Leave(ann) != nil {
		t.Error("a subscriber that has left was added again")
	}
	x.Unsubscribe(bob, "b")
	if len(x.Subscribers("b")) != 0 || len(x.byURI) != 0 {
		t.Errorf("still subscribed: %v", x.byURI)
	}
}

func TestSharedServerIsAskedForTheMostVerboseLevelOfAllClients(t *testing.T) {
	t.Parallel()
	x, ann, bob := newTestInterests(), &client{"ann"}, &client{"bob"}
	if x.Level("one") != "" {
		t.Error("a level without a client that wants it")
	}
	x.Join(ann, "warning", nil)
	x.Join(bob, "", nil)
	x.SetLevel(bob, "error")
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"two sessions", func() {}, "warning"},
		{"a modern request", func() { x.RaiseModern("one", "info") }, "info"},
		{"a session wants more", func() { x.SetLevel(bob, "debug") }, "debug"},
		{"and leaves", func() { x.Leave(bob) }, "info"},
		{"the server was not told", func() { x.ForgetModern("one") }, "warning"},
		{"the last leaves", func() { x.Leave(ann) }, ""},
	} {
		step.do()
		if got := x.Level("one"); got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}
	if !x.RaiseModern("two", "notice") || x.RaiseModern("two", "error") || !x.RaiseModern("two", "debug") {
		t.Error("a level that is not more verbose is reported, or one that is more verbose is not")
	}
}

func TestSessionGetsTheLogMessagesOfItsLevel(t *testing.T) {
	t.Parallel()
	x, ann, bob := newTestInterests(), &client{"ann"}, &client{"bob"}
	x.Join(ann, "warning", nil)
	x.Join(bob, "", nil)
	if x.WantsLog(ann, logMessage("info")) || !x.WantsLog(ann, logMessage("warning")) || !x.WantsLog(ann, logMessage("alert")) {
		t.Error("the level of a session is ignored")
	}
	if !x.WantsLog(bob, logMessage("debug")) || !x.WantsLog(ann, jsonrpc.Message{Params: []byte(`{}`)}) {
		t.Error("a session without a level, or a message without one, is filtered")
	}
}

// The cost of an update must not grow with the URI that a server sends, but with the subscriptions: the lock is held
// meanwhile.
func TestSubscribersOfALongURIAreFoundQuickly(t *testing.T) {
	t.Parallel()
	x, ann := newTestInterests(), &client{"ann"}
	x.Join(ann, "", []string{"/", "//a", "x", "y", "z", "1", "2", "3", "4", "5", "6", "7", "8", "9", "0"})
	uri := strings.Repeat("/", 32<<20) // a look-up of every prefix would take days
	if got := x.Subscribers(uri); len(got) != 1 || !x.Wants(ann, uri) {
		t.Errorf("found %v", got)
	}
	x.Leave(ann)
	if len(x.lengths) != 0 {
		t.Errorf("the lengths %v are still counted", x.lengths)
	}
}
