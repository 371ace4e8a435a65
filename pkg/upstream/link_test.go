package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// initialized counts the sessions that the client of the links asked for.
func initialized(h *httpScript) int { return len(h.sent("POST", `"name":"client"`)) }

func TestManyCallersShareOneAttemptToConnect(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	r := run(t, []Spec{h.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := l.Call(t.Context(), toolCall("echo", "")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := initialized(h); n != 1 {
		t.Errorf("the server was initialized %d times", n)
	}
	if body := h.sent("POST", `"name":"client"`)[0].body; !strings.Contains(body,
		`"capabilities":{"roots":{}},"clientInfo":{"name":"client","version":"1"}`) {
		t.Errorf("the client was introduced as %s", body)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != 2 {
		t.Errorf("%v connections are counted", n)
	}
	l.Close(true)
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != 1 || len(h.live("client")) != 0 {
		t.Errorf("%v connections are counted after the end", n)
	}
	if _, err := l.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrCancelled) {
		t.Errorf("a call after the end: %v", err)
	}
}

// If each caller waited for an attempt of its own, this would take callers x timeout.
func TestManyCallersShareOneFailureToConnect(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, hangs(`"name":"client"`))
	spec := h.spec()
	spec.ConnectTimeout = 3 * time.Second
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	var wg sync.WaitGroup
	within(t, 12*time.Second, "32 calls", func() {
		for range 32 {
			wg.Go(func() {
				if _, err := l.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, transport.ErrConnectTimeout) {
					t.Errorf("error %v", err)
				}
			})
		}
		wg.Wait()
	})
}

func TestCallerWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	var first atomic.Bool
	asked := make(chan struct{})
	h := newHTTPScript(t, func(h *httpScript) {
		h.onPost = func(_ http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if !strings.Contains(string(m.Params), `"name":"client"`) || !first.CompareAndSwap(false, true) {
				return false
			}
			close(asked)
			<-r.Context().Done()
			return true
		}
	})
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp, other := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := l.Call(ctx, toolCall("echo", ""))
		gaveUp <- err
	}()
	wait(t, "the first connects", asked)
	go func() {
		_, err := l.Call(t.Context(), toolCall("echo", ""))
		other <- err
	}()
	cancel()
	if err := wait(t, "the first returns", gaveUp); !errors.Is(err, ErrCancelled) {
		t.Errorf("the first: %v", err)
	}
	if err := wait(t, "the other returns", other); err != nil {
		t.Errorf("the other: %v", err)
	}
}

func TestLinkCloseEndsItsAttemptToConnect(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, hangs(`"name":"client"`))
	r := run(t, []Spec{h.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	done := make(chan error, 1)
	go func() {
		_, err := l.Call(context.WithoutCancel(t.Context()), toolCall("echo", ""))
		done <- err
	}()
	hubtest.Eventually(t, "it connects", func() bool { return initialized(h) == 1 })
	within(t, 3*time.Second, "closing", func() { l.Close(true) })
	if err := wait(t, "the call returns", done); err == nil {
		t.Error("the call succeeded")
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != 1 {
		t.Errorf("%v connections are counted", n)
	}
}

// record notes the order of a link's calls.
type record struct {
	mu    sync.Mutex
	steps []string
}

func (r *record) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, fmt.Sprintf(format, args...))
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.steps, ", ")
}

// config makes a link note OnServerSession and OnReady, with the number of calls that the server has seen.
func (r *record) config(h *httpScript, resume ServerSession) LinkConfig {
	return LinkConfig{
		Resume: resume,
		OnServerSession: func(_ context.Context, server string, b ServerSession) error {
			r.note("bound %s %s %s after %d calls", server, b.SessionID, b.ProtocolVersion, h.dispatched(`"echo"`))
			return nil
		},
		OnReady: func(ctx context.Context, c *Conn) error {
			r.note("ready %s after %d calls", c.Server(), h.dispatched(`"echo"`))
			_, err := c.Call(ctx, Request{Method: "logging/setLevel", Params: json.RawMessage(`{"level":"info"}`)})
			return err
		},
	}
}

func TestOnServerSessionAndOnReadyAreCalledBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	var rec record
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", rec.config(h, ServerSession{}))
	tool(t, l, "echo", "")
	tool(t, l, "echo", "")
	if got := rec.String(); got != "bound web secret-session-2 2025-11-25 after 0 calls, ready web after 0 calls" {
		t.Errorf("the steps are %q", got)
	}
	if n := h.dispatched("logging/setLevel"); n != 1 {
		t.Errorf("OnReady called %d times", n)
	}
}

func TestSessionIsResumedWithoutInitialize(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	r := run(t, []Spec{h.spec()}).settled(t)
	first := r.link(t, "web", LinkConfig{})
	tool(t, first, "echo", "")
	first.Close(false) // as at a restart
	sessions := h.live("client")
	if len(sessions) != 1 {
		t.Fatalf("there are %d sessions", len(sessions))
	}
	var rec record
	l := r.link(t, "web", rec.config(h, ServerSession{SessionID: sessions[0], ProtocolVersion: "2025-06-18"}))
	tool(t, l, "echo", `{"key":"resumed"}`)
	if n := initialized(h); n != 1 || rec.String() != "" {
		t.Errorf("initialized %d times, steps %q", n, rec.String())
	}
	if got := h.sent("POST", "resumed")[0].header; got.Get("Mcp-Session-Id") != sessions[0] ||
		got.Get("Mcp-Protocol-Version") != "2025-06-18" {
		t.Errorf("headers %v", got)
	}
	l.Close(true)
	if len(h.live("client")) != 0 {
		t.Error("the session was not ended")
	}
}

func TestForgottenSessionIsInitializedOnceAndTheCallRepeatedOnce(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	r := run(t, []Spec{h.spec()}).settled(t)
	var rec record
	l := r.link(t, "web", rec.config(h, ServerSession{}))
	tool(t, l, "echo", "")
	h.forgetAll("client")
	const callers = 16
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if _, err := l.Call(t.Context(), toolCall("echo", `{"key":"again"}`)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := h.dispatched(`"key":"again"`); n != callers {
		t.Errorf("%d calls were carried out, want %d", n, callers)
	}
	if n := initialized(h); n != 2 {
		t.Errorf("the server was initialized %d times", n)
	}
	if want := "bound web secret-session-2 2025-11-25 after 0 calls, ready web after 0 calls, " +
		"bound web secret-session-3 2025-11-25 after 1 calls, ready web after 1 calls"; rec.String() != want {
		t.Errorf("the steps are %q, want %q", rec.String(), want)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "session_gone"); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
	if st := r.Server("web").Status(); st.State != Up || st.Connections != 2 {
		t.Errorf("Status() = %+v", st)
	}
}

func TestForgottenSessionThatWasToBeResumedIsInitialized(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	var rec record
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", rec.config(h, ServerSession{SessionID: "of-yesterday",
		ProtocolVersion: "2025-11-25"}))
	tool(t, l, "echo", "")
	if want := "bound web secret-session-2 2025-11-25 after 0 calls, ready web after 0 calls"; rec.String() != want {
		t.Errorf("the steps are %q, want %q", rec.String(), want)
	}
	if n := h.dispatched(`"echo"`); n != 1 || initialized(h) != 1 {
		t.Errorf("%d calls were carried out", n)
	}
}

func TestCallIsRepeatedOnceAtMost(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, answers(func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) { w.WriteHeader(http.StatusNotFound) }))
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
	_, err := l.Call(t.Context(), toolCall("echo", ""))
	if !errors.Is(err, transport.ErrSessionGone) ||
		!strings.HasPrefix(err.Error(), `server "web" does not know its session any more: HTTP status 404 `) {
		t.Errorf("error %v", err)
	}
	if n := len(h.sent("POST", "tools/call")); n != 2 {
		t.Errorf("the call was sent %d times", n)
	}
}

func TestCallThatMayHaveBeenCarriedOutIsNotRepeated(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, answers(func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
		startStream(w)
		writeEvent(w, "", message(1))
	}))
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
	if _, err := l.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrLost) {
		t.Errorf("error %v", err)
	}
	if n := len(h.sent("POST", "tools/call")); n != 1 || initialized(h) != 1 {
		t.Errorf("the call was sent %d times", n)
	}
}

func TestSessionThatCannotBeStoredIsNotUsed(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	for name, cfg := range map[string]LinkConfig{
		"bound": {OnServerSession: func(context.Context, string, ServerSession) error { return full }},
		"ready": {OnReady: func(context.Context, *Conn) error { return full }},
	} {
		h := newHTTPScript(t)
		r := run(t, []Spec{h.spec()}).settled(t)
		l := r.link(t, "web", cfg)
		if _, err := l.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, full) {
			t.Errorf("%s: error %v", name, err)
		}
		if n := len(h.sent("POST", "tools/call")); n != 0 {
			t.Errorf("%s: the call was sent", name)
		}
		if len(h.live("client")) != 0 || instrumenttest.Value(t, r.reg, "mcphub_backend_sessions") != 1 {
			t.Errorf("%s: the session is still there", name)
		}
	}
}

func TestLinkCloseSendsDeleteWithTheConfiguredHeaders(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	spec := h.spec()
	spec.Headers = map[string]string{"Authorization": "Bearer t0ken"}
	r := run(t, []Spec{spec}).settled(t)
	kept, ended := r.link(t, "web", LinkConfig{}), r.link(t, "web", LinkConfig{})
	tool(t, kept, "echo", "")
	tool(t, ended, "echo", "")
	kept.Close(false)
	if n := len(h.sent("DELETE", "")); n != 0 {
		t.Errorf("%d sessions were ended", n)
	}
	ended.Close(true)
	deletes := h.sent("DELETE", "")
	if len(deletes) != 1 {
		t.Fatalf("%d sessions were ended", len(deletes))
	}
	if got := deletes[0].header; got.Get("Authorization") != "Bearer t0ken" || got.Get("Mcp-Session-Id") != "secret-session-3" ||
		got.Get("Mcp-Protocol-Version") != "2025-11-25" {
		t.Errorf("headers %v", got)
	}
}

func TestIsolatedChildrenAreStartedAgainWhenNeeded(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.Isolation = PerSession
	r := run(t, []Spec{spec}).settled(t)
	var ready atomic.Int32
	one := r.link(t, "child", LinkConfig{OnReady: func(context.Context, *Conn) error { ready.Add(1); return nil }})
	two := r.link(t, "child", LinkConfig{})
	pid, other := facts(t, one).Pid, facts(t, two).Pid
	if pid == other {
		t.Fatal("two links share a child")
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != 3 {
		t.Errorf("%v connections are counted", n)
	}
	if _, err := one.Call(t.Context(), toolCall("crash", "")); !errors.Is(err, ErrLost) {
		t.Errorf("error %v", err)
	}
	// The session is idle now; its child is not counted any more and is not a zombie.
	if _, exists := alive(pid); exists || instrumenttest.Value(t, r.reg, "mcphub_backend_sessions") != 2 {
		t.Error("the child is still counted, or a zombie")
	}
	if again := facts(t, one).Pid; again == pid {
		t.Error("it is the same process")
	}
	if facts(t, two).Pid != other || ready.Load() != 2 {
		t.Errorf("the other child was restarted, or OnReady called %d times", ready.Load())
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "exited"); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
	one.Close(true)
	two.Close(false)
	if _, exists := alive(other); exists {
		t.Error("a child outlived its link")
	}
}

func TestNotificationsOfAClientGoOverItsOwnConnection(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	l := run(t, []Spec{h.spec()}).settled(t).link(t, "web", LinkConfig{})
	if err := l.Notify(t.Context(), "notifications/x", nil); err != nil || h.dispatched("notifications/x") != 0 {
		t.Errorf("without a connection: %v", err)
	}
	tool(t, l, "echo", "")
	if err := l.Notify(t.Context(), "notifications/x", json.RawMessage(`{"n":1.0}`)); err != nil {
		t.Error(err)
	}
	if got := h.sent("POST", "notifications/x"); len(got) != 1 ||
		got[0].body != `{"jsonrpc":"2.0","method":"notifications/x","params":{"n":1.0}}` {
		t.Errorf("the server got %v", got)
	}
}

// The time that a server needs to start, or to answer initialize, does not count as the hub's.
func TestTimeToConnectCountsAsSpentWithTheServer(t *testing.T) {
	t.Parallel()
	const slow = 50 * time.Millisecond
	h := newHTTPScript(t, func(h *httpScript) {
		h.onPost = func(_ http.ResponseWriter, _ *http.Request, m jsonrpc.Message) bool {
			if m.Method == "initialize" {
				<-time.After(slow)
			}
			return false
		}
	})
	r := run(t, []Spec{h.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	for _, first := range []bool{true, false} {
		var spent atomic.Int64
		req := toolCall("echo", "")
		req.Spent = &spent
		begun := time.Now()
		if _, err := l.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(spent.Load()); (first && got < slow) || got <= 0 || got > time.Since(begun) {
			t.Errorf("first %t: %s of %s were spent with the server", first, got, time.Since(begun))
		}
	}
}
