package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// maxWatchURIs bounds the subscriptions of one connection.
const maxWatchURIs = 10_000

// feed is what a modern server is to tell changes of. It may be used
// concurrently.
type feed struct {
	wake chan struct{} // the wish has changed

	mu      sync.Mutex
	uris    map[string]bool
	asking  map[string]int  // how many callers wait to hear whether the server agrees
	kept    map[string]bool // a caller was told that it does
	wish    int             // counts the changes of uris
	settled int             // the wish that the server has agreed to or refused
	agreed  map[string]bool // of the settled wish
	refusal error
	moved   chan struct{} // closed when settled moves
}

func newFeed() *feed {
	return &feed{wake: make(chan struct{}, 1), wish: 1, moved: make(chan struct{}),
		uris: map[string]bool{}, asking: map[string]int{}, kept: map[string]bool{}}
}

// add has uri told of. It returns the wish to wait for. Whoever called it says
// what came of it by asked.
func (f *feed) add(uri string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.uris[uri] {
		if len(f.uris) >= maxWatchURIs {
			return 0, jsonrpc.Errorf(jsonrpc.CodeInternal, "there are %d subscriptions at this server already", maxWatchURIs)
		}
		f.uris[uri] = true
		f.changed()
	}
	f.asking[uri]++
	return f.wish, nil
}

// asked is called with the outcome of add. What nobody was told of and nobody
// waits for any more is not kept: nobody would ever remove it.
func (f *feed) asked(uri string, agreed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asking[uri]--; f.asking[uri] == 0 {
		delete(f.asking, uri)
	}
	if agreed {
		f.kept[uri] = true
	}
	f.tidy(uri)
}

// remove has uri not told of any more, unless somebody waits for it now.
func (f *feed) remove(uri string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.kept, uri)
	f.tidy(uri)
}

// tidy takes out uri if nobody wants it. The caller holds mu.
func (f *feed) tidy(uri string) {
	if f.uris[uri] && !f.kept[uri] && f.asking[uri] == 0 {
		delete(f.uris, uri)
		f.changed()
	}
}

// changed notes that uris changed. The caller holds mu.
func (f *feed) changed() {
	f.wish++
	select {
	case f.wake <- struct{}{}:
	default:
	}
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
	done := jsonrpc.Message{Result: json.RawMessage(`{}`)}
	if req.Method == protocol.MethodResourcesUnsubscribe {
		c.feed.remove(uri)
		return done, nil
	}
	wish, err := c.feed.add(uri)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
	defer cancel()
	defer context.AfterFunc(c.quit, cancel)()
	agreed, err := c.feed.wait(ctx, wish, uri)
	agreed = agreed && err == nil
	c.feed.asked(uri, agreed)
	switch {
	case agreed:
		return done, nil
	case c.quit.Err() != nil || ctx.Err() != nil:
		return jsonrpc.Message{}, c.ended(ctx)
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
