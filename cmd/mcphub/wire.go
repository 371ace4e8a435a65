package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/children"
	"github.com/mcphub-go/mcphub/pkg/config"
	"github.com/mcphub-go/mcphub/pkg/gateway"
	"github.com/mcphub-go/mcphub/pkg/gateway/observe"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/telemetry"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// hub is the whole graph of parts. Nothing of it runs yet.
type hub struct {
	cfg      config.Config
	tel      *telemetry.Telemetry
	store    *persist.Dir
	children *children.Ledger
	sessions *session.Manager
	pool     *upstream.Pool
	gateway  *gateway.Gateway
	memory   memoryPlan
	ready    readiness

	clients, operators *connections // of the MCP and of the admin listener
}

// wire builds the hub that cfg describes: the one place where all names meet.
func wire(cfg config.Config, tel *telemetry.Telemetry) (*hub, error) {
	h := &hub{cfg: cfg, tel: tel, memory: planMemory(cfg, findMemory())}
	specs, names, err := specsOf(cfg, h.memory.message)
	if err != nil {
		return nil, err
	}
	held := budget.New(h.memory.held)
	if err := tel.Registry().Register(held); err != nil {
		return nil, err
	}
	if h.store, err = openStore(cfg.DataDir, tel.LoggerFor("persist")); err != nil {
		return nil, err
	}
	room := planConnections(h.memory.clients, maxDescriptors())
	h.clients = newConnections("mcp", room.clients, room.clientDescriptor, tel.Registry())
	h.operators = newConnections("admin", room.operators, room.operatorDescriptor, tel.Registry())
	h.children, err = children.Open(filepath.Join(cfg.DataDir, "children"),
		children.Config{Logger: tel.LoggerFor("upstream"), Registerer: tel.Registry()})
	if err != nil {
		return nil, errors.Join(err, h.store.Close())
	}
	markChildren(specs, h.children.Mark())
	propagator := tel.Propagator()
	if !tel.TracingEnabled() {
		propagator = nil
	}
	transparent := cfg.Naming == string(catalog.Bare) && len(specs) == 1
	offers := newOffers(cfg, names, transparent)
	h.pool = upstream.NewPool(specs, upstream.Config{
		Identity:    hubIdentity(),
		OnConnected: func(server string) { h.gateway.ServerConnected(server) },
		OnInventory: func(server string, inv upstream.Inventory) {
			h.gateway.ListChanged(offers.replace(server, inv))
			offers.warn(h.pool.Servers())
		},
		OnNotification: func(server string, m jsonrpc.Message) { h.gateway.ServerNotification(server, m) },
		Watched:        func() bool { return h.sessions.HasTails() },
		OnMessage:      func(ctx context.Context, p instrument.MessageEvent) { h.gateway.PassMessage(ctx, p) },
		Starting:       h.children.Starting,
		Memory:         held,
		MaxOwn:         room.servers,
		HasSession:     func(id string) bool { return h.sessions.Has(context.Background(), id) },
		Logger:         tel.LoggerFor("upstream"),
		ServerLogger:   tel.LoggerFor("server"),
		TracerProvider: tel.TracerProvider(),
		Propagator:     propagator,
		Baggage:        cfg.Tracing.Baggage,
		Registerer:     tel.Registry(),
		ToolLabels:     toolLabels(cfg.Metrics),
	})
	h.sessions = session.New(h.store, session.Config{
		IdleTimeout:     cfg.Sessions.IdleTimeout,
		CleanupInterval: cfg.Sessions.CleanupInterval,
		FlushInterval:   cfg.Sessions.FlushInterval,
		TouchThrottle:   cfg.Sessions.TouchThrottle,
		MaxLifetime:     cfg.Sessions.MaxLifetime,

		MaxSessions:          h.memory.sessions,
		MaxRecordBytes:       h.memory.records,
		MaxDerived:           h.memory.derived,
		MaxSessionsPerClient: cfg.Sessions.MaxSessionsPerClient,
		AtLimit:              session.LimitPolicy(cfg.Sessions.AtLimit),

		Open:           func(ctx context.Context, s session.Session) (session.Live, error) { return h.gateway.Open(ctx, s) },
		Clock:          session.MachineClock(),
		Logger:         tel.LoggerFor("session"),
		TracerProvider: tel.TracerProvider(),
		Registerer:     tel.Registry(),
	})
	h.gateway = gateway.New(gateway.Config{
		Sessions:        h.sessions,
		Pool:            h.pool,
		Catalog:         offers.catalog,
		Transparent:     transparent,
		Version:         buildVersion(),
		MaxRequestBytes: cfg.Limits.MaxRequestBytes,
		MaxInFlight:     cfg.Limits.MaxInFlight,
		Memory:          held,
		History:         budget.New(h.memory.history),
		PageSize:        cfg.Limits.PageSize,
		Bridge:          bridgesOf(cfg),
		TraceParent:     observe.TraceParent(cfg.Tracing.Parent),
		Baggage:         cfg.Tracing.Baggage,
		Patience:        cfg.Streams.Patience,
		ResumeEvents:    cfg.Streams.ResumeEvents,
		ResumeBytes:     cfg.Streams.ResumeBytes,
		ResumeWindow:    cfg.Streams.ResumeWindow,
		Logger:          tel.LoggerFor("gateway"),
		TracerProvider:  tel.TracerProvider(),
		Propagator:      propagator,
		Registerer:      tel.Registry(),
		ToolLabels:      toolLabels(cfg.Metrics),
	})
	return h, nil
}

// endpoint is the handler of the MCP listener.
func (h *hub) endpoint() http.Handler {
	return gateway.Guard{
		Hosts:      h.cfg.AllowedHosts,
		Origins:    h.cfg.AllowedOrigins,
		OriginsKey: "allowedOrigins",
		Methods:    gateway.EndpointMethods(),
		Pages:      gateway.EndpointPages(),
		Listener:   "mcp",
		Logger:     h.tel.LoggerFor("gateway"),
		Registerer: h.tel.Registry(),
	}.Handler(gateway.Endpoint(h.gateway))
}

// side is the handler of the admin listener.
func (h *hub) side(endpoint string) http.Handler {
	return gateway.Guard{
		Hosts:      h.cfg.AllowedHosts,
		Origins:    h.cfg.Admin.AllowedOrigins,
		OriginsKey: "admin.allowedOrigins",
		Methods:    admin.Methods(),
		Pages:      admin.Pages(),
		Listener:   "admin",
		Logger:     h.tel.LoggerFor("admin"),
		Registerer: h.tel.Registry(),
	}.Handler(admin.New(admin.Config{
		Sessions: h.sessions,
		Pool:     h.pool,
		Metrics:  h.tel.Handler(),
		Endpoint: endpoint,
		Version:  buildVersion(),
		Ready:    h.ready.err,
		Logger:   h.tel.LoggerFor("admin"),
		Payloads: h.cfg.Admin.Payloads,

		Registerer: h.tel.Registry(),

		LogLevels:    h.logLevels,
		SetLogLevels: h.tel.Levels().Set,
	}))
}

// logLevels is what the admin API says of the log levels.
func (h *hub) logLevels() []admin.LogLevel {
	var list []admin.LogLevel
	for _, l := range h.tel.Levels().List() {
		list = append(list, admin.LogLevel(l))
	}
	return list
}

// hubIdentity is what the hub says of itself on connections of its own.
func hubIdentity() upstream.Identity {
	info, _ := json.Marshal(map[string]string{"name": "mcphub", "version": buildVersion()})
	// Over a shared connection the hub asks the client whose call it is, if that
	// one can answer.
	return upstream.Identity{ClientInfo: info, Capabilities: json.RawMessage(`{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}`)}
}

func bridgesOf(cfg config.Config) map[string]gateway.BridgePolicy {
	policies := map[string]gateway.BridgePolicy{}
	for _, s := range cfg.Servers {
		policies[s.Name] = gateway.BridgePolicy(s.Bridge)
	}
	return policies
}

// toolLabels is how many tools get label sets of their own; below 0: none.
func toolLabels(m config.Metrics) int {
	if m.ToolLabel == "off" {
		return -1
	}
	return m.MaxToolLabels
}

// eraOf translates the configured era.
func eraOf(era string) protocol.Era {
	if era == "auto" {
		return protocol.AnyEra
	}
	return protocol.Era(era)
}

// specsOf translates the configured servers.
func specsOf(cfg config.Config, maxMessage int64) (specs []upstream.Spec, names []string, err error) {
	for _, s := range cfg.Servers {
		if s.Disabled {
			continue
		}
		spec := upstream.Spec{
			Name: s.Name, Command: s.Command, Args: s.Args, Dir: s.Cwd, URL: s.URL, SSE: s.Type == "sse", Headers: map[string]string{},
			Isolation: upstream.Isolation(s.Isolation), ConnectTimeout: s.ConnectTimeout, StartTimeout: s.StartTimeout,
			CallTimeout: s.CallTimeout, MaxMessage: maxMessage, Era: eraOf(s.Era),
			RefreshInterval: s.RefreshInterval,
		}
		for name, value := range s.Headers {
			spec.Headers[name] = value.Reveal()
		}
		if s.Command != "" {
			env := environmentOf(s, inheritedBy(cfg, s), os.Environ())
			spec.Env, spec.Secrets = env.variables, slices.Concat(env.secrets, secretsOf(s))
		}
		if s.Command == "mcphub" {
			if spec.Command, err = os.Executable(); err != nil {
				return nil, nil, fmt.Errorf("server %q: the path of this program is not known: %w", s.Name, err)
			}
		}
		specs = append(specs, spec)
		names = append(names, s.Name)
	}
	return specs, names, nil
}

// markChildren adds a variable to the environment of the servers that are processes.
func markChildren(specs []upstream.Spec, variable string) {
	for i := range specs {
		if specs[i].Command != "" {
			specs[i].Env = append(specs[i].Env, variable)
		}
	}
}
