package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

const (
	acknowledgeTimeout = 10 * time.Second // for a server to acknowledge a subscription
	streamEndTimeout   = time.Second      // for a server to end a stream that the hub has cancelled
)

// subscriber keeps the hub subscribed to changes of a modern server. It belongs to one connection.
type subscriber struct {
	conn    *Conn
	dialect dialect // of conn
	set     *subscriptionSet
}

// subscriptionStream is one subscriptions/listen under way. A nil one is no stream.
type subscriptionStream struct {
	cancel       context.CancelFunc
	start        time.Time
	revision     int                  // of the subscription set
	afterGap     bool                 // the stream before had ended already: changes may have been missed
	acknowledged chan json.RawMessage // gets what the server acknowledges
	done         chan error           // gets why the stream ended
}

// run keeps a stream open for the current subscriptions until the connection ends, specification 2026-07-28,
// basic/utilities/subscriptions.
func (s *subscriber) run(ctx context.Context) {
	var stream *subscriptionStream
	defer func() { stream.stop() }()
	pauses := transport.Backoff{First: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: 1}
	for gap := false; ; {
		var err error
		if stream, err = s.update(ctx, stream); err == nil {
			if stream != nil && (gap || stream.afterGap) {
				gap, stream.afterGap = false, false
				s.notifyMissed()
			}
			select {
			case <-ctx.Done():
				return
			case <-s.conn.done():
				return
			case <-s.set.changed:
				continue
			case err = <-stream.ended():
				s.conn.tel.log.DebugContext(ctx, "the server's stream of changes ended", "err", instrument.Redacted(err))
				pauses.StreamEnded(time.Since(stream.start))
				stream.stop()
				stream = nil
			}
		}
		gap = gap || stream == nil // otherwise the stream before is still open
		if pauses.Wait(ctx) != nil {
			return
		}
	}
}

// update replaces the stream now, which may be nil, by one for the current subscriptions. A failure leaves now as it
// is; it is an error if another attempt may succeed.
func (s *subscriber) update(ctx context.Context, now *subscriptionStream) (*subscriptionStream, error) {
	revision, uris := s.set.current()
	if now != nil && now.revision == revision && !now.hasEnded() {
		return now, nil // the set had changed just before it was read
	}
	filter := s.filter(uris)
	if filter == nil {
		now.stop()
		s.set.answer(revision, nil, nil)
		return nil, nil
	}
	gap := now.hasEnded()
	if !s.conn.spec.kind().HasStreams() { // some SDKs keep one subscription for a pipe, and the end of an old one ends the new one
		now.stopAndWait()
		now = nil
	}
	next := s.open(ctx, filter)
	accepted, err := next.awaitAcknowledgement(ctx)
	s.set.answer(revision, accepted, err)
	if err == nil {
		next.revision, next.afterGap = revision, gap || now.hasEnded()
		now.stop() // only now: so no change is missed between the streams
		return next, nil
	}
	next.stop()
	s.conn.tel.log.DebugContext(ctx, "the server does not report changes", "err", instrument.Redacted(err))
	if isFinal(err) {
		if now != nil {
			now.revision = revision
		}
		return now, nil
	}
	return now, err
}

// awaitAnswer waits acknowledgeTimeout at most until the server has answered the first subscription.
func (s *subscriber) awaitAnswer(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, acknowledgeTimeout)
	defer cancel()
	_, _ = s.set.wait(ctx, 1, "")
}

// isFinal reports whether a server that refused subscriptions/listen so will refuse it again.
func isFinal(err error) bool {
	refused, ok := errors.AsType[*jsonrpc.Error](err)
	return ok && (refused.Code == jsonrpc.CodeMethodNotFound || refused.Code == jsonrpc.CodeInvalidParams)
}

// notifyMissed notifies clients of all changes that may have happened while there was no stream.
func (s *subscriber) notifyMissed() {
	for _, list := range s.changingLists() {
		s.conn.sink.Notify(jsonrpc.Message{Method: "notifications/" + list + "/list_changed"})
	}
	for _, uri := range s.set.acceptedURIs() {
		s.conn.sink.Notify(jsonrpc.Message{Method: protocol.MethodResourcesUpdated, Params: protocol.URIParams(uri)})
	}
}

// changingLists returns the lists whose changes the server reports, according to its capabilities.
func (s *subscriber) changingLists() []string {
	lists := []string{"tools", "prompts", "resources"}
	caps, err := jsonrpc.Fields(s.conn.init.Capabilities, lists...)
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

// filter returns the filter of subscriptions/listen for uris and for the lists that may change, or nil if there is
// nothing to subscribe to.
func (s *subscriber) filter(uris []string) json.RawMessage {
	edits := make([]jsonrpc.Edit, 0, 4)
	for _, list := range s.changingLists() {
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

// open starts a stream.
func (s *subscriber) open(ctx context.Context, filter json.RawMessage) *subscriptionStream {
	ctx, cancel := context.WithCancel(ctx)
	stream := &subscriptionStream{cancel: cancel, start: time.Now(), acknowledged: make(chan json.RawMessage, 1), done: make(chan error, 1)}
	if !s.conn.background.start(nil, func(context.Context) { stream.done <- s.listen(ctx, filter, stream.acknowledged) }) {
		stream.done <- transport.ErrClosed
	}
	return stream
}

// listen sends subscriptions/listen and returns when the stream ends. It has no span and no duration: it lasts as long
// as the connection.
func (s *subscriber) listen(ctx context.Context, filter json.RawMessage, acknowledged chan<- json.RawMessage) error {
	c := s.conn
	cl := c.pending.add(&call{acknowledged: acknowledged, origin: origin{ctx: ctx}})
	defer c.remove(cl)
	req := Request{Method: protocol.MethodSubscriptionsListen, addMeta: true,
		Params: append(append(json.RawMessage(`{"notifications":`), filter...), '}')}
	params, err := c.params(ctx, s.dialect, cl, req)
	if err != nil {
		return err
	}
	if cl.Header, err = s.dialect.requestHeader(ctx, req, params); err != nil {
		return err
	}
	m := jsonrpc.Message{ID: cl.ID, Method: req.Method, Params: params}
	inFlight, sent := c.tel.messages.Begin(instrument.Out, m), time.Now()
	c.tel.messageEvent(ctx, instrument.Out, m, instrument.About{})
	ctx, release := s.untilStreamEnd(ctx, cl)
	defer release()
	response, err := c.transport.Call(ctx, &cl.Call, m.Encode())
	switch {
	case err != nil && ctx.Err() != nil:
		inFlight.Cancel(instrument.Withdrawn)
		return err
	case err != nil:
		inFlight.Cancel(cancelReason(err))
		return err
	}
	inFlight.Answer(response)
	c.tel.responseEvent(ctx, req, sent, response)
	if response.Error != nil {
		return c.spec.refusal(response.Error)
	}
	return errors.New("the server ended the stream")
}

// untilStreamEnd returns a context for a stream. Over a pipe it outlasts ctx by streamEndTimeout, in which the server
// can end the stream that the hub has cancelled. By HTTP the hub cancels the stream by closing it.
func (s *subscriber) untilStreamEnd(ctx context.Context, cl *call) (context.Context, func()) {
	if s.conn.spec.kind().HasStreams() {
		return ctx, func() {}
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		s.conn.sendCancellation(ctx, cl, context.Cause(ctx))
		if !s.conn.background.start(nil, func(context.Context) { _ = transport.Pause(longer, streamEndTimeout); cancel() }) {
			cancel()
		}
	})
	return longer, func() { stop(); cancel() }
}

// acknowledged takes notifications/subscriptions/acknowledged to the stream that it belongs to.
func (s *subscriber) acknowledged(related *call, m jsonrpc.Message) {
	fields, err := jsonrpc.Fields(m.Params, "notifications", "_meta")
	if err != nil {
		return
	}
	if related == nil {
		id, err := jsonrpc.Fields(fields[1], protocol.MetaSubscriptionID)
		if err != nil {
			return
		}
		related = s.conn.pending.get(jsonrpc.ID(id[0]))
	}
	if related == nil || related.acknowledged == nil {
		s.conn.tel.unmatched("response")
		return
	}
	select {
	case related.acknowledged <- slices.Clone(fields[0]):
	default:
	}
}

// withoutSubscription removes the id of the hub's own subscription from a notification.
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

// awaitAcknowledgement waits until the server acknowledges the subscriptions, and returns the URIs that it accepts.
func (s *subscriptionStream) awaitAcknowledgement(ctx context.Context) ([]string, error) {
	timer := time.NewTimer(acknowledgeTimeout)
	defer timer.Stop()
	select {
	case filter := <-s.acknowledged:
		return urisOf(filter), nil
	case err := <-s.done:
		select {
		case filter := <-s.acknowledged: // both may have come at once
			s.done <- err
			return urisOf(filter), nil
		default:
			return nil, err
		}
	case <-timer.C:
		return nil, fmt.Errorf("%s: %w", protocol.MethodSubscriptionsListen, ErrTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// urisOf returns the URIs of a filter. One that cannot be read has none.
func urisOf(filter json.RawMessage) []string {
	var f struct {
		URIs []string `json:"resourceSubscriptions"`
	}
	_ = json.Unmarshal(filter, &f)
	return f.URIs
}

// ended receives why the stream ended; never from no stream.
func (s *subscriptionStream) ended() <-chan error {
	if s == nil {
		return nil
	}
	return s.done
}

func (s *subscriptionStream) hasEnded() bool { return s != nil && len(s.done) > 0 }

// stop cancels the stream.
func (s *subscriptionStream) stop() {
	if s != nil {
		s.cancel()
	}
}

// stopAndWait cancels the stream and waits for its end, streamEndTimeout at most.
func (s *subscriptionStream) stopAndWait() {
	if s != nil {
		s.cancel()
		<-s.done //nolint:errcheck // the hub has cancelled it
	}
}
