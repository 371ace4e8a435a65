package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// changer is a server whose tools change without a word.
func changer(t *testing.T) (h *httpScript, grow func()) {
	t.Helper()
	var more atomic.Int32
	h = lister(t, `{"tools":{}}`, map[string]func(json.RawMessage) string{"tools/list": func(json.RawMessage) string {
		tools := []string{`{"name":"echo","inputSchema":{"type":"object"}}`}
		for i := range more.Load() {
			tools = append(tools, fmt.Sprintf(`{"name":"new%d","inputSchema":{"type":"object"}}`, i))
		}
		return `"result":{"tools":[` + strings.Join(tools, ",") + `]}`
	}})
	return h, func() { more.Add(1) }
}

func (r running) tools(server string) int { return r.Server(server).Status().Tools }

func TestToolsThatChangeWithoutAWordAreReadWhenAnOperatorAsks(t *testing.T) {
	t.Parallel()
	h, grow := changer(t)
	var published inventories
	r := run(t, []Spec{h.spec()}, published.configure).settled(t)
	grow()
	if err := r.Server("web").Refresh(t.Context()); err != nil || r.tools("web") != 2 || len(published.all()) != 2 {
		t.Errorf("%v, %d tools, published %d times", err, r.tools("web"), len(published.all()))
	}
	if err := r.Server("web").Refresh(t.Context()); err != nil || len(published.all()) != 2 {
		t.Errorf("%v, published %d times though nothing has changed", err, len(published.all()))
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_listings_total", "reason", "operator", "outcome", "ok"); n != 2 {
		t.Errorf("%v readings are counted", n)
	}
}

func TestToolsThatChangeWithoutAWordAreReadAfterAnInterval(t *testing.T) {
	t.Parallel()
	h, grow := changer(t)
	spec := h.spec()
	spec.RefreshInterval = 50 * time.Millisecond
	r := run(t, []Spec{spec}).settled(t)
	grow()
	hubtest.Eventually(t, "the new tool is listed", func() bool { return r.tools("web") == 2 })
}

func TestTheRefreshIntervalFollowsWhatTheServerDeclares(t *testing.T) {
	t.Parallel()
	for capabilities, want := range map[string]time.Duration{
		`{"tools":{}}`:                                                    time.Minute,
		`{"tools":{"listChanged":false}}`:                                 time.Minute,
		`{"tools":{"listChanged":true},"prompts":{}}`:                     time.Minute,
		`{"tools":{"listChanged":true}}`:                                  10 * time.Minute,
		`{"tools":{"listChanged":true},"prompts":null}`:                   10 * time.Minute,
		`{"tools":{"listChanged":true},"resources":{"listChanged":true}}`: 10 * time.Minute,
	} {
		if got := (Spec{}).refreshInterval(reportsAllChanges(json.RawMessage(capabilities))); got != want {
			t.Errorf("%s: %s, want %s", capabilities, got, want)
		}
	}
	if got := (Spec{RefreshInterval: -1}).refreshInterval(false); got != 0 {
		t.Errorf("never is %s", got)
	}
	if got := (Spec{RefreshInterval: time.Hour}).refreshInterval(true); got != time.Hour {
		t.Errorf("an hour is %s", got)
	}
	if at, _ := newRelistPlan(0).next(); !at.IsZero() {
		t.Error("without an interval there is a reading by plan")
	}
}

func TestToolsAreReadAgainWhenTheServerDoesNotKnowOneThatItListed(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"go":         `"error":{"code":-32602,"message":"unknown tool \"echo\""}`,
		"typescript": `"error":{"code":-32602,"message":"MCP error -32602: Tool echo not found"}`,
		"an older":   `"error":{"code":-32601,"message":"Method not found: echo"}`,
		"java":       `"error":{"code":-32603,"message":"Tool does not exist: echo"}`,
		"python":     `"result":{"content":[{"type":"text","text":"Unknown tool: echo"}],"isError":true}`,
		"v1":         `"result":{"content":[{"type":"text","text":"MCP error -32602: Tool echo not found"}],"isError":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, grow := changer(t)
			h.lists["tools/call"] = func(json.RawMessage) string { return answer }
			r := run(t, []Spec{h.spec()}).settled(t)
			grow()
			tool(t, r.link(t, "web", LinkConfig{}), "echo", "")
			hubtest.Eventually(t, "the lists were read again", func() bool { return r.tools("web") == 2 })
		})
	}
}

func TestOtherFailuresOfAToolAreNoReasonToReadTheLists(t *testing.T) {
	t.Parallel()
	req := toolCall("echo", "")
	for _, response := range []jsonrpc.Message{
		{Result: json.RawMessage(`{"content":[{"type":"text","text":"Unknown tool: echo"}]}`)},
		{Result: json.RawMessage(`{"content":[{"type":"text","text":"file not found"}],"isError":true}`)},
		{Result: json.RawMessage(`{"content":[{"type":"text","text":"echo: user not found"}],"isError":true}`)},
		{Error: json.RawMessage(`{"code":-32602,"message":"the argument x is missing"}`)},
		{Error: json.RawMessage(`{"code":-32001,"message":"not found"}`)},
	} {
		if refusesName(req, response) {
			t.Errorf("%s%s refuses the name", response.Result, response.Error)
		}
	}
}

func TestUnknownNamesHaveTheListsReadOnceInAWhile(t *testing.T) {
	t.Parallel()
	h, grow := changer(t)
	r := run(t, []Spec{h.spec()}).settled(t)
	grow()
	everybody := func(string) bool { return true }
	for range 100 {
		r.RefreshUnknown(t.Context(), everybody)
	}
	if n := len(h.sent("POST", `"tools/list"`)); r.tools("web") != 2 || n != 2 {
		t.Errorf("%d tools, read %d times", r.tools("web"), n)
	}
	r.RefreshUnknown(t.Context(), func(string) bool { return false })
}

func TestAReadingThatIsNotAnsweredDelaysUnknownNamesOnceTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(Spec{Name: "s", Command: "x"}, Config{}, newTelemetry(Config{Registerer: prometheus.NewRegistry()}), nil, nil)
		s.state.control = &Conn{} // it is up, and nobody takes the request
		p := &Pool{servers: []*Server{s}}
		start := time.Now()
		for range 10 {
			p.RefreshUnknown(t.Context(), func(string) bool { return true })
		}
		if took := time.Since(start); took != unknownPatience {
			t.Errorf("ten names took %s", took)
		}
	})
}

func TestReadingsForUnknownNamesHaveGrowingPausesUntilOneHelps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newRelistRequests()
		readings := func(d time.Duration) (n int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				x.addUnknown(time.Now())
				if request := x.take(); request != nil {
					request.end(nil)
					n++
				}
			}
			return n
		}
		if n := readings(time.Hour); n > 65 {
			t.Errorf("%d readings in an hour", n)
		}
		x.helped()
		time.Sleep(maxUnknownPause)
		if n := readings(30 * time.Second); n < 3 {
			t.Errorf("%d readings in half a minute", n)
		}
		readings(time.Hour)
		time.Sleep(10 * maxUnknownPause)
		if n := readings(30 * time.Second); n < 3 {
			t.Errorf("%d readings in half a minute after a quiet time", n)
		}
	})
}

func TestWhoWaitsForAReadingIsToldThatTheServerIsDown(t *testing.T) {
	t.Parallel()
	s := newServer(Spec{Name: "s", Command: "x"}, Config{}, newTelemetry(Config{Registerer: prometheus.NewRegistry()}), nil, nil)
	request := s.supervisor.relists.add(relistOperator)
	s.supervisor.markDown(ErrDown, time.Now())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := request.wait(ctx); !errors.Is(err, ErrDown) {
		t.Errorf("error %v", err)
	}
}

func TestListsAreReadAgainWhenTheChildOfASessionHasEnded(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script")
	spec.Isolation = PerSession
	r := run(t, []Spec{spec}).settled(t)
	l := r.link(t, "child", LinkConfig{})
	_, _ = l.Call(t.Context(), toolCall("crash", ""))
	tool(t, l, "echo", "")
	hubtest.Eventually(t, "the lists are read", func() bool {
		return instrumenttest.Value(t, r.reg, "mcphub_backend_listings_total", "reason", "unknown") == 1
	})
}

func TestAServerThatIsDownCannotBeRefreshed(t *testing.T) {
	t.Parallel()
	r := run(t, []Spec{{Name: "child", Command: "/nonexistent"}}).settled(t)
	if err := r.Server("child").Refresh(t.Context()); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "could not be started") {
		t.Errorf("error %v", err)
	}
	idle := newEnv(t, Spec{Name: "s", Command: "x"})
	if err := idle.Refresh(t.Context()); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "still being started") {
		t.Errorf("error %v", err)
	}
}

func TestAReadingThatIsNotAnsweredEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	h, _ := changer(t)
	var silent atomic.Bool
	list := h.lists["tools/list"]
	h.lists["tools/list"] = func(params json.RawMessage) string {
		if silent.Load() {
			<-t.Context().Done()
		}
		return list(params)
	}
	r := run(t, []Spec{h.spec()}).settled(t)
	silent.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	refreshed := make(chan error, 1)
	go func() { refreshed <- r.Server("web").Refresh(ctx) }()
	hubtest.Eventually(t, "the list is being read", func() bool { return len(h.sent("POST", `"tools/list"`)) == 2 })
	r.stop()
	if err := wait(t, "the reading ends", refreshed); !errors.Is(err, ErrDown) {
		t.Errorf("error %v", err)
	}
}
