package upstream

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// inquiry is a request of a server on its way to its end, which is measured: the
// hub is the server there.
type inquiry struct {
	jsonrpc.Message
	conn   *Conn
	of     context.Context //nolint:containedctx // of the call that it belongs to, for whoever follows that
	flight instrument.InFlight
	start  time.Time

	withdraw context.CancelCauseFunc // nil: the hub answers at once
}

func (c *Conn) inquire(m jsonrpc.Message) *inquiry {
	return &inquiry{Message: m, conn: c, of: c.quit, flight: c.tel.messages.Begin(instrument.In, m), start: time.Now()}
}

// inquired takes a request of the server to whom it concerns.
func (c *Conn) inquired(related *call, q *inquiry) {
	switch {
	case c.modern(): // which must not be, specification 2026-07-28, basic/utilities/mrtr
		c.tel.unmatched("question")
		q.drop(c.quit, instrument.ProtocolError, string(instrument.ProtocolError))
	case q.Method == protocol.MethodPing:
		c.answer(q, json.RawMessage(`{}`), nil)
	default:
		sink, of := c.concerns(related, q.Method)
		if of.ctx != nil {
			q.of = of.ctx
		}
		c.ask(sink, of, q)
	}
}

// answered ends q with its response. ctx is that of its span.
func (q *inquiry) answered(ctx context.Context, response jsonrpc.Message) {
	q.flight.Answer(response)
	if q.conn.tel.Enabled() {
		q.conn.show(q.of, instrument.Out, response, instrument.About{Method: q.Method, Since: q.start, Outcome: Outcome(response, nil)})
	}
	kind := ErrorType(response, nil)
	if response.Error != nil && instrument.IsCallerFault(jsonrpc.ParseError(response.Error).Code) {
		kind = ""
	}
	q.observe(ctx, kind)
}

// drop ends q without a response.
func (q *inquiry) drop(ctx context.Context, why instrument.CancelReason, kind string) {
	q.flight.Cancel(why)
	q.observe(ctx, kind)
}

func (q *inquiry) observe(ctx context.Context, kind string) {
	c := q.conn
	c.tel.served.Observe(ctx, instrument.Operation{Method: instrument.MethodLabel(q.Method), ErrorType: instrument.ErrorTypeLabel(kind), Transport: networkTransport(c.spec),
		Version: c.version()}, "", time.Since(q.start))
}
