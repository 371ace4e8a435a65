package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// unsolicited makes the server send a notification and a request that belong to no call, while a call with the Sink
// own is under way, and returns how many of both own got.
func unsolicited(t *testing.T, c *Conn) (notifications, requests int) {
	t.Helper()
	own := &recorder{}
	for _, req := range []Request{
		toolCall("lines", `{"lines":["{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}"]}`),
		toolCall("ask", `{"text":"roots/list"}`),
	} {
		req.Sink = own
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	return len(own.notifications()), len(own.serverRequests())
}

// cancelledCall makes a call that the server continues after it was cancelled.
func cancelledCall(t *testing.T, c *Conn) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, toolCall("hold", `{"key":"k"}`))
		done <- err
	}()
	requestID(t, c, `"key":"k"`)
	cancel()
	if err := wait(t, "the call returns", done); !errors.Is(err, ErrCancelled) {
		t.Fatalf("error %v", err)
	}
}

func TestMessagesOfASharedServerAfterACancelledCallDoNotGoToTheOnlyOtherCall(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	shared := &recorder{}
	c := e.connect(t, shared)
	cancelledCall(t, c)
	if n, q := unsolicited(t, c); n != 0 || q != 0 {
		t.Errorf("the other call was given %d notifications and %d requests", n, q)
	}
	if n, q := len(shared.notifications()), len(shared.serverRequests()); n != 1 || q != 1 {
		t.Errorf("the connection's sink was given %d notifications and %d requests", n, q)
	}
	tool(t, c, "release", `{"key":"k"}`)
	hubtest.Eventually(t, "the late answer comes", func() bool {
		return instrumenttest.Value(t, e.reg, "mcphub_unmatched_responses_total", "reason", "response") == 1
	})
	if n, q := unsolicited(t, c); n != 1 || q != 1 {
		t.Errorf("after the late answer the only call was given %d notifications and %d requests", n, q)
	}
}

func TestMessagesOfAnIsolatedServerAfterACancelledCallGoToTheOnlyOtherCall(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.Isolation = PerSession
	c := newEnv(t, spec).connect(t, nil)
	cancelledCall(t, c)
	if n, q := unsolicited(t, c); n != 1 || q != 1 {
		t.Errorf("the call was given %d notifications and %d requests", n, q)
	}
	tool(t, c, "release", `{"key":"k"}`)
}

// A server may store responses of a session by id, or refuse an id that it has seen.
func TestResumedSessionUsesNoIDsOfThePreviousProcess(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	e := newEnv(t, h.spec())
	first := e.connect(t, nil)
	tool(t, first, "echo", `{"key":"before"}`)
	bound := first.serverSession()
	first.close(false)
	c, err := e.openFor(t.Context(), &recorder{}, hub, bound)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close(true) })
	tool(t, c, "echo", `{"key":"after"}`)
	id := func(key string) int64 {
		m, err := jsonrpc.Parse([]byte(h.sent("POST", key)[0].body))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(string(m.ID), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// No earlier process can have used this id: that would take a thousand calls a millisecond.
	if before, after := id(`"before"`), id(`"after"`); before > 1000 || after < 1<<40 || after > 1<<53 {
		t.Errorf("the ids are %d and then %d", before, after)
	}
}

func TestServerRequestCancelledByTheServerEndsWithoutResponse(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		c := newEnv(t, spec).connect(t, nil)
		asked, ended := make(chan struct{}), make(chan error, 1)
		sink := &recorder{answer: func(ctx context.Context, _ jsonrpc.Message) (json.RawMessage, error) {
			close(asked)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return json.RawMessage(`{}`), nil
		}}
		say := func(line string) {
			t.Helper()
			lines, _ := json.Marshal([]string{line})
			req := toolCall("lines", `{"lines":`+string(lines)+`}`)
			req.Sink = sink
			if _, err := c.Call(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		say(`{"jsonrpc":"2.0","id":"mine","method":"roots/list"}`)
		wait(t, "the request arrives", asked)
		say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"another"}}`)
		if len(ended) != 0 {
			t.Error("another request was withdrawn, and this one ended")
		}
		say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"mine"}}`)
		if err := wait(t, "the request ends", ended); !errors.Is(err, errRequestCancelled) {
			t.Errorf("it ended because of %v", err)
		}
		hubtest.Eventually(t, "the hub is done with it", func() bool {
			c.requests.mu.Lock()
			defer c.requests.mu.Unlock()
			return len(c.requests.byID) == 0
		})
		if got := seen(t, c, `"id":"mine"`); len(got) != 0 {
			t.Errorf("the server was sent %q", got)
		}
		if got := sink.notifications(); len(got) != 0 {
			t.Errorf("the client was sent %v", got)
		}
	})
}

// replaceable is an isolated server whose command is a symbolic link that a test may change.
func replaceable(t *testing.T) Spec {
	t.Helper()
	spec := childSpec(t, "script")
	exe := spec.Command
	spec.Command, spec.Isolation = filepath.Join(t.TempDir(), "server"), PerSession
	if err := os.Symlink(exe, spec.Command); err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestFailingCommandIsNotStartedWithEveryCall(t *testing.T) {
	t.Parallel()
	failing, err := exec.LookPath("false")
	if err != nil {
		t.Skip(err)
	}
	spec := replaceable(t)
	r := run(t, []Spec{spec}).settled(t)
	if err := errors.Join(os.Remove(spec.Command), os.Symlink(failing, spec.Command)); err != nil {
		t.Fatal(err)
	}
	l := r.link(t, "child", LinkConfig{})
	starts := func() float64 {
		return instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "error")
	}
	// until checks when a call may start it again, after the last attempt and n failures.
	until := func(n int, pause time.Duration, since time.Time) {
		t.Helper()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.pauses.Attempts() != n || l.next.Sub(since) < pause {
			t.Errorf("after %d failures the next attempt is in %s, want %s after %d", l.pauses.Attempts(), l.next.Sub(since), pause, n)
		}
		l.next = time.Now().Add(time.Hour) // the rest of the test may take its time
	}
	start := time.Now()
	_, first := l.Call(t.Context(), toolCall("echo", ""))
	if first == nil || !strings.Contains(first.Error(), "exit status 1") {
		t.Errorf("error %v", first)
	}
	until(1, firstPause, start)
	for range 20 {
		_, err := l.Call(t.Context(), toolCall("echo", ""))
		if err == nil || !strings.HasPrefix(err.Error(), first.Error()+" (next attempt in ") {
			t.Errorf("error %v, want %v", err, first)
		}
	}
	if n := starts(); n != 1 {
		t.Errorf("it was started %v times", n)
	}
	backOffIsOver := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.next = time.Now()
	}
	backOffIsOver()
	start = time.Now()
	if _, err := l.Call(t.Context(), toolCall("echo", "")); err == nil || starts() != 2 {
		t.Errorf("after the back-off it was started %v times: %v", starts(), err)
	}
	until(2, 2*firstPause, start)
	if err := errors.Join(os.Remove(spec.Command), os.Symlink(childSpec(t, "").Command, spec.Command)); err != nil {
		t.Fatal(err)
	}
	backOffIsOver()
	tool(t, l, "echo", "")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pauses.Attempts() != 0 || l.failure != nil || !l.next.IsZero() {
		t.Errorf("success leaves %d failures, the last %v", l.pauses.Attempts(), l.failure)
	}
}

func TestIsolatedConnectionWorksWhileTheHubsOwnIsDown(t *testing.T) {
	t.Parallel()
	spec := replaceable(t)
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "child", LinkConfig{})
	pid := facts(t, l).Pid
	control, err := r.Server("child").state.ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(spec.Command); err != nil {
		t.Fatal(err)
	}
	_, _ = control.Call(t.Context(), toolCall("crash", ""))
	hubtest.Eventually(t, "the hub's own connection is down", func() bool { return r.Server("child").Status().State == Down })
	if again := facts(t, l).Pid; again != pid {
		t.Errorf("the call went to process %d, want %d", again, pid)
	}
	if _, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrDown) {
		t.Errorf("a link without a connection: %v", err)
	}
}

func TestLinkConnectsWithoutACall(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	r := run(t, []Spec{h.spec()}).settled(t)
	var rec record
	l := r.link(t, "web", rec.config(h, ServerSession{}))
	for range 2 {
		if err := l.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := initialized(h); n != 1 || len(h.sent("POST", "tools/call")) != 0 {
		t.Errorf("the server was initialized %d times, and called", n)
	}
	if want := "bound web secret-session-2 2025-11-25 after 0 calls, ready web after 0 calls"; rec.String() != want {
		t.Errorf("the steps are %q, want %q", rec.String(), want)
	}
}
