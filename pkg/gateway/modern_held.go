package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// maxHeld is the limit of the requests of one server that wait for a call of their client.
const maxHeld = 8

// heldRequests are requests of a legacy server that belong to no call. Only the result of a call can ask a modern client,
// so they wait for the next call of the client that the connection is for. They are all for roots/list, which servers
// send when they have started. Its methods may be called concurrently.
type heldRequests struct {
	mu      sync.Mutex
	waiting []*heldRequest
}

// heldRequest waits for a call.
type heldRequest struct {
	message jsonrpc.Message
	answer  chan heldAnswer // has room for one
}

// heldAnswer is what the client answered.
type heldAnswer struct {
	result json.RawMessage
	err    error
}

// holds reports whether a request of a server can wait for a call.
func holds(m jsonrpc.Message) bool { return m.Method == protocol.MethodRootsList }

// ask waits until a call has brought the answer of the client.
func (x *heldRequests) ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	held := &heldRequest{message: m, answer: make(chan heldAnswer, 1)}
	if !x.add(held) {
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "too many requests of the server wait for a call of the client")
	}
	select {
	case a := <-held.answer:
		return a.result, a.err
	case <-ctx.Done():
		x.remove(held)
		return nil, jsonrpc.Errorf(jsonrpc.CodeInternal, "the client made no call that could ask it: %v", context.Cause(ctx))
	}
}

// add has a request wait. It reports false if too many do.
func (x *heldRequests) add(held *heldRequest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.waiting) >= maxHeld {
		return false
	}
	x.waiting = append(x.waiting, held)
	return true
}

func (x *heldRequests) remove(held *heldRequest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = slices.DeleteFunc(x.waiting, func(other *heldRequest) bool { return other == held })
}

// first returns the message that has waited longest. It reports false if none waits.
func (x *heldRequests) first() (m jsonrpc.Message, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.waiting) == 0 {
		return jsonrpc.Message{}, false
	}
	return x.waiting[0].message, true
}

// deliver gives everything that waits the answer.
func (x *heldRequests) deliver(a heldAnswer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, held := range x.waiting {
		held.answer <- a
	}
	x.waiting = nil
}
