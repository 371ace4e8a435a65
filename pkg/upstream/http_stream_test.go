package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

func startStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(w).Flush()
}

func message(n int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%d}}`, n)
}

// broken is a server whose stream ends after its first event. Each GET that resumes it gets one more part.
type broken struct {
	*httpScript
	call    atomic.Value // the id of the call
	gets    atomic.Int32
	pieces  []func(w http.ResponseWriter, id string)
	resumed chan string // the event ids that were asked for
}

func newBroken(t *testing.T, pieces ...func(w http.ResponseWriter, id string)) *broken {
	b := &broken{pieces: pieces, resumed: make(chan string, 100)}
	b.httpScript = newHTTPScript(t, answers(func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		b.call.Store(string(m.ID))
		startStream(w)
		fmt.Fprint(w, "retry: 150\nid: e1\ndata:\n\n")
		writeEvent(w, "e2", message(0))
	}))
	b.onGet = func(w http.ResponseWriter, r *http.Request) {
		after := r.Header.Get("Last-Event-ID")
		if after == "" { // the stream for what belongs to no call
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		b.resumed <- after
		n := int(b.gets.Add(1)) - 1
		if n >= len(b.pieces) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		b.pieces[n](w, b.call.Load().(string))
	}
	return b
}

func TestStreamWithEventIDsIsResumedUntilTheResponse(t *testing.T) {
	t.Parallel()
	b := newBroken(t,
		func(w http.ResponseWriter, _ string) {
			startStream(w)
			writeEvent(w, "e3", message(1))
		},
		func(w http.ResponseWriter, _ string) { http.Error(w, "overloaded", http.StatusServiceUnavailable) },
		func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, id string) {
			startStream(w)
			writeEvent(w, "e4", message(2))
			writeEvent(w, "e5", `{"jsonrpc":"2.0","id":`+id+`,"result":{"n":1.0}}`)
		})
	sink := &recorder{}
	c := newEnv(t, b.spec()).connect(t, nil)
	start := time.Now()
	req := toolCall("echo", "")
	req.Sink = sink
	m, err := c.Call(t.Context(), req)
	if err != nil || string(m.Result) != `{"n":1.0}` {
		t.Fatalf("%s, %v", m.Result, err)
	}
	// One of the 4 pauses may be missing: net/http itself repeats a GET whose connection broke.
	if took := time.Since(start); took < 3*150*time.Millisecond || took > 5*time.Second {
		t.Errorf("it took %s with 4 pauses of 150ms", took)
	}
	for _, want := range []string{"e2", "e3", "e3", "e3"} {
		if got := <-b.resumed; got != want {
			t.Errorf("resumed after %q, want %q", got, want)
		}
	}
	if got := sink.notifications(); len(got) != 3 {
		t.Errorf("the sink got %v", got)
	}
	if n := b.dispatched("tools/call"); n != 0 || len(b.sent("POST", "tools/call")) != 1 {
		t.Error("the call was sent again")
	}
}

func TestResumptionEndsAfterEightAttempts(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	_, err := newEnv(t, b.spec()).connect(t, nil).Call(t.Context(), toolCall("echo", ""))
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "its stream ended early: HTTP status 400 Bad Request") {
		t.Errorf("error %v", err)
	}
	if n := len(b.resumed); n != 8 {
		t.Errorf("%d attempts, want 8", n)
	}
}

func TestResumptionEndsWithTheCall(t *testing.T) {
	t.Parallel()
	b := newBroken(t, func(w http.ResponseWriter, _ string) {
		startStream(w)
		fmt.Fprint(w, "retry: 3600000\nid: e3\ndata:\n\n")
	})
	spec := b.spec()
	spec.CallTimeout = time.Second
	c := newEnv(t, spec).connect(t, nil)
	within(t, 3*time.Second, "the call", func() {
		if _, err := c.Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrTimeout) {
			t.Errorf("error %v", err)
		}
	})
}

// The call was sent: it must not be sent again because its stream is forgotten.
func TestSessionForgottenDuringResumptionIsALostCall(t *testing.T) {
	t.Parallel()
	b := newBroken(t, func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) })
	_, err := newEnv(t, b.spec()).connect(t, nil).Call(t.Context(), toolCall("echo", ""))
	if !errors.Is(err, ErrLost) || !errors.Is(err, transport.ErrSessionGone) {
		t.Errorf("error %v", err)
	}
}

func TestGETStreamDeliversAndIsOpenedAgain(t *testing.T) {
	t.Parallel()
	cursors := make(chan string, 100)
	h := newHTTPScript(t, func(h *httpScript) {
		h.onGet = func(w http.ResponseWriter, r *http.Request) {
			cursors <- r.Header.Get("Last-Event-ID")
			n := len(h.sent("GET", ""))
			switch n {
			case 2: // the server has not noticed yet that the first stream is over
				w.WriteHeader(http.StatusConflict)
				return
			case 3:
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			startStream(w)
			fmt.Fprint(w, "retry: 100\n\n")
			writeEvent(w, "n"+strconv.Itoa(n), message(n))
			if n > 4 {
				<-r.Context().Done()
			}
		}
	})
	sink := &recorder{}
	e := newEnv(t, h.spec())
	e.connect(t, sink)
	for _, want := range []string{"", "n1", "n1", "n1", "n4"} {
		if got := wait(t, "the stream is opened", cursors); got != want {
			t.Errorf("opened after %q, want %q", got, want)
		}
	}
	hubtest.Eventually(t, "all notifications arrive", func() bool { return len(sink.notifications()) == 3 })
	for outcome, want := range map[string]float64{"opened": 3, "refused": 2} {
		if n := instrumenttest.Value(t, e.reg, "mcphub_backend_streams_total", "outcome", outcome); n != want {
			t.Errorf("%v are counted as %s, want %v", n, outcome, want)
		}
	}
}

func TestSessionForgottenWithoutACallIsNoticed(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	h := newHTTPScript(t, func(h *httpScript) {
		h.onGet = func(w http.ResponseWriter, r *http.Request) {
			startStream(w)
			fmt.Fprint(w, "retry: 100\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-end:
			case <-r.Context().Done():
			}
		}
	})
	c := newEnv(t, h.spec()).connect(t, nil)
	hubtest.Eventually(t, "the stream is open", func() bool { return len(h.sent("GET", "")) == 1 })
	h.forgetAll("hub")
	close(end)
	wait(t, "the connection is lost", c.done())
	if !errors.Is(c.err(), transport.ErrSessionGone) {
		t.Errorf("Err() = %v", c.err())
	}
}

func TestServerCannotMakeTheHubReconnectWithoutPause(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.onGet = func(w http.ResponseWriter, _ *http.Request) {
			startStream(w)
			fmt.Fprint(w, "retry: 1\n\n")
		}
	})
	newEnv(t, h.spec()).connect(t, nil)
	start := time.Now()
	hubtest.Eventually(t, "the stream was opened some times", func() bool { return len(h.sent("GET", "")) >= 6 })
	if took := time.Since(start); took < 5*100*time.Millisecond {
		t.Errorf("5 pauses took %s", took)
	}
}

func TestGETStreamBelongsToNoTrace(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t)
	e, _ := traced(t, h.spec())
	ctx, span := e.tel.tracer.Start(context.Background(), "whoever needed it first")
	defer span.End()
	c, err := e.openFor(ctx, &recorder{}, hub, ServerSession{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(true)
	hubtest.Eventually(t, "the stream is asked for", func() bool { return len(h.sent("GET", "")) > 0 })
	if got := h.sent("GET", "")[0].header.Get("Traceparent"); got != "" {
		t.Errorf("it has traceparent %s", got)
	}
}

func TestResumptionsThatBringNothingHaveGrowingPauses(t *testing.T) {
	t.Parallel()
	var pieces []func(http.ResponseWriter, string)
	for n := range 50 { // each stream has an event with a new id, and ends
		pieces = append(pieces, func(w http.ResponseWriter, _ string) {
			startStream(w)
			fmt.Fprintf(w, "retry: 1\nid: n%d\ndata:\n\n", n)
		})
	}
	b := newBroken(t, pieces...)
	spec := b.spec()
	spec.CallTimeout = 2 * time.Second
	if _, err := newEnv(t, spec).connect(t, nil).Call(t.Context(), toolCall("echo", "")); !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	if n := len(b.resumed); n > 5 { // after 0.15, 0.2, 0.4 and 0.8 s
		t.Errorf("resumed %d times in two seconds", n)
	}
}
