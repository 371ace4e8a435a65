package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// up waits until the server is up.
func (r running) up(t testing.TB, server string) Status {
	t.Helper()
	hubtest.Eventually(t, server+" is up", func() bool { return r.Server(server).Status().State == Up })
	return r.Server(server).Status()
}

func TestServerThatCannotBeStartedIsDownAndRecovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spec := childSpec(t, "script")
	exe := spec.Command
	spec.Command = filepath.Join(dir, "server")
	r := run(t, []Spec{spec}).settled(t)
	checkDown(t, r, "child", "could not be started: ")
	if err := os.Symlink(exe, spec.Command); err != nil {
		t.Fatal(err)
	}
	checkUp(t, r, "child")
}

func TestServerThatRefusesConnectionsIsDownAndRecovers(t *testing.T) {
	t.Parallel()
	address := refused(t)
	spec := Spec{Name: "web", URL: "http://" + address, Isolation: Shared}
	r := run(t, []Spec{spec}).settled(t)
	checkDown(t, r, "web", "connection refused")
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("somebody else took the port: ", err)
	}
	h := &httpScript{script: newScript(), stateful: true, sessions: map[string]string{}}
	h.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: patience}}
	h.Start()
	t.Cleanup(h.Server.Close)
	t.Cleanup(r.stop)
	checkUp(t, r, "web")
}

func checkDown(t *testing.T, r running, server, reason string) {
	t.Helper()
	st := r.Server(server).Status()
	if st.State != Down || !strings.Contains(st.Error, reason) || !st.NextAttempt.After(st.Since) || st.Connections != 0 {
		t.Errorf("Status() = %+v", st)
	}
	var err error
	within(t, time.Second, "a call", func() { _, err = r.link(t, server, LinkConfig{}).Call(t.Context(), toolCall("echo", "")) })
	if !errors.Is(err, ErrDown) || !strings.HasPrefix(err.Error(), `server "`+server+`" is down: `) ||
		!strings.Contains(err.Error(), reason) ||
		!strings.Contains(err.Error(), "(next attempt in ") || strings.Count(err.Error(), server+`"`) != 1 {
		t.Errorf("error %v", err)
	}
	if _, known := r.Server(server).Initialized(); known {
		t.Error("it was never initialized")
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_up"); n != 0 {
		t.Errorf("up is %v", n)
	}
}

func checkUp(t *testing.T, r running, server string) {
	t.Helper()
	st := r.up(t, server)
	if st.Error != "" || !st.NextAttempt.IsZero() || st.Connections != 1 || st.Tools != 1 || st.ProtocolVersion != "2025-11-25" ||
		string(st.ServerInfo) != `{"name":"script","version":"1.0"}` {
		t.Errorf("Status() = %+v", st)
	}
	tool(t, r.link(t, server, LinkConfig{}), "echo", "")
	if init, known := r.Server(server).Initialized(); !known || init.Instructions != "be nice" {
		t.Errorf("Initialized() = %+v, %v", init, known)
	}
	for name, want := range map[string]float64{"mcphub_backend_up": 1, "mcphub_backend_sessions": 1, "mcphub_backend_tools": 1} {
		if n := instrumenttest.Value(t, r.reg, name); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	if ok, failed := instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "ok"),
		instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "error"); ok != 1 || failed < 1 {
		t.Errorf("%v attempts were counted as good and %v as bad", ok, failed)
	}
}

func TestCrashedChildIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := run(t, []Spec{childSpec(t, "script")}).settled(t)
	l := r.link(t, "child", LinkConfig{})
	pid := facts(t, l).Pid
	if _, err := l.Call(t.Context(), toolCall("crash", "")); !errors.Is(err, ErrLost) {
		t.Errorf("error %v", err)
	}
	hubtest.Eventually(t, "the crash is noticed", func() bool { return r.Server("child").Status().State == Down })
	if st := r.Server("child").Status(); !strings.Contains(st.Error, "exit status 3") || st.Tools != 1 {
		t.Errorf("Status() = %+v", st)
	}
	r.up(t, "child")
	if again := facts(t, l).Pid; again == pid {
		t.Error("it is the same process")
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "exited"); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_sessions"); n != 1 {
		t.Errorf("%v connections are counted", n)
	}
}

func TestAttemptsToConnectBackOffWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, []Spec{{Name: "absent", Command: "there-is-no-such-command"}})
		attempts := func() float64 {
			return instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "error")
		}
		pause, whole := firstPause, false
		for n := 1.0; n <= 12; n++ {
			synctest.Wait()
			if got := attempts(); got != n {
				t.Fatalf("after %v attempts there are %v", n, got)
			}
			start := time.Now()
			next := r.Server("absent").Status().NextAttempt
			if d := next.Sub(start); d < pause || d >= pause+pause/4 {
				t.Errorf("attempt %v is followed by a pause of %s, want %s and up to a quarter more", n, d, pause)
			}
			whole = whole || next.Sub(start) == pause
			time.Sleep(time.Until(next)) // costs nothing
			pause = min(2*pause, maxPause)
		}
		r.stop()
		if pause != maxPause || whole {
			t.Errorf("the pauses grew to %s; without jitter: %v", pause, whole)
		}
	})
}

func TestCallsWaitWhileTheServerIsStarting(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "gate")
	r := run(t, []Spec{childSpec(t, "script", "CHILD_GATE="+gate)})
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if r.WaitAttempted(short) {
		t.Error("it is settled before it answered")
	}
	l := r.link(t, "child", LinkConfig{})
	if _, err := l.Call(short, toolCall("echo", "")); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(),
		`server "child" is still starting, since `) {
		t.Errorf("error %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := l.Call(t.Context(), toolCall("echo", ""))
		done <- err
	}()
	if st := r.Server("child").Status(); st.State != Starting {
		t.Errorf("state %s", st.State)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, "the call returns", done); err != nil {
		t.Error(err)
	}
	r.settled(t)
}

func TestStoppingPoolClosesItsConnectionsAndEndsWaits(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	silent := childSpec(t, "silent")
	r := run(t, []Spec{h.spec(), silent})
	hubtest.Eventually(t, "one is up and one is tried", func() bool {
		return r.Server("web").Status().State == Up && r.Server("child").Status().Connections == 1
	})
	within(t, 8*time.Second, "stopping", r.stop)
	if n := len(h.live("hub")); n != 0 {
		t.Errorf("%d sessions are left at the server", n)
	}
	for _, s := range r.Servers() {
		if st := s.Status(); st.Connections != 0 {
			t.Errorf("%s has %d connections", st.Name, st.Connections)
		}
	}
	if _, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrDown) {
		t.Errorf("error %v", err)
	}
}

func TestUnreachableServerIsNoticedByACall(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	r := run(t, []Spec{h.spec()}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	tool(t, l, "echo", "")
	h.CloseClientConnections()
	h.Server.Close()
	_, err := l.Call(t.Context(), toolCall("echo", ""))
	if !errors.Is(err, ErrDown) && !errors.Is(err, ErrLost) {
		t.Errorf("error %v", err)
	}
	hubtest.Eventually(t, "the server is down", func() bool { return r.Server("web").Status().State == Down })
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "unreachable"); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
}

func TestServerThatFailsEveryPingIsDown(t *testing.T) {
	t.Parallel()
	var pings atomic.Int32
	h := newHTTPScript(t, func(h *httpScript) {
		h.onPost = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) bool {
			if m.Method != "ping" {
				return false
			}
			pings.Add(1)
			http.Error(w, "no", http.StatusInternalServerError)
			return true
		}
	})
	r := run(t, []Spec{h.spec()}).settled(t)
	for i := range int32(maxPings) {
		if st := r.Server("web").Status(); st.State != Up {
			t.Errorf("after %d pings: %+v", i, st)
		}
		r.Server("web").supervisor.checkSoon()
		hubtest.Eventually(t, "it is pinged", func() bool { return pings.Load() == i+1 })
	}
	hubtest.Eventually(t, "it is down", func() bool { return r.Server("web").Status().State == Down })
}

func TestNotificationsOfASharedConnectionGoToOnNotification(t *testing.T) {
	t.Parallel()
	for isolation, want := range map[Isolation]bool{Shared: true, PerSession: false} {
		told := make(chan jsonrpc.Message, 10)
		h := newHTTPScript(t, func(h *httpScript) {
			h.onGet = func(w http.ResponseWriter, r *http.Request) {
				startStream(w)
				writeEvent(w, "", `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:"}}`)
				writeEvent(w, "", `{"jsonrpc":"2.0","id":"q","method":"roots/list"}`)
				<-r.Context().Done()
			}
		})
		spec := h.spec()
		spec.Isolation = isolation
		r := run(t, []Spec{spec}, func(c *Config) {
			c.OnNotification = func(server string, m jsonrpc.Message) {
				if server == "web" {
					told <- m
				}
			}
		}).settled(t)
		hubtest.Eventually(t, "the request is refused", func() bool { return len(h.sent("POST", `"id":"q"`)) == 1 })
		if body := h.sent("POST", `"id":"q"`)[0].body; !strings.Contains(body,
			`{"code":-32601,"message":"the hub cannot tell which client roots/list is meant for`) {
			t.Errorf("the answer is %s", body)
		}
		r.stop()
		if got := len(told) == 1; got != want {
			t.Errorf("%s: %d notifications", isolation, len(told))
		}
	}
}

func TestServersAreFoundByNameInTheirOrder(t *testing.T) {
	t.Parallel()
	p := NewPool([]Spec{{Name: "b", URL: "http://x"}, {Name: "a", Command: "x"}, {Name: "c", Command: "x", Isolation: PerSession}}, Config{})
	var names []string
	for _, s := range p.Servers() {
		names = append(names, s.Name())
		st := s.Status()
		if st.State != Starting || st.Name != s.Name() {
			t.Errorf("Status() = %+v", st)
		}
	}
	if strings.Join(names, "") != "bac" || p.Server("a") != p.Servers()[1] || p.Server("d") != nil {
		t.Errorf("the servers are %q", names)
	}
	if !p.Server("b").Isolated() || p.Server("a").Isolated() || !p.Server("c").Link(LinkConfig{}).Isolated() {
		t.Error("the isolations are wrong")
	}
	if b, a := p.Server("b").Status(), p.Server("a").Status(); b.Transport != "http" || b.Isolation != PerSession ||
		a.Transport != "stdio" || a.Isolation != Shared {
		t.Errorf("%+v, %+v", b, a)
	}
}

// The session is that of the shared connection; callers do not notice that it is gone.
func TestForgottenSharedSessionIsInitializedAgain(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	spec := h.spec()
	spec.Isolation = Shared
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	tool(t, l, "echo", `{"key":"before"}`)
	h.forgetAll("hub")
	const callers = 16
	errs := make(chan error, callers)
	for range callers {
		go func() {
			_, err := l.Call(t.Context(), toolCall("echo", `{"key":"after"}`))
			errs <- err
		}()
	}
	for range callers {
		if err := wait(t, "the calls return", errs); err != nil {
			t.Error(err)
		}
	}
	if n := h.dispatched(`"key":"after"`); n != callers {
		t.Errorf("%d calls were carried out, want %d", n, callers)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_restarts_total", "reason", "session_gone"); n != 1 {
		t.Errorf("%v restarts are counted", n)
	}
	if n := len(h.sent("POST", `"initialize"`)); n != 2 {
		t.Errorf("it was initialized %d times", n)
	}
	r.up(t, "web")
}

func TestServerThatForgetsEverySessionAtOnceIsDown(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.onPost = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) bool {
			if m.Method != "tools/call" && m.Method != "ping" {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "unknown session")
			return true
		}
	})
	spec := h.spec()
	spec.Isolation = Shared
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	if _, err := l.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, transport.ErrSessionGone) {
		t.Errorf("error %v", err)
	}
	if n := len(h.sent("POST", "tools/call")); n != 2 {
		t.Errorf("the call was sent %d times", n)
	}
	hubtest.Eventually(t, "the server is down", func() bool { return r.Server("web").Status().State == Down })
}

func TestSharedConnectionHasTheIdentityOfTheHub(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	spec := h.spec()
	spec.Isolation = Shared
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "web", LinkConfig{OnServerSession: func(context.Context, string, ServerSession) error {
		t.Error("a shared session was bound")
		return nil
	}})
	tool(t, l, "echo", "")
	if err := l.Notify(t.Context(), "notifications/roots/list_changed", json.RawMessage(`{}`)); err != nil {
		t.Error(err)
	}
	l.Close(true)
	if len(h.sent("POST", "roots/list_changed")) != 0 || len(h.live("hub")) != 1 || len(h.live("client")) != 0 {
		t.Error("a client spoke on, or ended, the shared session")
	}
}
