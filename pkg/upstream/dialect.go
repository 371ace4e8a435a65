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

	// requestMeta returns what has to change in the _meta of a request.
	requestMeta(req Request) requestMeta

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

// requestMeta is what has to change in the _meta of a request: members of the modern era are set, or removed. It is a
// value, not a list of edits, so that calls allocate nothing for it.
type requestMeta struct {
	remove                                      bool
	version, capabilities, clientInfo, logLevel json.RawMessage // nil: not set
}

// appendTo appends the edits of a _meta; nil: the caller sent none.
func (m requestMeta) appendTo(edits []jsonrpc.Edit, meta json.RawMessage) []jsonrpc.Edit {
	if m.remove && meta != nil {
		for _, name := range protocol.RequestMeta() {
			edits = append(edits, jsonrpc.Edit{Name: name})
		}
	}
	if m.version != nil {
		edits = append(edits, jsonrpc.Edit{Name: protocol.MetaProtocolVersion, Value: m.version},
			jsonrpc.Edit{Name: protocol.MetaClientCapabilities, Value: m.capabilities})
	}
	if len(m.clientInfo) > 0 {
		edits = append(edits, jsonrpc.Edit{Name: protocol.MetaClientInfo, Value: m.clientInfo})
	}
	if m.logLevel != nil {
		edits = append(edits, jsonrpc.Edit{Name: protocol.MetaLogLevel, Value: m.logLevel})
	}
	return edits
}
