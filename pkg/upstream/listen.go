package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

const (
	ackTimeout  = 10 * time.Second // for a server to say what it agreed to
	farewell    = time.Second      // for a server to end a stream
	firstListen = 500 * time.Millisecond
	maxListen   = 30 * time.Second
)

// watching is one subscriptions/listen under way.
type watching struct {
	cancel context.CancelFunc
	since  time.Time
	gap    bool // the stream before it had ended already
	wish   int  // that it was last asked for
	acked  chan json.RawMessage
	done   chan error
}

// follow keeps a stream open on which the server tells what c wants to know,
// until the connection ends, specification 2026-07-28, basic/utilities/subscriptions.
func (c *Conn) follow(ctx context.Context) {
	var now *watching
	defer func() { now.stop() }()
	broken := false
	for wait := firstListen; ; {
		var err error
		if now, err = c.relisten(ctx, now); err == nil {
			if now != nil && (broken || now.gap) {
				broken, now.gap = false, false
				c.missed()
			}
			select {
			case <-ctx.Done():
				return
			case <-c.Done():
				return
			case <-c.feed.wake:
				continue
			case err = <-now.over():
				c.log.DebugContext(ctx, "the server's stream of changes ended", "err", instrument.Redacted(err))
				if time.Since(now.since) > wait { // not one that ends at once each time
					wait = firstListen
				}
				now.stop()
				now = nil
			}
		}
		broken = broken || now == nil             // otherwise the stream before is still there
		if pause(ctx, wait+rand.N(wait)) != nil { //nolint:gosec // jitter
			return
		}
		wait = min(2*wait, maxListen)
	}
}

// relisten replaces the stream now, which may be nil, by one for what c wants
// to know at present. A failure leaves now as it is, and is an error if trying
// again may help.
func (c *Conn) relisten(ctx context.Context, now *watching) (*watching, error) {
	wish, uris := c.feed.current()
	if now != nil && now.wish == wish && !now.ended() {
		return now, nil // the wish had changed just before it was read
	}
	filter := c.filter(uris)
	if filter == nil {
		now.stop()
		c.feed.settle(wish, nil, nil)
		return nil, nil
	}
	gap := now.ended()
	if c.spec.URL == "" { // there are SDKs that keep one subscription for a pipe, and the end of an old one ends the new
		now.end()
		now = nil
	}
	next := c.listen(ctx, filter)
	agreed, err := next.agreed(ctx)
	c.feed.settle(wish, agreed, err)
	if err == nil {
		next.wish, next.gap = wish, gap || now.ended()
		now.stop() // only now: nothing is missed in between
		return next, nil
	}
	next.stop()
	c.log.DebugContext(ctx, "the server does not tell of changes", "err", instrument.Redacted(err))
	if isFinal(err) {
		if now != nil {
			now.wish = wish
		}
		return now, nil
	}
	return now, err
}

// missed tells of every change that there may have been while there was no
// stream to hear of it.
func (c *Conn) missed() {
	for _, list := range c.changingLists() {
		c.sink.Notify(jsonrpc.Message{Method: "notifications/" + list + "/list_changed"})
	}
	c.feed.mu.Lock()
	agreed := slices.Sorted(maps.Keys(c.feed.agreed))
	c.feed.mu.Unlock()
	for _, uri := range agreed {
		params := append(append(json.RawMessage(`{"uri":`), jsonrpc.String(uri)...), '}')
		c.sink.Notify(jsonrpc.Message{Method: protocol.MethodResourcesUpdated, Params: params})
	}
}

// changingLists are the lists that the server says it tells changes of.
func (c *Conn) changingLists() []string {
	lists := []string{"tools", "prompts", "resources"}
	caps, err := jsonrpc.Fields(c.init.Capabilities, lists...)
	if err != nil {
		return nil
	}
	changing := lists[:0:0]
	for i, list := range lists {
		if has, err := jsonrpc.Fields(caps[i], "listChanged"); err == nil && string(has[0]) == "true" {
			changing = append(changing, list)
		}
	}
	return changing
}

// isFinal reports whether a server that refused to tell of changes so will do
// it again.
func isFinal(err error) bool {
	refused, ok := errors.AsType[*jsonrpc.Error](err)
	return ok && (refused.Code == jsonrpc.CodeMethodNotFound || refused.Code == jsonrpc.CodeInvalidParams)
}

// filter is what c wants to know, or nil if that is nothing.
func (c *Conn) filter(uris []string) json.RawMessage {
	edits := make([]jsonrpc.Edit, 0, 4)
	for _, list := range c.changingLists() {
		edits = append(edits, jsonrpc.Edit{Name: list + "ListChanged", Value: json.RawMessage("true")})
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
	l := &watching{cancel: cancel, since: time.Now(), acked: make(chan json.RawMessage, 1), done: make(chan error, 1)}
	if !c.start(new(int), 1, func(context.Context) { l.done <- c.streamChanges(ctx, filter, l.acked) }) {
		l.done <- errClosed
	}
	return l
}

// streamChanges sends subscriptions/listen and returns when the stream ends. It
// is no operation that could be measured: it lasts as long as the connection.
func (c *Conn) streamChanges(ctx context.Context, filter json.RawMessage, acked chan<- json.RawMessage) error {
	cl := c.begin(&call{acked: acked, origin: askedFor{ctx: ctx}})
	defer c.end(cl)
	req := Request{Method: protocol.MethodSubscriptionsListen, stamped: true, Params: append(append(json.RawMessage(`{"notifications":`), filter...), '}')}
	params, err := c.prepare(ctx, cl, req)
	if err != nil {
		return err
	}
	if cl.header, err = c.mirror(ctx, req, params); err != nil {
		return err
	}
	m := jsonrpc.Message{ID: cl.id, Method: req.Method, Params: params}
	flight, sent := c.tel.messages.Begin(instrument.Out, m), time.Now()
	c.show(ctx, instrument.Out, m, instrument.About{})
	ctx, release := c.patiently(ctx, cl)
	defer release()
	response, err := c.wire.call(ctx, cl, m.Encode())
	switch {
	case err != nil && ctx.Err() != nil:
		flight.Cancel(instrument.Withdrawn)
		return err
	case err != nil:
		flight.Cancel(cancelReason(err))
		return err
	}
	flight.Answer(response)
	c.showAnswer(ctx, req, sent, response)
	if response.Error != nil {
		return c.spec.refusal(response.Error)
	}
	return errors.New("the server ended the stream")
}

// patiently returns a context for a stream of changes over a pipe that outlasts
// ctx by the moment that the server takes to end the stream when it is told to.
func (c *Conn) patiently(ctx context.Context, cl *call) (context.Context, func()) {
	if c.spec.URL != "" { // closing the stream says it
		return ctx, func() {}
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		c.cancelled(ctx, cl, context.Cause(ctx))
		if !c.start(new(int), 1, func(context.Context) { _ = pause(longer, farewell); cancel() }) {
			cancel()
		}
	})
	return longer, func() { stop(); cancel() }
}

// acknowledged takes what the server agreed to tell.
func (c *Conn) acknowledged(related *call, m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "notifications", "_meta")
	if err != nil {
		return
	}
	if related == nil {
		id, err := jsonrpc.Fields(fields[1], protocol.MetaSubscriptionID)
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
	if !bytes.Contains(m.Params, []byte(protocol.MetaSubscriptionID)) {
		return m
	}
	fields, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil || fields[0] == nil {
		return m
	}
	meta, err := jsonrpc.Rewrite(fields[0], jsonrpc.Edit{Name: protocol.MetaSubscriptionID})
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
		return agreedURIs(raw), nil
	case err := <-l.done:
		select {
		case raw := <-l.acked: // both may have come at once
			l.done <- err
			return agreedURIs(raw), nil
		default:
			return nil, err
		}
	case <-timer.C:
		return nil, fmt.Errorf("%s: %w", protocol.MethodSubscriptionsListen, ErrTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// agreedURIs reads an acknowledgement. What cannot be read was not agreed to.
func agreedURIs(raw json.RawMessage) []string {
	var filter struct {
		URIs []string `json:"resourceSubscriptions"`
	}
	_ = json.Unmarshal(raw, &filter)
	return filter.URIs
}

// over is when the stream ends; never for no stream.
func (l *watching) over() <-chan error {
	if l == nil {
		return nil
	}
	return l.done
}

func (l *watching) ended() bool { return l != nil && len(l.done) > 0 }

// end stops the stream and waits for its end, which comes soon.
func (l *watching) end() {
	if l != nil {
		l.cancel()
		<-l.done //nolint:errcheck // it ends as it was told to
	}
}

func (l *watching) stop() {
	if l != nil {
		l.cancel()
	}
}
