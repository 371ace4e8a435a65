package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

const (
	methodListen       = "subscriptions/listen"
	methodAcknowledged = "notifications/subscriptions/acknowledged"

	ackTimeout     = 10 * time.Second // for a server to say what it agreed to
	firstListen    = 500 * time.Millisecond
	goodbyeTimeout = time.Second // for a server to say that a cancelled stream has ended
	maxListen      = 30 * time.Second
	maxWatchURIs   = 10_000 // of one connection
)

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

// set adds or removes uri and returns the wish to wait for.
func (f *feed) set(uri string, on bool) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uris[uri] == on && f.settled == f.wish {
		return f.wish, nil
	}
	if on && len(f.uris) >= maxWatchURIs {
		return 0, jsonrpc.Errorf(jsonrpc.CodeInternal, "there are %d subscriptions at this server already", maxWatchURIs)
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
	return f.wish, nil
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
	wish, err := c.feed.set(uri, on)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	if !on {
		return done, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.spec.callTimeout(), ErrTimeout)
	defer cancel()
	stop := context.AfterFunc(c.quit, cancel)
	defer stop()
	agreed, err := c.feed.wait(ctx, wish, uri)
	if err == nil && agreed {
		return done, nil
	}
	_, _ = c.feed.set(uri, false)
	if refused, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return jsonrpc.Message{}, refused
	}
	if err != nil {
		return jsonrpc.Message{}, serverError(c.spec.Name, err)
	}
	return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the server does not tell of updates of this resource")
}

// stream is one subscriptions/listen under way.
type watching struct {
	cancel context.CancelFunc
	acked  chan json.RawMessage
	done   chan error
}

// follow keeps a stream open on which the server tells what c wants to know,
// until the connection ends, specification 2026-07-28, basic/utilities/subscriptions.
func (c *Conn) follow(ctx context.Context) {
	var now *watching
	var told int // the wish that now is for
	defer func() { now.stop() }()
	wait := firstListen
	for {
		if wish, uris := c.feed.current(); now == nil || wish != told {
			var err error
			now, err = c.relisten(ctx, now, wish, c.filter(uris))
			told = wish
			if _, refused := errors.AsType[*jsonrpc.Error](err); err != nil && !refused {
				if pause(ctx, wait+rand.N(wait)) != nil { //nolint:gosec // jitter
					return
				}
				wait = min(2*wait, maxListen)
				continue
			}
			if now != nil {
				wait = firstListen
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.Done():
			return
		case <-c.feed.wake:
		case err := <-now.over():
			now.stop()
			now = nil
			c.log.DebugContext(ctx, "the server's stream of changes ended", "err", err)
			if pause(ctx, wait+rand.N(wait)) != nil { //nolint:gosec // jitter
				return
			}
			wait = min(2*wait, maxListen)
		}
	}
}

// relisten has the server tell what filter says in place of what it tells on
// now. It returns the new stream, or nil if there is none. The new stream is
// there before the old one is given up, so that nothing is missed in between.
// Over stdio it is the other way round: servers of go-sdk 1.8 and mcp-go 1.2
// keep one filter per connection, and the end of the old stream would be the end
// of what the new one asked for.
func (c *Conn) relisten(ctx context.Context, now *watching, wish int, filter json.RawMessage) (*watching, error) {
	if filter == nil || c.spec.URL == "" {
		c.giveUp(now)
		now = nil
	}
	if filter == nil {
		c.feed.settle(wish, nil, nil)
		return nil, nil //nolint:nilnil // see above
	}
	next := c.listen(ctx, filter)
	agreed, err := next.agreed(ctx)
	now.stop()
	c.feed.settle(wish, agreed, err)
	if err != nil {
		next.stop()
		c.log.DebugContext(ctx, "the server does not tell of changes", "err", err)
		return nil, err
	}
	return next, nil
}

// filter is what c wants to know, or nil if that is nothing.
func (c *Conn) filter(uris []string) json.RawMessage {
	caps, err := jsonrpc.Fields(c.init.Capabilities, "tools", "prompts", "resources")
	if err != nil {
		return nil
	}
	edits := make([]jsonrpc.Edit, 0, 4)
	for i, name := range []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"} {
		if has, err := jsonrpc.Fields(caps[i], "listChanged"); err == nil && string(has[0]) == "true" {
			edits = append(edits, jsonrpc.Edit{Name: name, Value: json.RawMessage("true")})
		}
	}
	if len(uris) > 0 {
		list, err := json.Marshal(uris)
		if err != nil {
			return nil
		}
		edits = append(edits, jsonrpc.Edit{Name: "resourceSubscriptions", Value: list})
	}
	if len(edits) == 0 {
		return nil
	}
	filter, err := jsonrpc.Rewrite(nil, edits...)
	if err != nil {
		return nil
	}
	return filter
}

// listen starts a stream of changes.
func (c *Conn) listen(ctx context.Context, filter json.RawMessage) *watching {
	ctx, cancel := context.WithCancel(ctx)
	l := &watching{cancel: cancel, acked: make(chan json.RawMessage, 1), done: make(chan error, 1)}
	if !c.start(new(int), 1, func(context.Context) { l.done <- c.streamChanges(ctx, filter, l.acked) }) {
		l.done <- errClosed
	}
	return l
}

// streamChanges sends subscriptions/listen and returns when the stream ends. It
// is no operation that could be measured: it lasts as long as the connection.
func (c *Conn) streamChanges(ctx context.Context, filter json.RawMessage, acked chan<- json.RawMessage) error {
	cl := c.begin(&call{acked: acked})
	defer c.end(cl)
	req := Request{Method: methodListen, stamped: true, Params: append(append(json.RawMessage(`{"notifications":`), filter...), '}')}
	params, err := c.prepare(ctx, cl, req)
	if err != nil {
		return err
	}
	if cl.header, err = c.mirror(ctx, req, params); err != nil {
		return err
	}
	m := jsonrpc.Message{ID: cl.id, Method: req.Method, Params: params}
	c.tel.messages.Add(Out, m)
	c.tel.inFlight.Inc()
	defer c.tel.inFlight.Dec()
	response, err := c.wire.call(ctx, cl, m.Encode())
	if err != nil {
		if ctx.Err() != nil {
			c.cancelled(ctx, cl.id, context.Cause(ctx))
			c.goodbye(cl)
		}
		return err
	}
	c.tel.messages.Add(In, response)
	if response.Error != nil {
		return refusal(response.Error)
	}
	return errors.New("the server ended the stream")
}

// goodbye waits for a server over stdio to say that a cancelled stream has
// ended. It need not say so.
func (c *Conn) goodbye(cl *call) {
	if c.spec.URL != "" {
		return
	}
	timer := time.NewTimer(goodbyeTimeout)
	defer timer.Stop()
	select {
	case response := <-cl.reply:
		c.tel.messages.Add(In, response)
	case <-timer.C:
	case <-c.quit.Done():
	case <-c.Done():
	}
}

// acknowledged takes what the server agreed to tell.
func (c *Conn) acknowledged(related *call, m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "notifications", "_meta")
	if err != nil {
		return
	}
	if related == nil {
		id, err := jsonrpc.Fields(fields[1], mcp.MetaKeySubscriptionID)
		if err != nil {
			return
		}
		c.mu.Lock()
		related = c.calls[jsonrpc.ID(id[0])]
		c.mu.Unlock()
	}
	if related == nil || related.acked == nil {
		c.tel.unmatched("response")
		return
	}
	select {
	case related.acked <- slices.Clone(fields[0]):
	default:
	}
}

// withoutSubscription takes the id of the hub's own subscription out of what
// goes further.
func withoutSubscription(m jsonrpc.Message) jsonrpc.Message {
	if !isNews(m.Method) {
		return m
	}
	fields, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil || fields[0] == nil {
		return m
	}
	meta, err := jsonrpc.Rewrite(fields[0], jsonrpc.Edit{Name: mcp.MetaKeySubscriptionID})
	if err != nil {
		return m
	}
	if string(meta) == "{}" {
		meta = nil
	}
	if params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta", Value: meta}); err == nil {
		m.Params = params
	}
	return m
}

// agreed waits for the server to say what it agrees to.
func (l *watching) agreed(ctx context.Context) ([]string, error) {
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	select {
	case raw := <-l.acked:
		var filter struct {
			URIs []string `json:"resourceSubscriptions"`
		}
		_ = json.Unmarshal(raw, &filter) // what cannot be read was not agreed to
		return filter.URIs, nil
	case err := <-l.done:
		return nil, err
	case <-timer.C:
		return nil, fmt.Errorf("%s: %w", methodListen, ErrTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// over is when the stream ends; never for no stream.
func (l *watching) over() <-chan error {
	if l == nil {
		return nil
	}
	return l.done
}

func (l *watching) stop() {
	if l != nil {
		l.cancel()
	}
}

// giveUp ends a stream. Over stdio it has ended when giveUp returns.
func (c *Conn) giveUp(l *watching) {
	l.stop()
	if l != nil && c.spec.URL == "" {
		c.log.Debug("a stream of changes was given up", "err", <-l.done)
	}
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
