package crash

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	randv2 "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// ledger is what the hub has acknowledged.
type ledger struct {
	mu      sync.Mutex
	alive   map[string]string // by token: client names of sessions whose creation was acknowledged and that nobody asked to end
	deleted map[string]bool   // tokens whose end was acknowledged
}

func (l *ledger) created(token, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alive[token] = name
}

// take removes a session, which the caller ends: until that is acknowledged, it may
// exist or not.
func (l *ledger) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token := range l.alive {
		delete(l.alive, token)
		return token
	}
	return ""
}

func (l *ledger) ended(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleted[token] = true
}

// TestNothingAcknowledgedIsLostByKill9 kills the hub at random moments under
// load. make soak runs it for a hundred rounds.
func TestNothingAcknowledgedIsLostByKill9(t *testing.T) {
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("MCPHUB_SOAK_ROUNDS")); err == nil {
		rounds = n
	}
	options := hubtest.Options{
		DataDir: t.TempDir(), Listen: hubtest.FreeAddress(t), AdminListen: hubtest.FreeAddress(t), LogLevel: "warn",
	}
	l := &ledger{alive: map[string]string{}, deleted: map[string]bool{}}
	total := 0
	for round := range rounds {
		hub := hubtest.StartHub(t, options)
		checkLedger(t, hub, l, round)
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() { l.client(ctx, hub.URL()) })
		}
		timer := time.NewTimer(time.Duration(50+randv2.N(400)) * time.Millisecond) // at a random moment
		<-timer.C
		hub.Kill()
		cancel()
		clients.Wait()
		total = len(l.alive) + len(l.deleted)
	}
	hub := hubtest.StartHub(t, options)
	checkLedger(t, hub, l, rounds)
	if total < 20*rounds {
		t.Errorf("only %d sessions were acknowledged in %d rounds: no load", total, rounds)
	}
	t.Logf("%d rounds, %d sessions alive, %d ended, 0 violations wanted", rounds, len(l.alive), len(l.deleted))
}

// client creates, uses and ends sessions until the hub is gone.
func (l *ledger) client(ctx context.Context, url string) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	send := func(method, token, body string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if token != "" {
			r.Header.Set("Mcp-Session-Id", token)
		}
		response, err := c.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		return response, err
	}
	for ctx.Err() == nil {
		name := rand.Text()
		response, err := send(http.MethodPost, "",
			`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",`+
				`"capabilities":{},"clientInfo":{"name":"`+name+`","version":"1"}}}`)
		if err != nil {
			return
		}
		token := response.Header.Get("Mcp-Session-Id")
		if token == "" {
			continue
		}
		l.created(token, name)
		if _, err := send(http.MethodPost, token, `{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"info"}}`); err != nil {
			return
		}
		if randv2.N(2) == 0 {
			victim := l.take()
			if response, err := send(http.MethodDelete, victim, ""); err != nil {
				return
			} else if response.StatusCode == http.StatusNoContent {
				l.ended(victim)
			}
		}
	}
}

// checkLedger compares the hub with what was acknowledged.
func checkLedger(t *testing.T, hub *hubtest.Hub, l *ledger, round int) {
	t.Helper()
	ping := func(token string) int {
		c := hubtest.NewLegacyClient(t, hub.URL())
		c.Token = token
		status, _ := c.Post(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		return status
	}
	hubtest.Eventually(t, "all sessions are loaded", func() bool { return hub.Metric(`mcphub_sessions_restoring{kind="protocol"}`) == "0" })
	files, err := filepath.Glob(filepath.Join(hub.DataDir, "sessions", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	records := len(slices.DeleteFunc(slices.Clone(files), func(f string) bool { return filepath.Base(f) == "index.json" }))
	if n := hub.Metric(`mcphub_sessions_restored_total{kind="protocol",transport="streamable_http"}`); n != strconv.Itoa(records) {
		t.Errorf("round %d: %s sessions restored of %d records", round, n, records)
	}
	for token, name := range l.alive {
		if status := ping(token); status != http.StatusOK {
			t.Errorf("round %d: an acknowledged session is lost: %d", round, status)
		}
		data, err := os.ReadFile(filepath.Join(hub.DataDir, "sessions", hubtest.SessionID(token)+".json"))
		var record struct {
			SessionID, ClientName     string
			CreatedAt, LastAccessedAt int64
		}
		if err != nil || json.Unmarshal(data, &record) != nil || record.SessionID != hubtest.SessionID(token) ||
			record.ClientName != name || record.LastAccessedAt < record.CreatedAt {
			t.Errorf("round %d: the record of %s is not what was acknowledged: %v %s", round, name, err, data)
		}
	}
	for token := range l.deleted {
		if status := ping(token); status != http.StatusNotFound {
			t.Errorf("round %d: an ended session is back: %d", round, status)
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil && !json.Valid(data) {
			t.Errorf("round %d: %s is torn", round, file)
		}
	}
	for _, reason := range []string{"damaged", "newer_schema"} {
		if n := hub.Metric(fmt.Sprintf(`mcphub_sessions_quarantined_total{reason=%q}`, reason)); n != "0" {
			t.Errorf("round %d: %s %s records", round, n, reason)
		}
	}
}
