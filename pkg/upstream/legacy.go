package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// legacyDialect is the dialect of servers with sessions: versions up to 2025-11-25. Requests of modern callers are
// sent without the _meta members of the modern era.
type legacyDialect struct{ conn *Conn }

func (d legacyDialect) era() protocol.Era { return protocol.Legacy }

func (d legacyDialect) call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	return d.conn.roundTrip(ctx, d, req)
}

// canCancel implements dialect. initialize must not be cancelled, specification 2025-11-25,
// basic/utilities/cancellation, and a legacy server may not know server/discover.
func (d legacyDialect) canCancel(method string) bool {
	return method != protocol.MethodInitialize && method != protocol.MethodServerDiscover
}

// requestMeta implements dialect. It removes the members of the modern era.
func (d legacyDialect) requestMeta(req Request) requestMeta { return requestMeta{remove: req.Modern} }

func (d legacyDialect) requestHeader(context.Context, Request, json.RawMessage) (http.Header, error) {
	return nil, nil
}

func (d legacyDialect) notification(string) (http.Header, bool) { return nil, true }

func (d legacyDialect) adaptResponse(_ context.Context, _ Request, response jsonrpc.Message) jsonrpc.Message {
	return response
}

func (d legacyDialect) receive(_ *call, m jsonrpc.Message) (jsonrpc.Message, bool) { return m, true }

func (d legacyDialect) listen(ctx context.Context) { d.conn.transport.Listen(ctx) }

// awaitListening: a legacy server reports changes without being asked.
func (d legacyDialect) awaitListening(context.Context) {}

// isOtherEra recognizes the errors that only modern servers have.
func (d legacyDialect) isOtherEra(response jsonrpc.Message, err error) bool {
	if d.conn.spec.kind().IsProcess() {
		return false // a process does not change its era
	}
	if err != nil || response.Error == nil {
		return errors.Is(err, errOtherEra)
	}
	code := jsonrpc.ParseError(response.Error).Code
	return code == protocol.CodeUnsupportedVersion || code == protocol.CodeHeaderMismatch
}
