package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestOtherLinesOnStdoutAreSkippedAndLogged(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "noise"))
	c := e.connect(t, nil)
	if m := tool(t, c, "echo", ""); m.Error != nil {
		t.Errorf("echo: %s", m.Error)
	}
	if n := len(e.log.attr("the server sent a text that is no message", "bytes")); n != 5 {
		t.Errorf("%d lines were logged as noise, want 5", n)
	}
	if got := e.log.attr("the server sent a text that is no message", "text"); len(got) != 5 || got[0] != "Welcome to the server!" {
		t.Errorf("the log has %q", got)
	}
}

func TestMessageThatIsTooLongIsDroppedAndEndsOnlyItsCall(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.MaxMessage = 64 << 10
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	tool(t, c, "long", `{"n":60000}`)
	m := tool(t, c, "long", `{"n":1000000}`)
	if e := jsonrpc.ParseError(m.Error); m.Error == nil || e.Code != jsonrpc.CodeInternal ||
		!strings.Contains(e.Message, "a message is too long: more than 65536 bytes (limits.maxMessageBytes)") {
		t.Errorf("the answer is %.200s %.200s", m.Error, m.Result)
	}
	if m := tool(t, c, "huge", `{"n":1000000}`); m.Error != nil {
		t.Errorf("after a long notification: %s", m.Error)
	}
	if n := e.log.attr("a message of the server was dropped", "bytes"); len(n) != 1 {
		t.Errorf("dropped according to the log: %v", n)
	}
}

// Without an end of the line there is no next message.
func TestChildThatWritesNoEndOfLineIsGivenUp(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.MaxMessage = 16 << 10
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	pid := facts(t, c).Pid
	_, err := c.Call(t.Context(), toolCall("long", `{"n":1000000}`))
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), `server "child" was lost before it answered: `) ||
		!strings.Contains(err.Error(), "a message is too long: more than 16384 bytes") {
		t.Errorf("error %v", err)
	}
	wait(t, "the connection is lost", c.done())
	// The connection has not been closed yet.
	hubtest.Eventually(t, "the child is gone", func() bool { _, exists := alive(pid); return !exists })
	if n := instrumenttest.Value(t, e.reg, "mcphub_backend_sessions"); n != 0 {
		t.Errorf("%v connections are counted", n)
	}
}

func TestCallsInFlightFailAtOnceWhenTheChildCrashes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	c := e.connect(t, nil)
	pid := facts(t, c).Pid
	errs := make(chan error)
	for i := range 8 {
		go func() {
			_, err := c.Call(t.Context(), toolCall("hold", fmt.Sprintf(`{"key":"k%d"}`, i)))
			errs <- err
		}()
	}
	hubtest.Eventually(t, "the calls are under way", func() bool { return len(seen(t, c, `"name":"hold"`)) == 8 })
	start := time.Now()
	_, err := c.Call(t.Context(), toolCall("crash", ""))
	for range 8 {
		if err := wait(t, "a call fails", errs); !errors.Is(err, ErrLost) {
			t.Errorf("error %v", err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if want := `server "child" was lost before it answered: its process ended: exit status 3`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if got := ErrorType(jsonrpc.Message{}, err); got != "connection_lost" {
		t.Errorf("error type %q", got)
	}
	if _, exists := alive(pid); exists {
		t.Error("the child is a zombie")
	}
	if n := instrumenttest.Value(t, e.reg, "mcphub_requests_in_flight"); n != 0 {
		t.Errorf("%v calls are in flight", n)
	}
	_, err = c.Call(t.Context(), toolCall("echo", ""))
	if want := `server "child" is down: its process ended: exit status 3`; !errors.Is(err, ErrDown) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// The last output of a child counts, even if its exit is noticed first.
func TestLastOutputOfAChildIsRead(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	for range 10 {
		c := e.connect(t, nil)
		if m := tool(t, c, "last words", ""); string(m.Result) != `{"last":true}` {
			t.Fatalf("the answer is %s", m.Result)
		}
		c.close(true)
	}
}

func TestChildThatClosesItsOutputIsGivenUp(t *testing.T) {
	t.Parallel()
	c := newEnv(t, childSpec(t, "script")).connect(t, nil)
	pid := facts(t, c).Pid
	_, err := c.Call(t.Context(), toolCall("close stdout", ""))
	if !errors.Is(err, ErrLost) || !strings.HasSuffix(err.Error(), "it closed its standard output") {
		t.Errorf("error %v", err)
	}
	hubtest.Eventually(t, "the child is gone", func() bool { _, exists := alive(pid); return !exists })
}

// A child that reads nothing blocks callers with a deadline until that, all others no longer than the write timeout,
// and callers of other servers not at all.
func TestChildThatStopsReadingBlocksNoCaller(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	deaf, fine := childSpec(t, "script", "CHILD_LOG="+log), childSpec(t, "script")
	deaf.writeWait, fine.Name = 4*time.Second, "fine"
	e, other := newEnv(t, deaf), newEnv(t, fine).connect(t, nil)
	c := e.connect(t, nil)
	pid := facts(t, c).Pid
	go func() { _, _ = c.Call(context.WithoutCancel(t.Context()), toolCall("deaf", "")) }()
	received(t, log, `"name":"deaf"`)
	big := toolCall("echo", `{"text":"`+strings.Repeat("x", 8<<10)+`"}`)
	errs := make(chan error)
	for range writeQueue + 50 { // more than fits into the queue
		go func() {
			_, err := c.Call(context.WithoutCancel(t.Context()), big)
			errs <- err
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	within(t, 3*time.Second, "a call with a deadline", func() {
		if _, err := c.Call(ctx, big); !errors.Is(err, ErrCancelled) {
			t.Errorf("error %v", err)
		}
	})
	within(t, 3*time.Second, "a call to another server", func() { tool(t, other, "echo", "") })
	for range writeQueue + 50 {
		err := wait(t, "the calls fail", errs)
		if (!errors.Is(err, ErrLost) && !errors.Is(err, ErrDown)) || !strings.Contains(err.Error(), "it has read nothing for 4s") {
			t.Errorf("error %v", err)
		}
	}
	hubtest.Eventually(t, "the child is gone", func() bool { _, exists := alive(pid); return !exists })
}

func TestStderrIsLoggedLineByLine(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	c := e.connect(t, nil)
	long := strings.Repeat("0123456789", 5*maxLogLine/10+7)
	tool(t, c, "stderr", `{"text":"one\ntwo\r\n\n`+long+`\nlast"}`)
	var lines []string
	hubtest.Eventually(t, "the last line is logged", func() bool {
		lines = e.log.attr("server stderr", "line")
		return slices.Contains(lines, "last")
	})
	if lines[0] != "one" || lines[1] != "two" {
		t.Errorf("the lines are %.100q", lines)
	}
	if got := strings.Join(lines[2:len(lines)-1], ""); got != long {
		t.Errorf("the long line has %d bytes in the log, want %d", len(got), len(long))
	}
	for _, l := range lines {
		if len(l) > maxLogLine {
			t.Errorf("a line has %d bytes", len(l))
		}
	}
	if up := e.log.attr("server stderr", "upstream"); up[0] != "child" {
		t.Errorf("the lines are logged for %q", up[0])
	}
}

func TestSecretsInALongLineOnStderrAreMaskedWhereverItIsCut(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.Secrets = []string{"sesame-open-please"}
	e := newEnv(t, spec)
	c := e.connect(t, nil)
	tool(t, c, "stderr", `{"text":"`+strings.Repeat("sesame-open-please", 5*maxLogLine/10)+`\nlast"}`)
	hubtest.Eventually(t, "the last line is logged", func() bool { return slices.Contains(e.log.attr("server stderr", "line"), "last") })
	for _, line := range e.log.attr("server stderr", "line") {
		if strings.Trim(line, "*") != "" && line != "last" {
			t.Fatalf("the log has %.300q", line)
		}
	}
}

func TestManyLinesOnStderrDoNotBlockTheServer(t *testing.T) {
	t.Parallel()
	c := newEnv(t, childSpec(t, "script")).connect(t, nil)
	tool(t, c, "stderr", `{"text":"`+strings.Repeat("a line of some length\\n", 20_000)+`"}`)
}

func TestResponsesThatBelongToNoCallAreDroppedAndCounted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, childSpec(t, "script"))
	c := e.connect(t, nil)
	tool(t, c, "lines", `{"lines":["{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":{}}",`+
		`"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}","{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}"]}`)
	if n := instrumenttest.Value(t, e.reg, "mcphub_unmatched_responses_total", "reason", "response"); n != 3 {
		t.Errorf("%v are counted, want 3", n)
	}
}

func TestMissingCommandIsNamed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Spec{Name: "absent", Command: filepath.Join(t.TempDir(), "nothing-here")})
	_, err := e.openFor(t.Context(), &recorder{}, hub, ServerSession{})
	if !errors.Is(err, ErrDown) || !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(),
		`server "absent" is down: could not be started: `) {
		t.Errorf("error %v", err)
	}
	if n := instrumenttest.Value(t, e.reg, "mcphub_backend_sessions"); n != 0 {
		t.Errorf("%v connections are counted", n)
	}
}
