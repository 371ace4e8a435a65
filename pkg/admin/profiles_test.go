package admin_test

import (
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

// An operator needs a profile just when somebody takes one for a minute, or does not read his own.
func TestANewerProfileEndsTheOneUnderWay(t *testing.T) {
	r := start(t)
	for _, path := range []string{"/debug/pprof/profile", "/debug/pprof/trace"} {
		first := make(chan reply, 1)
		go func() {
			defer close(first)
			first <- r.do(http.MethodGet, path+"?seconds=3600")
		}()
		var ended, newer reply
		hubtest.Eventually(t, "the profile under way is ended for a newer one", func() bool {
			newer = r.do(http.MethodGet, path+"?seconds=1")
			select {
			case ended = <-first:
				return true
			default: // it may not have begun yet
				return false
			}
		})
		for name, p := range map[string]reply{"the newer one": newer, "the one that was ended": ended} {
			if p.status != http.StatusOK || p.body == "" {
				t.Errorf("%s: %s is answered %d, %d bytes", path, name, p.status, len(p.body))
			}
		}
		if r.metric("mcphub_admin_displaced_total", strings.TrimPrefix(path, "/debug/pprof/")) == 0 {
			t.Errorf("%s: nothing is counted", path)
		}
	}
}
