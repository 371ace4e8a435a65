package admin_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestTheTimeOfAProfileIsLimited(t *testing.T) {
	for query, want := range map[string]time.Duration{
		"heap?seconds=86400": time.Minute, "heap?seconds=1e300": time.Minute, "heap?seconds=2": 2 * time.Second,
		"heap?seconds=NaN": time.Second, "heap?seconds=0.1": time.Second, "heap": 0,
	} {
		synctest.Test(t, func(t *testing.T) {
			handler := admin.New(admin.Config{Sessions: session.New(&persist.Memory{}, session.Config{}),
				Pool: upstream.NewPool(nil, upstream.Config{})})
			w := httptest.NewRecorder()
			begin := time.Now()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/"+query, nil))
			took := time.Since(begin)
			if w.Code != http.StatusOK || took != want {
				t.Errorf("%s: answered %d after %s, want %s", query, w.Code, took, want)
			}
		})
	}
}

// taken is what became of the request for a profile.
type taken struct {
	status int
	bytes  int64
	err    error
}

// take requests a profile. It may be called by any goroutine.
func (r *rig) take(path string) taken {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute) // a busy machine takes long to end a profile
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+path, nil)
	if err != nil {
		return taken{err: err}
	}
	response, err := r.client.Do(request)
	if err != nil {
		return taken{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	n, err := io.Copy(io.Discard, response.Body)
	return taken{response.StatusCode, n, err}
}

// An operator needs a profile just when somebody takes one for a minute, or does not read his own.
func TestANewerProfileEndsTheOneUnderWay(t *testing.T) {
	r := start(t)
	for _, path := range []string{"/debug/pprof/profile", "/debug/pprof/trace"} {
		first := make(chan taken, 1)
		go func() { first <- r.take(path + "?seconds=3600") }()
		var ended, newer taken
		hubtest.Eventually(t, "the profile under way is ended for a newer one", func() bool {
			newer = r.take(path + "?seconds=1")
			select {
			case ended = <-first:
				return true
			default: // it may not have begun yet
				return false
			}
		})
		for name, p := range map[string]taken{"the newer one": newer, "the one that was ended": ended} {
			if p.status != http.StatusOK || p.bytes == 0 || p.err != nil {
				t.Errorf("%s: %s is answered %+v", path, name, p)
			}
		}
		if r.metric("mcphub_admin_displaced_total", strings.TrimPrefix(path, "/debug/pprof/")) == 0 {
			t.Errorf("%s: nothing is counted", path)
		}
	}
}
