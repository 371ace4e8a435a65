package gateway

import (
	"cmp"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Config is the configuration of a Gateway. Sessions, Pool and Catalog must be set.
type Config struct {
	Sessions *session.Manager
	Pool     *upstream.Pool
	Catalog  *catalog.Catalog

	// Transparent forwards names, lists, errors and unknown methods unchanged, if there is exactly
	// one server.
	Transparent bool
	Version     string // of the hub, for initialize and server/discover; default: dev

	PageSize int                     // items in one page of a merged list; default 1000
	Bridge   map[string]BridgePolicy // by name of the server; default: BridgePrincipal

	MaxRequestBytes int64                      // limit of the body of one request; default 4 MiB
	MaxInFlight     int                        // limit of the requests of one session in flight; default 256
	Heartbeat       time.Duration              // interval of comments on a silent stream; default 15s
	Principal       func(*http.Request) string // the authenticated client of a request; default: anonymous

	// Memory is the budget for what is held for clients: requests, answers, and messages that wait to be written. History is
	// that for written messages, which are kept for clients that may come back for them. Nil: no limit.
	Memory, History *budget.Budget

	Patience     time.Duration // wait for an answer before the response becomes an event stream; default 100ms
	ResumeEvents int           // limit of the events of one session that are kept for a resumption; default 1024
	ResumeBytes  int64         // limit of their bytes; default 1 MiB
	ResumeWindow time.Duration // time for which they are kept; default 5m

	Logger         *slog.Logger                  // default: discard
	TracerProvider trace.TracerProvider          // default: no-op
	Propagator     propagation.TextMapPropagator // nil: tracing is off
	TraceParent    observe.TraceParent           // default: ParentRemote
	Baggage        []string                      // keys of baggage that are forwarded to servers; default: none
	Registerer     prometheus.Registerer         // default: metrics are not exported
	ToolLabels     int                           // limit of tools with label sets of their own; default 200, below 0: none
}

func (c Config) maxRequestBytes() int64   { return cmp.Or(c.MaxRequestBytes, 4<<20) }
func (c Config) pageSize() int            { return cmp.Or(c.PageSize, 1000) }
func (c Config) maxInFlight() int         { return cmp.Or(c.MaxInFlight, 256) }
func (c Config) heartbeat() time.Duration { return cmp.Or(c.Heartbeat, 15*time.Second) }

func (c Config) patience() time.Duration { return cmp.Or(c.Patience, 100*time.Millisecond) }

func (c Config) retention(metrics *stream.Metrics) *stream.Retention {
	return &stream.Retention{
		Metrics: metrics,
		Events:  cmp.Or(c.ResumeEvents, 1024),
		Bytes:   cmp.Or(c.ResumeBytes, 1<<20),
		Window:  cmp.Or(c.ResumeWindow, 5*time.Minute),
		Memory:  c.History,
	}
}

func (c Config) telemetry() observe.Config {
	return observe.Config{
		Sessions: c.Sessions, Catalog: c.Catalog, Logger: c.Logger, TracerProvider: c.TracerProvider,
		Propagator: c.Propagator, TraceParent: c.TraceParent, Baggage: c.Baggage, Registerer: c.Registerer, ToolLabels: c.ToolLabels,
	}
}

// BridgePolicy says which modern requests share a session with a legacy server that keeps a session for
// each client.
type BridgePolicy string

// The policies.
const (
	BridgePrincipal BridgePolicy = "principal" // those of one client of one principal; the default
	BridgeRequest   BridgePolicy = "request"   // none
	BridgeShared    BridgePolicy = "shared"    // all that declare the same capabilities
)
