package upstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// requestID finds the id under which the server saw the request with that text.
func requestID(t *testing.T, c caller, text string) jsonrpc.ID {
	t.Helper()
	var id jsonrpc.ID
	hubtest.Eventually(t, "the server sees "+text, func() bool {
		for _, line := range seen(t, c, text) {
			if m, err := jsonrpc.Parse([]byte(line)); err == nil && m.Kind() == jsonrpc.Request {
				id = m.ID
				return true
			}
		}
		return false
	})
	return id
}

// seen returns the messages with that text that the server got.
func seen(t *testing.T, c caller, text string) []string {
	t.Helper()
	var found []string
	for _, line := range fieldStrings(t, tool(t, c, "seen", "").Result, "lines") {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func TestCancellationReachesTheServerForThatCallOnly(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		type outcome struct {
			m   jsonrpc.Message
			err error
		}
		results := map[string]chan outcome{}
		ctx, cancel := context.WithCancelCause(t.Context())
		for key, ctx := range map[string]context.Context{"one": ctx, "two": t.Context()} {
			ch := make(chan outcome, 1)
			results[key] = ch
			go func() {
				m, err := c.Call(ctx, toolCall("hold", `{"key":"`+key+`"}`))
				ch <- outcome{m, err}
			}()
		}
		id := requestID(t, c, `"key":"one"`)
		requestID(t, c, `"key":"two"`)
		why := errors.New("changed my mind")
		cancel(why)
		got := wait(t, "the cancelled call returns", results["one"])
		if !errors.Is(got.err, ErrCancelled) || !errors.Is(got.err, why) || ErrorType(got.m, got.err) != "cancelled" {
			t.Errorf("the cancelled call returned %v", got.err)
		}
		hubtest.Eventually(t, "the server gets the cancellation", func() bool { return len(seen(t, c, "notifications/cancelled")) > 0 })
		want := `"params":{"requestId":` + string(id) + `,"reason":"cancelled by the client"}`
		if got := seen(t, c, "notifications/cancelled"); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("the server was told %q, want %s", got, want)
		}
		tool(t, c, "release", `{"key":"two"}`)
		if got := wait(t, "the other call returns", results["two"]); got.err != nil || string(got.m.Result) != `{"held":true}` {
			t.Errorf("the other call returned %s, %v", got.m.Result, got.err)
		}
	})
}

func TestCallThatTakesTooLongIsCancelled(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, spec Spec) {
		spec.CallTimeout = 3 * time.Second
		e := newEnv(t, spec)
		c := e.connect(t, nil)
		_, err := c.Call(t.Context(), toolCall("hold", `{"key":"slow"}`))
		if !errors.Is(err, ErrTimeout) || !strings.HasSuffix(err.Error(), "did not answer in time") ||
			ErrorType(jsonrpc.Message{}, err) != "timeout" {
			t.Errorf("error %v", err)
		}
		id := requestID(t, c, `"key":"slow"`)
		hubtest.Eventually(t, "the server gets the cancellation", func() bool {
			got := seen(t, c, "notifications/cancelled")
			return len(got) == 1 && strings.Contains(got[0], `{"requestId":`+string(id)+`,"reason":"timeout"}`)
		})
	})
}

func TestLateResponseIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	c := e.connect(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, toolCall("hold", `{"key":"k"}`))
		done <- err
	}()
	requestID(t, c, `"key":"k"`)
	cancel()
	if err := wait(t, "the call returns", done); !errors.Is(err, ErrCancelled) {
		t.Errorf("error %v", err)
	}
	tool(t, c, "release", `{"key":"k"}`)
	hubtest.Eventually(t, "the late answer is counted", func() bool {
		return instrumenttest.Value(t, e.reg, "mcphub_unmatched_responses_total", "reason", "response") == 1
	})
	tool(t, c, "echo", "")
}

// A caller who gave up must not wait for a server that hangs.
func TestCancellationDoesNotWaitForTheServer(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, hangs("notifications/cancelled"))
	spec := h.spec()
	spec.CallTimeout = time.Second
	c := newEnv(t, spec).connect(t, nil)
	within(t, 2500*time.Millisecond, "a call that times out", func() {
		if _, err := c.Call(t.Context(), toolCall("hold", "")); !errors.Is(err, ErrTimeout) {
			t.Errorf("error %v", err)
		}
	})
	hubtest.Eventually(t, "the server gets the cancellation", func() bool { return len(h.sent("POST", "notifications/cancelled")) == 1 })
	within(t, 4*time.Second, "closing", func() { c.close(true) })
}
