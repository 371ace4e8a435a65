package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// Dashboards and alerts use these names and label values.
func TestEverySeriesExistsInAFreshRegistry(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	session.New(new(persist.Memory), session.Config{Registerer: reg})
	want := []string{
		`mcp_server_session_duration_seconds{,2024-11-05}`, `mcp_server_session_duration_seconds{,2025-03-26}`,
		`mcp_server_session_duration_seconds{,2025-06-18}`, `mcp_server_session_duration_seconds{,2025-11-25}`,
		`mcp_server_session_duration_seconds{,_OTHER}`,
		`mcphub_clock_jumps_total{backward}`, `mcphub_clock_jumps_total{forward}`,
		`mcphub_session_cleanup_duration_seconds{error}`, `mcphub_session_cleanup_duration_seconds{ok}`,
		`mcphub_session_cleanup_lag_seconds{idle_timeout}`, `mcphub_session_cleanup_lag_seconds{max_lifetime}`,
		`mcphub_session_create_duration_seconds{error}`, `mcphub_session_create_duration_seconds{ok}`,
		`mcphub_session_events_lost_total{}`,
		`mcphub_session_flush_bytes_total{}`,
		`mcphub_session_flush_duration_seconds{error}`, `mcphub_session_flush_duration_seconds{ok}`,
		`mcphub_session_flush_interval_seconds{}`,
		`mcphub_session_flushes_total{error}`, `mcphub_session_flushes_total{ok}`, `mcphub_session_flushes_total{skipped}`,
		`mcphub_session_idle_timeout_seconds{}`,
		`mcphub_session_loop_interval_seconds{cleanup}`, `mcphub_session_loop_interval_seconds{flush}`,
		`mcphub_session_loop_last_success_timestamp_seconds{cleanup}`, `mcphub_session_loop_last_success_timestamp_seconds{flush}`,
		`mcphub_session_loop_runs_total{cleanup,error}`, `mcphub_session_loop_runs_total{cleanup,ok}`,
		`mcphub_session_loop_runs_total{flush,error}`, `mcphub_session_loop_runs_total{flush,ok}`,
		`mcphub_session_max_lifetime_seconds{}`, `mcphub_session_messages_lost_total{}`, `mcphub_session_tails_active{}`,
		`mcphub_session_records_bytes{}`, `mcphub_session_records_limit_bytes{}`, `mcphub_sessions_limited_total{evicted,memory}`,
		`mcphub_sessions_limited_total{refused,memory}`,
		`mcphub_session_operations{derived}`, `mcphub_session_operations{protocol}`,
		`mcphub_sessions_limit{}`, `mcphub_sessions_per_client_limit{}`, `mcphub_sessions_derived_limit{}`,
		`mcphub_sessions_limited_total{evicted,client}`, `mcphub_sessions_limited_total{evicted,global}`,
		`mcphub_sessions_limited_total{refused,client}`, `mcphub_sessions_limited_total{refused,global}`,
		`mcphub_sessions_limited_total{evicted,derived}`, `mcphub_sessions_limited_total{refused,derived}`,
		`mcphub_sessions_quarantined_total{damaged}`, `mcphub_sessions_quarantined_total{newer_schema}`,
		`mcphub_sessions_refused_total{expired}`, `mcphub_sessions_refused_total{malformed}`,
		`mcphub_sessions_refused_total{principal}`, `mcphub_sessions_refused_total{unknown}`,
		`mcphub_sessions_refused_total{verifier}`,
	}
	for _, kind := range []string{"protocol", "derived"} {
		for _, name := range []string{"mcphub_session_oldest_age_seconds", "mcphub_session_oldest_dirty_age_seconds",
			"mcphub_session_oldest_idle_seconds", "mcphub_sessions_dirty", "mcphub_sessions_idle", "mcphub_sessions_overdue",
			"mcphub_sessions_restoring"} {
			want = append(want, fmt.Sprintf("%s{%s}", name, kind))
		}
		for _, name := range []string{"mcphub_sessions_active", "mcphub_sessions_created_total", "mcphub_sessions_restored_total"} {
			want = append(want, fmt.Sprintf("%s{%s,streamable_http}", name, kind))
		}
		for _, reason := range []string{"admin", "backend_lost", "client_delete", "disconnect", "evicted", "idle_timeout",
			"init_failed", "max_lifetime", "shutdown"} {
			want = append(want, fmt.Sprintf("mcphub_sessions_closed_total{%s,%s}", kind, reason))
		}
	}
	families, err := reg.Gather()
	check(t, err)
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got = append(got, fmt.Sprintf("%s{%s}", f.GetName(), strings.Join(labelValues(m), ",")))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the series are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMetricsPassTheLinter(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	create(t, session.New(new(persist.Memory), session.Config{Registerer: reg}))
	problems, err := testutil.GatherAndLint(reg)
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestThresholdsAreMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	session.New(new(persist.Memory), session.Config{
		Registerer: reg, IdleTimeout: time.Hour, FlushInterval: time.Second, CleanupInterval: 10 * time.Second,
		MaxLifetime: 2 * time.Hour, MaxSessions: 1000, MaxSessionsPerClient: 10, MaxDerived: 100,
	})
	for name, want := range map[string]float64{
		"mcphub_session_idle_timeout_seconds": 3600, "mcphub_session_flush_interval_seconds": 1,
		"mcphub_session_max_lifetime_seconds": 7200, "mcphub_sessions_limit": 1000, "mcphub_sessions_per_client_limit": 10,
		"mcphub_sessions_derived_limit":              100,
		"mcphub_session_loop_interval_seconds flush": 1, "mcphub_session_loop_interval_seconds cleanup": 10,
	} {
		name, label, labelled := strings.Cut(name, " ")
		labels := []string{label}[:map[bool]int{true: 1}[labelled]]
		if got := metric(t, reg, name, labels...); got != want {
			t.Errorf("%s%q = %v; want %v", name, labels, got, want)
		}
	}
}

func TestSnapshotFollowsTheSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		m := session.New(new(persist.Memory), session.Config{Registerer: reg})
		_, token := create(t, m)
		time.Sleep(20 * time.Minute)
		create(t, m)
		l := acquire(t, m, token)
		time.Sleep(16 * time.Minute)
		expect := func(name string, want float64) {
			t.Helper()
			if got := metric(t, reg, name, "protocol"); got != want {
				t.Errorf("%s = %v; want %v", name, got, want)
			}
		}
		expect("mcphub_session_oldest_age_seconds", 36*60)
		expect("mcphub_session_oldest_idle_seconds", 16*60) // not the one in use
		expect("mcphub_sessions_idle", 1)
		expect("mcphub_sessions_overdue", 0)
		l.Release()
		expect("mcphub_session_oldest_idle_seconds", 16*60)
		// The first deadline is 14 minutes from now. Two sweeps may pass.
		time.Sleep(16 * time.Minute)
		expect("mcphub_sessions_overdue", 0)
		time.Sleep(time.Second)
		expect("mcphub_sessions_overdue", 1)
		if n, err := m.Cleanup(t.Context()); n != 1 || err != nil {
			t.Errorf("Cleanup = %d, %v", n, err)
		}
		expect("mcphub_sessions_overdue", 0)
		if got := metric(t, reg, "mcphub_session_cleanup_lag_seconds", "idle_timeout"); got != 1 {
			t.Errorf("the lag was observed %v times", got)
		}
	})
}

func TestLoopsReportTheirLastSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, store := prometheus.NewPedanticRegistry(), newFaulty()
		m, stop := running(t, store, session.Config{Registerer: reg})
		defer stop()
		success := func(loop string) time.Duration {
			at := metric(t, reg, "mcphub_session_loop_last_success_timestamp_seconds", loop)
			return time.Since(time.UnixMilli(int64(at * 1000)))
		}
		time.Sleep(time.Hour)
		if flush, cleanup := success("flush"), success("cleanup"); flush > 5*time.Second || cleanup > time.Minute {
			t.Errorf("an idle hub: the last flush succeeded %v ago, the last cleanup %v", flush, cleanup)
		}
		s, _ := create(t, m)
		store.fail(errDisk)
		rename(t, m, s.ID, "renamed")
		time.Sleep(time.Minute)
		if got := success("flush"); got < 54*time.Second {
			t.Errorf("the store fails: the last flush succeeded %v ago", got)
		}
		if got := metric(t, reg, "mcphub_session_loop_runs_total", "flush", "error"); got < 10 {
			t.Errorf("%v failed rounds were counted", got)
		}
	})
}

func TestEndedSessionIsObserved(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := session.New(new(persist.Memory), session.Config{Registerer: reg})
	for _, tt := range []struct {
		version string
		why     session.Reason
		labels  []string
	}{
		{"2025-11-25", session.ClientDelete, []string{"", "2025-11-25"}},
		{"2525-01-01", session.ClientDelete, []string{"", "_OTHER"}},
		{"", session.BackendLost, []string{"backend_lost", "_OTHER"}},
	} {
		s, _, err := m.Create(t.Context(), session.Session{ProtocolVersion: tt.version})
		check(t, err)
		if _, err := m.End(t.Context(), s.ID, tt.why); err != nil {
			t.Error(err)
		}
		if got := metric(t, reg, "mcp_server_session_duration_seconds", tt.labels...); got != 1 {
			t.Errorf("version %q, reason %s: %v observed", tt.version, tt.why, got)
		}
	}
	if got := metric(t, reg, "mcphub_session_operations", "protocol"); got != 3 {
		t.Errorf("the requests of %v sessions were observed", got)
	}
}
