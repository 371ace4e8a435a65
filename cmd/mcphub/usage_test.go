package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

func TestANegativeIdleTimeIsRefusedAndEndsNothing(t *testing.T) {
	var asked atomic.Int32
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(`{"sessions":[{"sessionId":"s1"}],"count":1}`))
	}))
	defer admin.Close()
	for _, args := range [][]string{{"kill", "--yes"}, {"kill", "--yes", "--client", "x"}, {"list"}} {
		args = append(append([]string{"sessions"}, args...), "--idle-longer-than", "-10m", "--admin", admin.URL)
		if status, _, errs := mcphub(t, "", args...); status != 2 || !strings.Contains(errs, "positive") {
			t.Errorf("%v: %d %s", args, status, errs)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the hub was asked %d times", n)
	}
}

func TestAnExportOfAMissingDirectoryCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	status, out, errs := mcphub(
		t,
		"",
		"sessions",
		"export",
		"--data-dir",
		filepath.Join(dir, "absent"),
		"--output",
		filepath.Join(dir, "file"),
	)
	if status != 1 || out != "" || !strings.Contains(errs, "--data-dir") {
		t.Errorf("export: %d %s%s", status, out, errs)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
		t.Errorf("the export made %v, %v", made, err)
	}
}

// record is a stored session.
func record(id string) string {
	now := time.Now().UnixMilli()
	return fmt.Sprintf(`{"sessionId":%q,"createdAt":%d,"lastAccessedAt":%d}`, id, now, now)
}

// sessionsIn stores records, or only opens what is there, and returns the keys.
func sessionsIn(t *testing.T, dataDir string, records map[string]string) (keys []string) {
	t.Helper()
	store, err := persist.OpenDir(filepath.Join(dataDir, "sessions"), persist.DirConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var changes []persist.Change
	for id, text := range records {
		changes = append(changes, persist.Change{Key: id, Value: []byte(text)})
	}
	if err := store.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	for key, err := range store.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func TestAnExportLeavesADamagedRecordOutAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	sessionsIn(t, dir, map[string]string{"s1": record("s1"), "s2": `{"sessionId":`, "s3": record("another"), "s4": record("s4")})
	status, out, errs := mcphub(t, "", "sessions", "export", "--data-dir", dir)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 1 || len(lines) != 2 || !strings.Contains(lines[0], `"s1"`) || !strings.Contains(lines[1], `"s4"`) {
		t.Errorf("export: %d\n%s", status, out)
	}
	for _, want := range []string{"session s2 is left out", "session s3 is left out", "2 sessions exported"} {
		if !strings.Contains(errs, want) {
			t.Errorf("it does not say %q:\n%s", want, errs)
		}
	}
	if got := sessionsIn(t, dir, nil); len(got) != 4 {
		t.Errorf("the export left %v", got)
	}
}

func TestAnImportRefusesARecordThatCouldNotBeLoaded(t *testing.T) {
	for name, line := range map[string]string{
		"no times":      `{"sessionId":"s1"}`,
		"wrong type":    `{"sessionId":"s1","createdAt":"yesterday","lastAccessedAt":1}`,
		"newer version": `{"sessionId":"s1","createdAt":1,"lastAccessedAt":1,"schemaVersion":999}`,
	} {
		dir := t.TempDir()
		status, _, errs := mcphub(t, "\n"+line+"\n"+record("s2")+"\n", "sessions", "import", "--data-dir", dir)
		if status != 1 || !strings.Contains(errs, "line 2") || !strings.Contains(errs, "0 sessions imported") {
			t.Errorf("%s: %d %s", name, status, errs)
		}
		if got := sessionsIn(t, dir, nil); len(got) != 0 {
			t.Errorf("%s: %v are stored", name, got)
		}
	}
}

func TestAnUnknownCommandIsWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"sessions", "nonsense"}, {"sessions"}, {"config", "nonsense"}, {"config"},
		{"sessions", "show"}, {"sessions", "list", "nonsense"}, {"sessions", "list", "--nonsense"}} {
		if status, _, errs := mcphub(t, "", args...); status != 2 || errs == "" {
			t.Errorf("%v: %d %s", args, status, errs)
		}
	}
}

func TestAListenAddressOfAllInterfacesIsReachedOverLoopback(t *testing.T) {
	for address, want := range map[string]string{
		":7788": "127.0.0.1:7788", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1",
		"10.0.0.1:1": "10.0.0.1:1", "[::1]:1": "[::1]:1", "hub.example:1": "hub.example:1", "7788": "7788",
	} {
		if got := reachable(address); got != want {
			t.Errorf("reachable(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestWhatIsNoAdminListenerIsSaidToBeNone(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, args := range [][]string{{"log-level"}, {"sessions", "list"}, {"sessions", "tail", "s1"}} {
		if status, _, errs := mcphub(t, "", append(args, "--admin", other.URL)...); status != 1 || !strings.Contains(errs, "is --admin right?") {
			t.Errorf("%v: %d %s", args, status, errs)
		}
	}
	guard := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"add it to allowedHosts"}}`))
	}))
	defer guard.Close()
	if status, _, errs := mcphub(t, "", "log-level", "--admin", guard.URL); status != 1 || !strings.Contains(errs, "add it to allowedHosts") {
		t.Errorf("%d %s", status, errs)
	}
}

func TestAFollowedStreamThatBreaksOffIsToldFromOneThatIsClosed(t *testing.T) {
	closes := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(": session messages\n\n")) }
	breaks := func(w http.ResponseWriter, r *http.Request) {
		closes(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for want, handler := range map[string]http.HandlerFunc{"the hub has closed the stream": closes, "the hub is gone": breaks} {
		hub := httptest.NewServer(handler)
		defer hub.Close()
		if status, _, errs := mcphub(t, "", "sessions", "tail", "s1", "--admin", hub.URL); status != 1 || !strings.Contains(errs, want) {
			t.Errorf("%q: %d %s", want, status, errs)
		}
	}
}
