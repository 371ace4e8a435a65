package transport

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// pausesOf returns the pauses that l makes after n streams, or refusals, which event notes.
func pausesOf(t *testing.T, l *listening, n int, event func()) []time.Duration {
	t.Helper()
	l.pauses.Jitter = 0
	pauses := make([]time.Duration, 0, n)
	for range n {
		event()
		start := time.Now()
		if err := l.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		pauses = append(pauses, time.Since(start))
	}
	return pauses
}

func seconds(n ...int) []time.Duration {
	all := make([]time.Duration, 0, len(n))
	for _, s := range n {
		all = append(all, time.Duration(s)*time.Second)
	}
	return all
}

func TestPausesGrowWhileStreamsAreShortAndEmpty(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lasted   time.Duration
		messages int
		want     []time.Duration
	}{
		"at once":                {0, 0, seconds(1, 2, 4, 8, 16, 32, 60, 60)},
		"after 9 s":              {9 * time.Second, 0, seconds(1, 2, 4, 8, 16, 32, 60, 60)},
		"short, with a message":  {0, 1, seconds(1, 2, 4, 8, 8, 8, 8, 8)},
		"limited to 10 s":        {10 * time.Second, 0, seconds(1, 1, 1, 1, 1, 1, 1, 1)},
		"limited, with messages": {time.Minute, 5, seconds(1, 1, 1, 1, 1, 1, 1, 1)},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newListening(false)
			if got := pausesOf(t, l, len(test.want), func() { l.ended(test.lasted, test.messages) }); !slices.Equal(got, test.want) {
				t.Errorf("%s: %v, want %v", name, got, test.want)
			}
			l.ended(time.Minute, 0)
			if got := pausesOf(t, l, 1, func() {}); got[0] != time.Second {
				t.Errorf("%s: %v after a stream that lasted", name, got)
			}
		})
	}
}

func TestServerChoosesTheFirstPauseOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newListening(false)
		l.cursor.retry = 20 * time.Second
		if got, want := pausesOf(t, l, 4, func() { l.ended(0, 0) }), seconds(20, 40, 60, 60); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func TestStreamThatWasThereIsAskedForAgainAfterAnyRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{200, 202, 302, 400, 401, 403, 404, 405, 410, 422, 501, 503} {
			l := newListening(false)
			if l.refused(status) != (status == 503) {
				t.Errorf("%d: a server that has had no stream", status)
			}
			l = newListening(false)
			l.ended(time.Minute, 0)
			got := pausesOf(t, l, 8, func() {
				if !l.refused(status) {
					t.Errorf("%d: the stream is given up", status)
				}
			})
			if want := seconds(1, 2, 4, 8, 16, 32, 60, 60); !slices.Equal(got, want) {
				t.Errorf("%d: %v, want %v", status, got, want)
			}
		}
	})
}

func TestSessionFromBeforeARestartGetsItsStreamBack(t *testing.T) {
	t.Parallel()
	l := newListening(true)
	for range maxResumedRefusals - 1 {
		if !l.refused(http.StatusBadRequest) {
			t.Fatal("the stream is given up")
		}
	}
	if l.refused(http.StatusBadRequest) {
		t.Error("the server is asked for ever")
	}
	if newListening(true).refused(http.StatusMethodNotAllowed) {
		t.Error("a server that has no streams is asked again")
	}
}

// The stream ends, and for some time the server knows neither it nor its end.
func TestRefusedStreamIsOpenedAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed} {
		var gets, checks atomic.Int32
		again := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := gets.Add(1)
			if n == 2 || n == 3 {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("Content-Type", protocol.TypeEventStream)
			fmt.Fprint(w, "retry: 100\n\n")
			_ = http.NewResponseController(w).Flush()
			if n > 3 {
				close(again)
				<-r.Context().Done()
			}
		}))
		clients := NewHTTPClients()
		ctx, cancel := context.WithCancel(t.Context())
		c := newStreamableHTTP(Config{Handler: silentHandler{}, Log: slog.New(slog.DiscardHandler), Context: ctx, URL: server.URL,
			SessionID: "s", Clients: clients, MaxMessage: 1 << 20, CheckSession: func(context.Context) { checks.Add(1) }})
		c.Listen(t.Context())
		select {
		case <-again:
		case <-time.After(20 * time.Second):
			t.Errorf("%d: the stream is not opened again", status)
		}
		if n := checks.Load(); (n > 0) != (status == http.StatusNotFound) {
			t.Errorf("%d: the session was checked %d times", status, n)
		}
		cancel()
		c.Close(false)
		clients.CloseIdle()
		server.Close()
	}
}
