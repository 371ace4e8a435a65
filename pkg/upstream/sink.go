package upstream

import (
	"context"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Sink takes what a server sends of its own accord: while a call is under way
// the call's sink, otherwise the connection's.
type Sink interface {
	// Notify takes a notification. It must not block. m does not belong to
	// the Sink after the call.
	Notify(m jsonrpc.Message)
	// Ask answers a request of the server. An error becomes the JSON-RPC error
	// of the answer. It ends when ctx does. ReporterOf(ctx) tells the server
	// how the answer comes along.
	Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error)
}

// nobody is the Sink of a connection that belongs to nobody.
type nobody struct{}

func (nobody) Notify(jsonrpc.Message) {}

func (nobody) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "there is nobody to answer %s", instrument.MethodLabel(m.Method))
}
