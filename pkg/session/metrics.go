package session

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	transport    = "streamable_http" // label transport
	otherVersion = "_OTHER"          // label mcp_protocol_version: a version that the hub does not know
)

// metrics are the instruments of the package. The gauges and totals of sessions are
// not among them: collector reads those from the Manager in one snapshot.
type metrics struct {
	create, flush, cleanup durations
	flushes                *prometheus.CounterVec // by outcome
	flushBytes             prometheus.Counter
	cleanupLag             *prometheus.HistogramVec // s, from the deadline of a session to its end, by reason
	duration               *prometheus.HistogramVec // s, from creation to end, by error type and version
	operations             *prometheus.HistogramVec // requests and streams of a session, by kind
	limited                *prometheus.CounterVec   // by scope and action
	eventsLost             prometheus.Counter
	messagesLost           prometheus.Counter
	quarantined            *prometheus.CounterVec // by reason
	refusals               *prometheus.CounterVec // by reason
	lastSuccess            *prometheus.GaugeVec   // Unix time, s, by loop
	loopRuns               *prometheus.CounterVec // by loop and outcome
	clockJumps             *prometheus.CounterVec // by direction
	versions               map[string]bool        // values of the label mcp_protocol_version besides _OTHER
}

// durations is a histogram of durations by outcome.
type durations struct{ h *prometheus.HistogramVec }

// observe records the time since start.
func (d durations) observe(start time.Time, err error) {
	d.h.WithLabelValues(outcome(err)).Observe(time.Since(start).Seconds())
}

func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

func newMetrics(cfg Config, m *Manager) *metrics {
	f := promauto.With(cfg.Registerer)
	seconds := func(name, help string) durations {
		h := f.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help,
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5}}, []string{"outcome"})
		h.WithLabelValues("ok")
		h.WithLabelValues("error")
		return durations{h}
	}
	x := &metrics{
		create:  seconds("mcphub_session_create_duration_seconds", "Time to create a session durably."),
		flush:   seconds("mcphub_session_flush_duration_seconds", "Time to write one batch of changed sessions."),
		cleanup: seconds("mcphub_session_cleanup_duration_seconds", "Time of one sweep for expired sessions."),
		flushes: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_session_flushes_total",
			Help: "Batches of changed sessions, by outcome; skipped: there was nothing to write."}, []string{"outcome"}),
		flushBytes: f.NewCounter(prometheus.CounterOpts{Name: "mcphub_session_flush_bytes_total",
			Help: "Bytes of session records written."}),
		cleanupLag: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcphub_session_cleanup_lag_seconds",
			Help:    "Time between the deadline of a session and its end by the sweep.",
			Buckets: []float64{1, 5, 15, 60, 300}}, []string{"reason"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcp_server_session_duration_seconds",
			Help:    "Life of a client session, from its creation to its end.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 14400, 86400}}, []string{"error_type", "mcp_protocol_version"}),
		operations: f.NewHistogramVec(prometheus.HistogramOpts{Name: "mcphub_session_operations",
			Help:    "Requests and streams of a session in this process, at its end; 0: never used.",
			Buckets: []float64{0, 1, 2, 5, 10, 50, 100, 1000, 10000}}, []string{"kind"}),
		quarantined: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_sessions_quarantined_total",
			Help: "Stored sessions that were not loaded: damaged ones are set aside, those of a newer schema left alone."},
			[]string{"reason"}),
		refusals: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_sessions_refused_total",
			Help: "Requests refused because their session id opens no session."}, []string{"reason"}),
		lastSuccess: f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_session_loop_last_success_timestamp_seconds",
			Help: "When a background loop last succeeded, Unix time."}, []string{"loop"}),
		loopRuns: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_session_loop_runs_total",
			Help: "Rounds of a background loop."}, []string{"loop", "outcome"}),
		limited: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_sessions_limited_total",
			Help: "Sessions beyond a limit: refused to a client, or evicted for one."}, []string{"scope", "action"}),
		eventsLost: f.NewCounter(prometheus.CounterOpts{Name: "mcphub_session_events_lost_total",
			Help: "Session events that a watcher was too slow for."}),
		clockJumps: f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_clock_jumps_total",
			Help: "Times the wall clock was set by 5 s or more while the hub ran, by direction."}, []string{"direction"}),
		messagesLost: f.NewCounter(prometheus.CounterOpts{Name: "mcphub_session_messages_lost_total",
			Help: "Messages that somebody who follows a session was too slow for."}),
		versions: map[string]bool{"2024-11-05": true, "2025-03-26": true, "2025-06-18": true, "2025-11-25": true},
	}
	interval := f.NewGaugeVec(prometheus.GaugeOpts{Name: "mcphub_session_loop_interval_seconds",
		Help: "How often a background loop runs."}, []string{"loop"})
	interval.WithLabelValues("flush").Set(cfg.flushInterval().Seconds())
	interval.WithLabelValues("cleanup").Set(cfg.cleanupInterval().Seconds())
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_session_flush_interval_seconds",
		Help: "Configured flush interval."}).Set(cfg.flushInterval().Seconds())
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_session_idle_timeout_seconds",
		Help: "Configured idle timeout."}).Set(cfg.idleTimeout().Seconds())
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_sessions_limit",
		Help: "Configured limit of sessions; 0: there is none."}).Set(float64(cfg.MaxSessions))
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_sessions_per_client_limit",
		Help: "Configured limit of sessions of one client; 0: there is none."}).Set(float64(cfg.MaxSessionsPerClient))
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_sessions_derived_limit",
		Help: "Configured limit of derived sessions."}).Set(float64(cfg.maxDerived()))
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_session_max_lifetime_seconds",
		Help: "Configured longest life of a session; 0: there is none."}).Set(max(0, cfg.MaxLifetime.Seconds()))
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_session_records_limit_bytes",
		Help: "Memory that the records of all sessions may take; 0: there is no limit."}).Set(float64(cfg.MaxRecordBytes))
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "mcphub_session_records_bytes",
		Help: "Estimated memory of the records of all sessions."}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return float64(m.recordBytes)
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "mcphub_session_tails_active",
		Help: "Watchers that follow the messages of a session."}, func() float64 { return float64(m.tails.active.Load()) })
	x.initSeries()
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(collector{m})
	}
	return x
}

// initSeries creates every label set that a query may need, with the value 0.
func (x *metrics) initSeries() {
	for _, o := range []string{"ok", "error", "skipped"} {
		x.flushes.WithLabelValues(o)
	}
	for _, r := range []string{"damaged", "newer_schema"} {
		x.quarantined.WithLabelValues(r)
	}
	for _, r := range []string{"malformed", "unknown", "verifier", "principal", "expired"} {
		x.refusals.WithLabelValues(r)
	}
	for _, loop := range []string{"flush", "cleanup"} {
		x.lastSuccess.WithLabelValues(loop).Set(float64(time.Now().UnixMilli()) / 1000)
		for _, o := range []string{"ok", "error"} {
			x.loopRuns.WithLabelValues(loop, o)
		}
	}
	for _, r := range []Reason{IdleTimeout, MaxLifetime} {
		x.cleanupLag.WithLabelValues(string(r))
	}
	for _, scope := range []string{scopeGlobal, scopeClient, scopeMemory, scopeDerived} {
		for _, action := range []string{"refused", "evicted"} {
			x.limited.WithLabelValues(scope, action)
		}
	}
	for _, direction := range []string{"forward", "backward"} {
		x.clockJumps.WithLabelValues(direction)
	}
	for version := range x.versions {
		x.duration.WithLabelValues("", version)
	}
	x.duration.WithLabelValues("", otherVersion)
	for _, kind := range Kinds() {
		x.operations.WithLabelValues(kind.String())
	}
}

func (x *metrics) refused(reason string) { x.refusals.WithLabelValues(reason).Inc() }

func (x *metrics) clockJumped(by time.Duration) {
	direction := "forward"
	if by < 0 {
		direction = "backward"
	}
	x.clockJumps.WithLabelValues(direction).Inc()
}

func (x *metrics) loopRan(loop string, err error) {
	x.loopRuns.WithLabelValues(loop, outcome(err)).Inc()
	if err == nil {
		x.lastSuccess.WithLabelValues(loop).Set(float64(time.Now().UnixMilli()) / 1000)
	}
}

func (x *metrics) flushed(start time.Time, bytes int, failures map[string]error) {
	var err error
	if len(failures) > 0 {
		err = anyError(failures)
	}
	x.flush.observe(start, err)
	x.flushes.WithLabelValues(outcome(err)).Inc()
	x.flushBytes.Add(float64(bytes))
}

func (x *metrics) cleanedUp(why Reason, lag time.Duration) {
	x.cleanupLag.WithLabelValues(string(why)).Observe(lag.Seconds())
}

func (x *metrics) sessionEnded(s Session, why Reason, age time.Duration, uses int64) {
	x.operations.WithLabelValues(s.Kind.String()).Observe(float64(uses))
	if s.Kind == Derived {
		return // the semantic conventions define the metric for sessions of the protocol only
	}
	version, errorType := s.ProtocolVersion, ""
	if !x.versions[version] {
		version = otherVersion
	}
	switch why {
	case InitFailed, BackendLost, Evicted:
		errorType = string(why)
	}
	x.duration.WithLabelValues(errorType, version).Observe(age.Seconds())
}

// collector exports the gauges and totals of sessions from one snapshot, so that
// created + restored - closed - active is 0 for each kind in every scrape.
type collector struct{ m *Manager }

var (
	descActive = desc("mcphub_sessions_active", "Sessions there are now.", "kind", "transport")
	descDirty  = desc("mcphub_sessions_dirty", "Sessions whose stored copy is stale, ended ones included.", "kind")
	descIdle   = desc("mcphub_sessions_idle",
		"Sessions with nothing in flight that are silent for more than half of the idle timeout.", "kind")
	descOverdue = desc("mcphub_sessions_overdue", "Sessions that two sweeps should have ended.", "kind")
	descPending = desc("mcphub_sessions_restoring", "Stored sessions that are not loaded yet.", "kind")
	descAge     = desc("mcphub_session_oldest_age_seconds", "Age of the oldest session.", "kind")
	descIdleAge = desc("mcphub_session_oldest_idle_seconds",
		"Longest time since the last activity of a session with nothing in flight.", "kind")
	descDirtyAge = desc("mcphub_session_oldest_dirty_age_seconds",
		"Longest time a change has been waiting to be written.", "kind")
	descCreated  = desc("mcphub_sessions_created_total", "Sessions created.", "kind", "transport")
	descRestored = desc("mcphub_sessions_restored_total", "Sessions loaded from the store.", "kind", "transport")
	descClosed   = desc("mcphub_sessions_closed_total", "Sessions ended, by reason.", "kind", "reason")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descActive, descDirty, descIdle, descOverdue, descPending, descAge, descIdleAge,
		descDirtyAge, descCreated, descRestored, descClosed} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for k, s := range c.m.snapshot(time.Now()) {
		kind := k.String()
		gauge(descActive, float64(s.active), kind, transport)
		gauge(descDirty, float64(s.dirty), kind)
		gauge(descIdle, float64(s.idle), kind)
		gauge(descOverdue, float64(s.overdue), kind)
		gauge(descPending, float64(s.pending), kind)
		gauge(descAge, s.oldest.Seconds(), kind)
		gauge(descIdleAge, s.oldestIdle.Seconds(), kind)
		gauge(descDirtyAge, s.oldestDirty.Seconds(), kind)
		counter(descCreated, s.counts.created, kind, transport)
		counter(descRestored, s.counts.restored, kind, transport)
		for r, n := range s.counts.closed {
			counter(descClosed, n, kind, string(r))
		}
	}
}
