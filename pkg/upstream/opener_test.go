package upstream

import (
	"net/http"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// eager makes a server begin a session with whatever it is asked first, and then answer by answer.
func eager(method string, then answer) func(*httpScript) {
	return func(h *httpScript) {
		h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			if m.Method != method || r.Header.Get("Mcp-Session-Id") != "" {
				return false
			}
			w.Header().Set("Mcp-Session-Id", h.issue(m))
			then(w, r, m)
			return true
		}
	}
}

func open(t *testing.T, r running, by opener) float64 {
	t.Helper()
	return instrumenttest.Value(t, r.reg, "mcphub_backend_sessions_open", "opener", string(by))
}

func left(t *testing.T, r running, by opener) float64 {
	t.Helper()
	return instrumenttest.Value(t, r.reg, "mcphub_backend_sessions_left_total", "opener", string(by))
}

const refusedDiscovery = `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Missing session ID"}}`

func TestSessionThatComesWithTheAnswerToTheProbeIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]answer{
		"400, of another id": object(400, refusedDiscovery),
		"400, text":          text(400, "text/plain", "no"),
		"200, an error":      object(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"no"}}`),
		"200, a stream":      event(200, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"no"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHTTPScript(t, eager("server/discover", then))
			spec := h.spec()
			spec.Era = protocol.AnyEra
			r := run(t, []Spec{spec}).settled(t)
			hubtest.Eventually(t, "the hub's own session is the only one", func() bool {
				return len(h.live("hub")) == 1 && len(h.live("")) == 0 && open(t, r, openedByProbe) == 0
			})
			if n := len(h.sent("DELETE", "")); n != 1 || r.Server("web").Status().State != Up {
				t.Errorf("%d sessions were ended, %+v", n, r.Server("web").Status())
			}
			if n := left(t, r, openedByProbe); n != 0 {
				t.Errorf("%v sessions are counted as left", n)
			}
		})
	}
}

func TestSessionOfARefusedInitializeIsEnded(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, eager("initialize", object(400, `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"no"}}`)))
	r := run(t, []Spec{h.spec()}).settled(t)
	if st := r.Server("web").Status(); st.State != Down {
		t.Errorf("Status() = %+v", st)
	}
	if n := len(h.live("hub")); n != 0 || len(h.sent("DELETE", "")) == 0 {
		t.Errorf("%d sessions are open, %d were ended", n, len(h.sent("DELETE", "")))
	}
}

func TestSessionsAreCountedByWhoOpenedThem(t *testing.T) {
	t.Parallel()
	own := newHTTPScript(t)
	r := run(t, []Spec{own.spec()}).settled(t)
	tool(t, r.link(t, "web", LinkConfig{}), "echo", "")
	bridged := r.link(t, "web", LinkConfig{Modern: true})
	tool(t, bridged, "echo", "")
	if open(t, r, openedByHub) != 1 || open(t, r, openedBySession) != 1 || open(t, r, openedByBridge) != 1 ||
		open(t, r, openedShared) != 0 {
		t.Error("the sessions of an isolated server are counted wrongly")
	}
	bridged.Close(true)
	if open(t, r, openedByBridge) != 0 || left(t, r, openedByBridge) != 0 {
		t.Error("a session that has ended is counted as open, or as left")
	}
	shared := newHTTPScript(t)
	spec := shared.spec()
	spec.Isolation = Shared
	r = run(t, []Spec{spec}).settled(t)
	tool(t, r.link(t, "web", LinkConfig{}), "echo", "")
	if open(t, r, openedShared) != 1 || open(t, r, openedByHub) != 0 || open(t, r, openedBySession) != 0 {
		t.Error("the session of a shared server is counted wrongly")
	}
}

// rudeServer refuses to end sessions.
type rudeServer struct{ http.Handler }

func (s rudeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodDelete {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	s.Handler.ServeHTTP(w, r)
}

func TestSessionsThatTheServerDoesNotEndAreCountedAsLeft(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, eager("server/discover", object(400, refusedDiscovery)))
	h.Config.Handler = rudeServer{h}
	spec := h.spec()
	spec.Era = protocol.AnyEra
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "web", LinkConfig{})
	tool(t, l, "echo", "")
	l.Close(true)
	hubtest.Eventually(t, "both are counted", func() bool {
		return left(t, r, openedByProbe) == 1 && left(t, r, openedBySession) == 1
	})
	if open(t, r, openedByProbe) != 0 || open(t, r, openedBySession) != 0 {
		t.Error("they are counted as held by the hub")
	}
}
