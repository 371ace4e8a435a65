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
		cs.announce(m)
	} // otherwise the hub's own connection gets it, too, and the client sees the merged lists
}

// Ask takes a request that a connection of this session sent outside of a call.
func (cs *clientSession) Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	if err := checkSupported(cs.opened.Capabilities, m); err != nil {
		return nil, err
	}
	return cs.request(ctx, m, cs.sendRequest)
}

// sendRequest sends a request that belongs to no request of the client. Without an open GET stream it
// fails.
func (cs *clientSession) sendRequest(ctx context.Context, m jsonrpc.Message) (reason string) {
	return cs.send(ctx, m, stream.ReadNow)
}

// announce sends list_changed to the client. Many of them become one at once, and one for each
// changePause that they continue.
func (cs *clientSession) announce(m jsonrpc.Message) {
	method := m.Method
	if cs.ctx.Err() != nil || !cs.changes.first(method) {
		return
	}
	cs.push(m)
	cs.background.Go(func() {
		timer := time.NewTimer(changePause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-cs.ctx.Done():
		}
		if cs.changes.end(method) && cs.ctx.Err() == nil {
			cs.announce(jsonrpc.Message{Method: method})
		}
	})
}
