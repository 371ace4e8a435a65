package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// maxWatchURIs bounds the subscriptions of one connection.
const maxWatchURIs = 10_000

// feed is what a modern server is to tell changes of. It may be used
// concurrently.
type feed struct {
	wake chan struct{} // the wish has changed

	mu      sync.Mutex
	uris    map[string]bool
	wish    int             // counts the changes of uris
	settled int             // the wish that the server has agreed to or refused
	agreed  map[string]bool // of the settled wish
	refusal error
	moved   chan struct{} // closed when settled moves
}

func newFeed() *feed {
	return &feed{wake: make(chan struct{}, 1), wish: 1, moved: make(chan struct{})}
}

// set adds or removes uri. It returns the wish to wait for, and whether it
// changed anything.
func (f *feed) set(uri string, on bool) (int, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uris[uri] == on {
		return f.wish, false, nil
	}
	if on && len(f.uris) >= maxWatchURIs {
		return 0, false, jsonrpc.Errorf(jsonrpc.CodeInternal, "there are %d subscriptions at this server already", maxWatchURIs)
	}
	if f.uris == nil {
		f.uris = map[string]bool{}
	}
	f.uris[uri] = true
	if !on {
		delete(f.uris, uri)
	}
	f.wish++
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return f.wish, true, nil
}

// current returns the wish and the URIs it is about.
func (f *feed) current() (int, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	uris := make([]string, 0, len(f.uris))
	for uri := range f.uris {
		uris = append(uris, uri)
	}
	slices.Sort(uris)
	return f.wish, uris
}

// settle says what became of a wish.
func (f *feed) settle(wish int, agreed []string, refusal error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled, f.refusal, f.agreed = wish, refusal, map[string]bool{}
	for _, uri := range agreed {
		f.agreed[uri] = true
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// wait waits until wish is settled. It reports whether the server agreed to uri,
// or why it did not.
func (f *feed) wait(ctx context.Context, wish int, uri string) (bool, error) {
	for {
		f.mu.Lock()
		settled, agreed, refusal, moved := f.settled, f.agreed[uri], f.refusal, f.moved
		f.mu.Unlock()
		if settled >= wish {
			return agreed, refusal
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// subscribe carries out resources/subscribe or resources/unsubscribe of a legacy
// caller.
func (c *Conn) subscribe(ctx context.Context, req Request) (jsonrpc.Message, error) {
	uri, ok := jsonrpc.StringField(req.Params, "uri")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", req.Method)
	}
	on := req.Method == "resources/subscribe"
	done := jsonrpc.Message{Result: json.RawMessage(`{}`)}
	wish, added, err := c.feed.set(uri, on)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	if !on {
		return done, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
	defer cancel()
	defer context.AfterFunc(c.quit, cancel)()
	agreed, err := c.feed.wait(ctx, wish, uri)
	switch {
	case err == nil && agreed:
		return done, nil
	case c.quit.Err() != nil || ctx.Err() != nil: // others may wait for the same resource, so it stays
		return jsonrpc.Message{}, c.ended(ctx)
	case added:
		_, _, _ = c.feed.set(uri, false)
	}
	if refused, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return jsonrpc.Message{}, refused
	}
	if err != nil {
		return jsonrpc.Message{}, serverError(c.spec.Name, err)
	}
	return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the server does not tell of updates of this resource")
}

// hears waits until the server tells of changes of its lists, or does not, for
// a few seconds at most.
func (c *Conn) hears(ctx context.Context) {
	if !c.modern() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	_, _ = c.feed.wait(ctx, 1, "")
}
