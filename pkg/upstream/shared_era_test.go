package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Callers of both eras work at a legacy server. At a modern one, legacy servers' own requests have no way.
func TestSharedServerOfBothErasIsSpokenToInTheLegacyOne(t *testing.T) {
	t.Parallel()
	withSessions := func(t *testing.T) Spec { return dualScript(t, true).spec() }
	sdkPipe := func(t *testing.T) Spec { return anyChild(t, "go-sdk") }
	mcpGoPipe := func(t *testing.T) Spec { return anyChild(t, "mcp-go modern") }
	modernPipe := func(t *testing.T) Spec { return childSpec(t, "modern only") }
	noSessions := func(t *testing.T) Spec { return dualScript(t, false).spec() }
	sdkHTTP := func(t *testing.T) Spec { return newTap(t, sdkHandler(t, newEnded(), true)).spec() }
	mcpGoHTTP := func(t *testing.T) Spec { return newTap(t, mcpGoHandler(newEnded())).spec() }
	for name, test := range map[string]struct {
		spec      func(t *testing.T) Spec
		isolation Isolation
		era       protocol.Era
		modern    bool
	}{
		"go-sdk over a pipe":      {sdkPipe, Shared, protocol.AnyEra, false},
		"mcp-go over a pipe":      {mcpGoPipe, Shared, protocol.AnyEra, false},
		"go-sdk over HTTP":        {sdkHTTP, Shared, protocol.AnyEra, true},
		"mcp-go over HTTP":        {mcpGoHTTP, Shared, protocol.AnyEra, false},
		"over HTTP":               {withSessions, Shared, protocol.AnyEra, false},
		"over HTTP, no sessions":  {noSessions, Shared, protocol.AnyEra, true},
		"configured":              {withSessions, Shared, protocol.Modern, true},
		"not shared":              {withSessions, PerSession, protocol.AnyEra, true},
		"a server of one era":     {modernPipe, Shared, protocol.AnyEra, true},
		"configured, over a pipe": {sdkPipe, Shared, protocol.Modern, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := test.spec(t)
			spec.Isolation, spec.Era = test.isolation, test.era
			r := run(t, []Spec{spec}).settled(t)
			s := r.Servers()[0]
			if st := s.Status(); st.State != Up || s.Modern() != test.modern {
				t.Errorf("modern: %v, %+v", s.Modern(), st)
			}
		})
	}
}

// Some processes keep to the era of the first message.
func TestSharedCommandOfBothErasIsStartedAgainAsLegacy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mode, delay string
		probes      int // of the first start
	}{
		"refuses initialize":                {"dual, keeps its era", "", 1},
		"refuses initialize, starts slowly": {"dual, keeps its era", "1s", 2},
		"ignores initialize":                {"dual, ignores the other era", "", 1},
		"ends":                              {"dual, ends in the other era", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := t.TempDir() + "/log"
			spec := anyChild(t, test.mode, "CHILD_LOG="+log, "CHILD_DELAY="+test.delay)
			if spec.probeWait = 2 * time.Second; test.delay != "" {
				spec.probeWait = 500 * time.Millisecond
			}
			r := run(t, []Spec{spec}).settled(t)
			s := r.Server("child")
			if st := s.Status(); st.State != Up || s.Modern() || st.Connections != 1 {
				t.Fatalf("modern: %v, %+v", s.Modern(), st)
			}
			if n := strings.Count(readFile(log), `"server/discover"`); n != test.probes {
				t.Errorf("it was probed %d times", n)
			}
			// It is not probed again, so that it starts once.
			if _, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("crash", "")); !errors.Is(err, ErrLost) {
				t.Fatalf("error %v", err)
			}
			hubtest.Eventually(t, "it is up again", func() bool {
				return strings.Count(readFile(log), `"initialize"`) == 3 && s.Status().State == Up
			})
			if n := strings.Count(readFile(log), `"server/discover"`); n != test.probes || s.Modern() {
				t.Errorf("it was probed %d times, modern: %v", n, s.Modern())
			}
		})
	}
}

func TestSharedCommandThatOnlyClaimsToSpeakTheLegacyEraIsModern(t *testing.T) {
	t.Parallel()
	log := t.TempDir() + "/log"
	r := run(t, []Spec{anyChild(t, "dual, modern in fact", "CHILD_LOG="+log)}).settled(t)
	s := r.Server("child")
	if st := s.Status(); st.State != Up || !s.Modern() || st.Connections != 1 {
		t.Fatalf("modern: %v, %+v", s.Modern(), st)
	}
	initialized := strings.Count(readFile(log), `"initialize"`)
	if _, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("crash", "")); !errors.Is(err, ErrLost) {
		t.Fatalf("error %v", err)
	}
	hubtest.Eventually(t, "it is up again", func() bool {
		return strings.Count(readFile(log), `"server/discover"`) == 3 && s.Status().State == Up
	})
	if n := strings.Count(readFile(log), `"initialize"`); n != initialized || !s.Modern() {
		t.Errorf("it was initialized %d times, modern: %v", n, s.Modern())
	}
}

func TestSharedHTTPServerThatOnlyClaimsToSpeakTheLegacyEraIsModern(t *testing.T) {
	t.Parallel()
	for name, initialize := range map[string]func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message){
		"refuses initialize": func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
			reply(w, m, `"error":{"code":-32601,"message":"no such method"}`)
		},
		"fails": func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.WriteHeader(http.StatusInternalServerError)
		},
		"drops":   func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) },
		"ignores": func(_ http.ResponseWriter, r *http.Request, _ jsonrpc.Message) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dualScript(t, true)
			s.on["initialize"] = initialize
			spec := s.spec()
			spec.Isolation, spec.probeWait = Shared, 2*time.Second
			r := run(t, []Spec{spec}).settled(t)
			if st := r.Servers()[0].Status(); st.State != Up || !r.Servers()[0].Modern() {
				t.Errorf("%+v", st)
			}
		})
	}
}

// speakBoth makes the child a server of both eras, or one that says so.
func (c *child) speakBoth(mode string) {
	c.lists["server/discover"] = func(json.RawMessage) string {
		return discovery(`{"tools":{}}`, protocol.ModernVersion, "2025-11-25")
	}
	c.lists["initialize"] = func(json.RawMessage) string {
		switch {
		case mode == "dual, modern in fact", c.probed.Load() && mode == "dual, keeps its era":
			return `"error":{"code":-32600,"message":"duplicate \"initialize\" received"}`
		case c.probed.Load() && mode == "dual, ignores the other era":
			return ""
		case c.probed.Load():
			os.Exit(1)
		}
		return `"result":` + c.script.initialize
	}
}
