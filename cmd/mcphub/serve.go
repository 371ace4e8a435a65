package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/telemetry"
)

func newServeCommand() *cobra.Command {
	var s settings
	var banner string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the hub",
		Long: `serve runs the hub until it gets SIGTERM, SIGINT or SIGHUP. It then stops
taking requests, lets those under way finish, writes its sessions and ends; a
second SIGTERM or SIGINT ends it at once.

Without --config it reads mcphub.yaml, mcphub.yml or mcphub.json of the current
directory. Its logs are on stderr and its metrics on the admin listener. Traces
are off until one of these variables turns them on:

  OTEL_TRACES_EXPORTER=console                       shows them on stderr, for people
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318  sends them to a collector, with metrics
  OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG       select some of them`,
		Example: `  mcphub serve --config mcphub.yaml
  MCPHUB_LISTEN=127.0.0.1:8000 mcphub serve --log-level debug
  MCPHUB_LOG=session=debug,upstream=warn mcphub serve
  SESSION_DEBUG=1 mcphub serve
  OTEL_TRACES_EXPORTER=console mcphub serve`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{endsByItself: ""}, // within limits.shutdownTimeout
		RunE: func(cmd *cobra.Command, _ []string) error {
			show, err := showBanner(banner, cmd.OutOrStdout())
			if err != nil {
				return usageError{err}
			}
			return serve(cmd.Context(), &s, show, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	s.bind(cmd.Flags())
	cmd.Flags().StringVar(&banner, "banner", "auto", "print how to connect: auto (on a terminal), always or never")
	return cmd
}

// serve runs the hub until ctx ends.
func serve(ctx context.Context, s *settings, show bool, stdout, stderr io.Writer) error {
	cfg, file, err := s.load(ctx, os.LookupEnv)
	if err != nil {
		return err
	}
	defer outlive()()
	limitHeap()
	level, err := telemetry.ParseLevel(cfg.Log.Level)
	if err != nil {
		return usageError{err}
	}
	tel, err := telemetry.Start(ctx, telemetry.Config{Version: buildVersion(), LogLevel: level, LogLevels: cfg.Log.Levels,
		LogFormat: cfg.Log.Format, SessionDebug: os.Getenv("SESSION_DEBUG"), SessionOf: session.IDFrom, Stderr: stderr})
	if err != nil {
		return usageError{err}
	}
	slog.SetDefault(tel.LoggerFor("mcp"))                         // mcp-go has no other logger
	log.SetOutput(telemetry.StdLog{Logger: tel.LoggerFor("mcp")}) // after SetDefault, which has log.Print go there as it is
	l, err := listen(ctx, cfg.Listen, cfg.Admin.Listen)
	if err != nil { // before anything is written
		return errors.Join(err, tel.Shutdown(ctx))
	}
	h, err := wire(cfg, tel)
	if err != nil {
		return errors.Join(err, l.mcp.Close(), l.side.Close(), tel.Shutdown(ctx))
	}
	tel.Logger().InfoContext(ctx, "mcphub starts", "version", buildVersion(), "config", file, "data_dir", cfg.DataDir,
		"endpoint", l.endpoint(), "admin", l.admin(), "servers", len(cfg.Servers), "memory", h.memory, "max_connections", h.clients.limit)
	warnOpen(tel.Logger(), l)
	logWithheld(tel.LoggerFor("upstream"), cfg, os.Environ())
	empty := emptyHub(cfg, file)
	logEmptyHub(ctx, tel.Logger(), empty)
	if show {
		printBanner(stdout, l.endpoint(), l.admin(), empty)
	}
	return h.run(ctx, l)
}

// listeners are the two doors of the hub.
type listeners struct{ mcp, side net.Listener }

func listen(ctx context.Context, mcp, side string) (listeners, error) {
	var l listeners
	lc := net.ListenConfig{Control: boundDeadPeers}
	var err error
	if l.mcp, err = lc.Listen(ctx, "tcp", mcp); err != nil {
		return l, fmt.Errorf("the MCP endpoint cannot listen on %s; is another hub running there? Choose an address with --listen: %w", mcp, err)
	}
	if l.side, err = lc.Listen(ctx, "tcp", side); err != nil {
		return l, errors.Join(
			fmt.Errorf("the admin page cannot listen on %s; choose another address with --admin-listen: %w", side, err),
			l.mcp.Close(),
		)
	}
	return l, nil
}

func (l listeners) endpoint() string { return "http://" + reachable(l.mcp.Addr().String()) + "/mcp" }
func (l listeners) admin() string    { return "http://" + reachable(l.side.Addr().String()) + "/" }

// reachable is an address to connect to from this machine: that of the loopback
// interface where one listens on all of them.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// warnOpen says what it means to listen on more than this machine.
func warnOpen(log *slog.Logger, l listeners) {
	for name, listener := range map[string]net.Listener{"listen": l.mcp, "admin.listen": l.side} {
		if addr, ok := listener.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
			log.Warn("anybody who can reach this address can use the hub: there is no authentication yet", name, addr.String())
		}
	}
}

// run serves until ctx ends or a listener fails, then shuts down in order.
func (h *hub) run(ctx context.Context, l listeners) error {
	log := h.tel.Logger()
	h.ready.set("sessions are being restored")
	mcp, side := newServer(h.endpoint(), log), newServer(h.side(l.endpoint()), log)
	l = listeners{h.clients.serve(mcp, l.mcp), h.operators.serve(side, l.side)}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	serve := func(server *http.Server, listener net.Listener) {
		serving.Go(func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	serve(side, l.side)
	// Workers outlive the requests they work for, so they do not end with ctx.
	w := newWorkers(context.WithoutCancel(ctx))
	err := h.sessions.Restore(ctx)
	if err == nil {
		serve(mcp, l.mcp) // who came earlier waits: there is no moment in which a stored session is unknown
		w.sessions.start(h.sessions.Run)
		w.others.start(h.store.Run)
		w.others.start(h.children.Run)
		w.servers.start(func(ctx context.Context) error {
			h.children.EndLeftovers(ctx) // they may hold what the servers need
			return h.pool.Run(ctx)
		})
		h.ready.set("")
		select {
		case <-ctx.Done():
		case failure := <-failed:
			err = fmt.Errorf("a listener failed: %w", failure)
		}
	}
	h.ready.set("the hub is shutting down")
	late := time.After(h.budget() + time.Second) // from here on, not from when the log has taken its record
	ended := make(chan error, 1)
	go func() { ended <- h.shutdown(context.WithoutCancel(ctx), w, mcp) }() // waited for, but not longer than the budget
	if err == nil {
		log.Info("shutting down", "why", context.Cause(ctx).Error(), "budget", h.cfg.Limits.ShutdownTimeout.String())
	} else {
		log.Error("shutting down after a failure", "err", err)
	}
	select {
	case serr := <-ended:
		err = errors.Join(err, serr)
	case <-late:
		err = errors.Join(err, errors.New("the shutdown hangs; is the disk of the data directory stuck? What was not acknowledged may be lost"))
	}
	_ = l.mcp.Close() // if it was never served
	_ = side.Close()
	serving.Wait()
	if err == nil {
		log.Info("stopped")
	}
	tctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.Limits.ShutdownTimeout/10)
	defer cancel()
	if terr := h.tel.Shutdown(tctx); terr != nil { // a collector that hangs is no failure of the hub
		log.Warn("the last telemetry was not exported", "err", terr)
	}
	return err
}

// budget is what a shutdown may take before the last telemetry is exported.
func (h *hub) budget() time.Duration { return h.cfg.Limits.ShutdownTimeout * 8 / 10 }

// newServer makes an HTTP server with bounds on everything but the length of
// an answer, which may be a stream.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// readiness says why the hub takes no requests; the zero value says nothing.
type readiness struct{ reason atomic.Value }

func (r *readiness) set(reason string) { r.reason.Store(reason) }

func (r *readiness) err() error {
	if reason, _ := r.reason.Load().(string); reason != "" {
		return errors.New(reason)
	}
	return nil
}
