package gateway

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Notify takes a notification that a connection of this session sent outside of a call.
func (cs *clientSession) Notify(m jsonrpc.Message) {
	switch {
	case !protocol.IsListChanged(m.Method):
		cs.push(m)
	case cs.router.Only != nil:
		cs.announce(m, changePause)
	} // otherwise the hub's own connection gets it, too, and Gateway.ListChanged notifies the client
}

// Ask takes a request that a connection of this session sent outside of a call. A client without a GET stream gets it on
// the stream of any request in flight.
func (cs *clientSession) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := checkSupported(cs.opened.Capabilities, m); err != nil {
		return nil, err
	}
	return cs.request(ctx, m, func(ctx context.Context, m jsonrpc.Message) string {
		reason := cs.sendRequest(ctx, m)
		if reason != "" && cs.sendOnCall(ctx, m) {
			return ""
		}
		return reason
	})
}

// sendRequest sends a request that belongs to no request of the client. Without an open GET stream it
// fails.
func (cs *clientSession) sendRequest(ctx context.Context, m jsonrpc.Message) (reason string) {
	return cs.send(ctx, m, stream.ReadNow)
}

// announce sends list_changed to the client: the first at once, and those that follow within a pause as one after it.
func (cs *clientSession) announce(m jsonrpc.Message, pause time.Duration) {
	method := m.Method
	if cs.ctx.Err() != nil || !cs.changes.first(method) {
		return
	}
	cs.push(m)
	cs.background.Go(func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-cs.ctx.Done():
		}
		if cs.changes.end(method) && cs.ctx.Err() == nil {
			cs.announce(jsonrpc.Message{Method: method}, min(2*pause, maxChangePause))
		}
	})
}
