package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/gateway/routing"
	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// core holds the parts that both eras use. Its fields do not change.
type core struct {
	cfg           Config
	log           *slog.Logger
	tel           *observe.Telemetry
	router        *routing.Router
	interests     *routing.Interests
	background    *background // runs calls, and the ends of sessions
	sender        *stream.Sender
	streamMetrics *stream.Metrics
	retention     *stream.Retention // of the stream logs of all sessions
	groups        *budget.Groups    // of the requests of modern clients; nil: no limit
	draining      chan struct{}     // closed when the hub stops
}

func newCore(cfg Config) *core {
	c := &core{
		cfg:        cfg,
		log:        cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		tel:        observe.New(cfg.telemetry()),
		background: &background{},
		draining:   make(chan struct{}),
	}
	c.router = routing.New(routing.Config{Pool: cfg.Pool, Catalog: cfg.Catalog, Transparent: cfg.Transparent,
		PageSize: cfg.pageSize(), Version: cmp.Or(cfg.Version, "dev")})
	c.interests = routing.NewInterests(c.router, c.background.Go, c.log)
	c.streamMetrics = stream.NewMetrics(cfg.Registerer, c.tel.Dropped)
	c.retention = cfg.retention(c.streamMetrics)
	c.groups = budget.NewGroups(cfg.Memory)
	c.sender = &stream.Sender{Metrics: c.streamMetrics, Heartbeat: cfg.heartbeat(), Patience: cfg.patience(),
		Draining: c.draining}
	return c
}

// principal returns the authenticated client of a request, or an empty string.
func (c *core) principal(r *http.Request) string {
	if c.cfg.Principal == nil {
		return ""
	}
	return c.cfg.Principal(r)
}

// endCause returns the cause of the end of a call that returned err. cause is that of its context.
func (c *core) endCause(err, cause error) error {
	if !errors.Is(err, upstream.ErrLost) || errors.Is(cause, observe.ErrClientCancelled) {
		return cause
	}
	select {
	case <-c.draining: // the servers may be stopped before the session is
		return errStopping
	default:
		return cause
	}
}

// callError returns the JSON-RPC error for a call that returned err. cause is that of its context.
func (c *core) callError(err, cause error) *jsonrpc.Error {
	if ended, ok := errors.AsType[observe.EndedError](c.endCause(err, cause)); ok {
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "%v", ended)
	}
	return jsonrpc.AsError(err)
}

// panicked logs a panic and returns the error of the request that caused it. As with handlers of net/http,
// one faulty request does not end the other sessions.
func (c *core) panicked(ctx context.Context, p any, method string) error {
	c.log.ErrorContext(ctx, "panic while answering a request", "session", session.IDFrom(ctx), "method", instrument.MethodLabel(method),
		"panic", p, "stack", string(debug.Stack()))
	return jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error of the hub")
}
