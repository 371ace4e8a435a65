package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// Base32 has 5 bits per character: 100 in the id, 130 in the verifier.
//
// B12: an id had 32 bits.
func TestTokenIsIDDotVerifierWithEnoughRandomBits(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	shape := regexp.MustCompile(`^[a-z2-7]{20}\.[a-z2-7]{26}$`)
	const n = 10_000
	seen := make(map[string]bool, 2*n)
	for range n {
		s, token := create(t, m)
		if !shape.MatchString(token) || !strings.HasPrefix(token, s.ID+".") || !persist.ValidKey(s.ID) {
			t.Fatalf("the token %q of session %q has an invalid form", token, s.ID)
		}
		seen[s.ID], seen[verifierOf(token)] = true, true
	}
	if len(seen) != 2*n {
		t.Errorf("%d of %d ids and verifiers differ", len(seen), 2*n)
	}
}

func TestVerifierIsShownNowhere(t *testing.T) {
	path, log, reg, spans := t.TempDir(), new(hubtest.Buffer), prometheus.NewPedanticRegistry(), tracetest.NewSpanRecorder()
	dir := openDir(t, path)
	store := &faulty{Store: dir}
	m := session.New(store, session.Config{
		Logger:         slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 4})),
		Registerer:     reg,
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		Open:           func(context.Context, session.Session) (session.Live, error) { return nil, errDisk },
	})
	s, token := create(t, m)
	l := acquire(t, m, token)
	var shown strings.Builder // everything that the package returns, logs, stores or exports
	show := func(what ...any) { fmt.Fprintf(&shown, "%+v %#v\n", what, what) }
	tell := func(_ any, err error) { show(err, fmt.Sprint(err)) }

	tell(l.Live(t.Context()))
	tell(m.Acquire(t.Context(), s.ID+"."+strings.Repeat("x", 26), ""))
	tell(m.Acquire(t.Context(), token, "somebody else"))
	tell(m.Acquire(t.Context(), token+".", ""))
	tell(m.Acquire(t.Context(), "x"+token, ""))
	rename(t, m, s.ID, "renamed")
	store.fail(errDisk)
	tell(nil, m.Flush(t.Context()))
	tell(m.End(t.Context(), createDespiteFailure(store, t, m), session.Admin))
	store.during(nil)
	check(t, m.Flush(t.Context()))
	show(record(t, dir, s.ID))
	all, _ := m.All()
	info, err := m.Info(t.Context(), s.ID)
	show(all, info, err, l.Session(), s.LogValue().String(), get(t, m, s.ID), m.Events(s.ID))
	slog.New(slog.NewJSONHandler(log, nil)).Info("a session", "session", s)
	l.Release()
	end(t, m, s.ID)
	tell(m.Acquire(t.Context(), token, ""))
	tell(nil, m.Close(t.Context()))

	for _, span := range spans.Ended() {
		show(span.Name(), span.Attributes(), span.Events(), span.Status(), span.Links())
	}
	families, err := reg.Gather()
	check(t, err)
	show(fmt.Sprint(families))
	show(log.String())
	if log.String() == "" || len(spans.Ended()) == 0 {
		t.Fatal("the logs and spans were not captured")
	}
	if got := shown.String(); strings.Contains(got, verifierOf(token)) {
		i := strings.Index(got, verifierOf(token))
		t.Errorf("the verifier is shown: …%s…", got[max(0, i-200):min(len(got), i+100)])
	}
	if !strings.Contains(shown.String(), sha256Hex(verifierOf(token))) {
		t.Error("the SHA-256 of the verifier is not stored, so the search above is not meaningful")
	}
}

// createDespiteFailure creates a session although the store fails at that time.
func createDespiteFailure(store *faulty, t *testing.T, m *session.Manager) string {
	t.Helper()
	store.during(nil)
	defer store.fail(errDisk)
	s, _ := create(t, m)
	return s.ID
}

// A15: the name of the file was the credential.
func TestOnlyTheHashOfTheVerifierIsStored(t *testing.T) {
	path := t.TempDir()
	dir := openDir(t, path)
	s, token := create(t, session.New(dir, session.Config{}))
	check(t, dir.Close())
	entries, err := os.ReadDir(path)
	check(t, err)
	for _, e := range entries {
		if strings.Contains(e.Name()+readFile(t, path, e.Name()), verifierOf(token)) {
			t.Errorf("the verifier is in %s", e.Name())
		}
	}
	if got := readFile(t, filepath.Join(path, s.ID+".json")); !strings.Contains(got, `"tokenHash":"`+sha256Hex(verifierOf(token))+`"`) {
		t.Errorf("the hash is missing in %s", got)
	}
}

// B1: an unknown id became a working session.
func TestEveryRefusalIsTheSameAndCreatesNothing(t *testing.T) {
	reg, store := prometheus.NewPedanticRegistry(), newFaulty()
	put(t, store, "probe-99-a3c175f1", fresh("probe-99-a3c175f1"))
	m := restored(t, store, session.Config{Registerer: reg})
	mine, token := create(t, m)
	ended, endedToken := create(t, m)
	end(t, m, ended.ID)
	before := len(store.applied())
	for _, tt := range []struct{ name, token, principal, reason string }{
		{"wrong verifier", mine.ID + "." + strings.Repeat("a", 26), "", "verifier"},
		{"bare id of a hashed session", mine.ID, "", "verifier"},
		{"the hash itself", mine.ID + "." + sha256Hex(verifierOf(token)), "", "verifier"},
		{"upper case", mine.ID + "." + strings.ToUpper(verifierOf(token)), "", "verifier"},
		{"more after the verifier", token + ".x", "", "verifier"},
		{"verifier for an imported session", "probe-99-a3c175f1.x", "", "verifier"},
		{"another principal", token, "somebody else", "principal"},
		{"another principal of an imported session", "probe-99-a3c175f1", "somebody else", "principal"},
		{"unknown", "a" + token, "", "unknown"},
		{"a path", "/etc/passwd", "", "unknown"},
		{"ended", endedToken, "", "unknown"},
		{"empty", "", "", "malformed"},
		{"no verifier", mine.ID + ".", "", "malformed"},
		{"no id", "." + verifierOf(token), "", "malformed"},
		{"too long", token + strings.Repeat("x", 300), "", "malformed"},
	} {
		counted := metric(t, reg, "mcphub_sessions_refused_total", tt.reason)
		l, err := m.Acquire(t.Context(), tt.token, tt.principal)
		if l != nil || err != session.ErrNotFound { //nolint:errorlint // the error itself, not wrapped, which could reveal more
			t.Errorf("%s: Acquire = %v, %v; want plain ErrNotFound", tt.name, l, err)
		}
		if got := metric(t, reg, "mcphub_sessions_refused_total", tt.reason); got != counted+1 {
			t.Errorf("%s: counted %v times as %s", tt.name, got-counted, tt.reason)
		}
	}
	if got := ids(m); len(got) != 2 {
		t.Errorf("the sessions are %v; want mine and the imported one", got)
	}
	check(t, m.Flush(t.Context()))
	if got := store.applied()[before:]; len(got) != 0 {
		t.Errorf("refusals were written: %v", got)
	}
	acquire(t, m, token).Release()
	acquire(t, m, "probe-99-a3c175f1").Release()
}

// B11: a request could reach the session of another client.
func TestSessionOpensOnlyToItsPrincipal(t *testing.T) {
	m := session.New(new(persist.Memory), session.Config{})
	s, token, err := m.Create(t.Context(), session.Session{Principal: "alice"})
	check(t, err)
	check(t, m.Update(t.Context(), s.ID, func(s *session.Session) { s.Principal, s.TokenHash, s.ID = "", "", "x" }))
	for _, principal := range []string{"", "bob", "Alice"} {
		if _, err := m.Acquire(t.Context(), token, principal); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("principal %q: %v; want ErrNotFound", principal, err)
		}
	}
	l, err := m.Acquire(t.Context(), token, "alice")
	check(t, err)
	l.Release()
}

func TestRefusedRequestIsLoggedWithoutItsToken(t *testing.T) {
	log := new(hubtest.Buffer)
	m := session.New(new(persist.Memory), session.Config{Logger: slog.New(slog.NewJSONHandler(log, nil))})
	s, _ := create(t, m)
	_, _ = m.Acquire(t.Context(), s.ID+".stolen", "")
	_, _ = m.Acquire(t.Context(), "nobody.guessed", "")
	if got := log.String(); !strings.Contains(got, "wrong verifier") || strings.Contains(got, "stolen") ||
		strings.Contains(got, "guessed") {
		t.Errorf("the log says %s", got)
	}
}
