package upstream

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// dialect is what the two eras of the protocol do differently on a connection. Callers of both eras use it in the same
// way. A Conn begins in the legacy dialect; the negotiation may change it once. Implementations are safe for concurrent
// use.
type dialect interface {
	// era returns protocol.Legacy or protocol.Modern.
	era() protocol.Era

	// call carries out a request of a caller. It translates the request if the caller is of the other era.
	call(ctx context.Context, req Request) (jsonrpc.Message, error)

	// canCancel reports whether a request with this method may be cancelled.
	canCancel(method string) bool

	// metaEdits returns the edits that the _meta of a request needs. Meta is that of the caller; nil: there is none.
	metaEdits(req Request, meta json.RawMessage) metaEdits

	// requestHeader returns the headers for a request by HTTP, or nil. Params are those that the server gets.
	requestHeader(ctx context.Context, req Request, params json.RawMessage) (http.Header, error)

	// notification returns the headers for a notification by HTTP, or nil. It reports false for a method that the server
	// has no use for.
	notification(method string) (http.Header, bool)

	// adaptResponse returns the response to req without what its caller must not use.
	adaptResponse(ctx context.Context, req Request, response jsonrpc.Message) jsonrpc.Message

	// receive takes a notification of the server and returns it as clients get it. It reports false if it is not for
	// clients. Related is the call on whose stream it arrived, or nil.
	receive(related *call, m jsonrpc.Message) (jsonrpc.Message, bool)

	// listen opens the stream for messages that belong to no call, and keeps it open in the background.
	listen(ctx context.Context)

	// awaitListening waits a few seconds at most until the server reports changes of its lists, or has refused to.
	awaitListening(ctx context.Context)

	// isOtherEra reports whether response or err is how a server of the other era answers a request of this one.
	isOtherEra(response jsonrpc.Message, err error) bool
}

// metaEdits are up to four edits of the _meta of a request. They are a value, so that calls allocate nothing for them.
type metaEdits struct {
	edits [4]jsonrpc.Edit
	n     int
}

func (e *metaEdits) add(name string, value json.RawMessage) {
	e.edits[e.n] = jsonrpc.Edit{Name: name, Value: value}
	e.n++
}
