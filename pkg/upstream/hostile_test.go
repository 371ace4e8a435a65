package upstream

import (
	"context"
	"fmt"
	"testing"
)

// Otherwise whoever subscribes and goes away, often enough, keeps all others
// from subscribing.
func TestSubscriptionsThatWereGivenUpAreNotKept(t *testing.T) {
	t.Parallel()
	s := newModernScript(t, changing)
	c := newEnv(t, s.spec()).connect(t, nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	told := 1 // that they are subscribed
	for i := range maxWatchURIs {
		if _, err := c.Call(gone, Request{Method: "resources/subscribe", Params: fmt.Appendf(nil, `{"uri":"x://%d"}`, i)}); err == nil {
			told++
		}
	}
	subscribe(t, c, "a:")
	if _, uris := c.feed.current(); len(uris) != told {
		t.Errorf("%d resources are watched, and %d callers were told so", len(uris), told)
	}
}

func TestWhatSomebodyWaitsForStaysWhenOthersGiveItUp(t *testing.T) {
	t.Parallel()
	f := newFeed()
	for _, uri := range []string{"a:", "a:", "b:"} {
		if _, err := f.add(uri); err != nil {
			t.Fatal(err)
		}
	}
	f.asked("a:", false)
	f.remove("a:")
	f.asked("b:", true)
	if _, uris := f.current(); len(uris) != 2 {
		t.Errorf("%q are watched", uris)
	}
	f.asked("a:", false)
	f.remove("b:")
	if _, uris := f.current(); len(uris) != 0 {
		t.Errorf("%q are watched", uris)
	}
}
