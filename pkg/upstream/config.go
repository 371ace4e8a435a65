package upstream

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Config is what a Pool needs. Its functions may be nil, may be called concurrently and must not block.
type Config struct {
	Identity Identity // of the hub, for connections that belong to no client

	// OnConnected is called whenever the hub's own connection to a server has been made, the first time or again, after
	// OnInventory for that connection. The server is Up by then.
	OnConnected func(server string)
	// OnInventory is called when the lists of a server have been read.
	OnInventory func(server string, inv Inventory)
	// OnNotification is called with a notification on a shared connection that belongs to no call.
	OnNotification func(server string, m jsonrpc.Message)

	// OnMessage is called with each message to or from a server while Watched, which is called for each, returns true.
	// Ctx has the values of the call that the message is about, or else those of LinkConfig.Owner.
	Watched   func() bool
	OnMessage func(ctx context.Context, p instrument.MessageEvent)

	// Starting is called before a process of a server is started, the function it returns with its id, or with 0 if it
	// could not be started, and the function which that one returns when the process has been waited for.
	Starting func(server string) (started func(pid int) (ended func()))

	// HasSession reports whether a client session exists, for the count of the connections that outlive theirs. It is
	// called at each scrape. Nil: the count is 0.
	HasSession  func(id string) bool
	OrphanGrace time.Duration // that a connection may outlive its session; default 30s

	// MaxOwn is the limit of the connections of single clients to all servers together; 0: no limit.
	MaxOwn int

	// Memory is the budget for what is read from shared servers, until it is known for whom it is; nil: no limit.
	Memory *budget.Budget

	Logger         *slog.Logger                  // default: discard
	ServerLogger   *slog.Logger                  // for what servers print to stderr; default: Logger
	TracerProvider trace.TracerProvider          // default: no-op
	Propagator     propagation.TextMapPropagator // nil: tracing is off, and valid trace contexts of clients are forwarded
	// Baggage are the keys of baggage that are forwarded from servers to clients, and from clients to servers if tracing
	// is off; default: none.
	Baggage    []string
	Registerer prometheus.Registerer // default: metrics are not exported
	ToolLabels int                   // tools with label sets of their own; default 200, below 0: none
}
