package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// fullLists answers every list with one item.
func fullLists() map[string]func(json.RawMessage) string {
	answer := func(result string) func(json.RawMessage) string {
		return func(json.RawMessage) string { return `"result":` + result }
	}
	return map[string]func(json.RawMessage) string{
		"tools/list":               answer(`{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`),
		"prompts/list":             answer(`{"prompts":[{"name":"p"}]}`),
		"resources/list":           answer(`{"resources":[{"uri":"x:1"}]}`),
		"resources/templates/list": answer(`{"resourceTemplates":[{"uriTemplate":"x:{a}"}]}`),
	}
}

// brokenAnswers are ways to fail a list.
func brokenAnswers() map[string]func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	status := func(code int, body string) func(http.ResponseWriter, *http.Request, jsonrpc.Message) {
		return func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) { http.Error(w, body, code) }
	}
	says := func(member string) func(http.ResponseWriter, *http.Request, jsonrpc.Message) {
		return func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID, member)
		}
	}
	answers := map[string]func(http.ResponseWriter, *http.Request, jsonrpc.Message){
		"HTTP 404": status(404, "no such thing"), "HTTP 410": status(410, ""), "HTTP 500": status(500, "boom"),
		"HTTP 501": status(501, ""), "HTTP 403": status(403, "no"), "HTTP 400": status(400, "bad"),
		"null": says(`"result":null`), "an array": says(`"result":[]`), "a string": says(`"result":"none"`),
		"no list": says(`"result":{}`), "a list that is none": says(`"result":{"prompts":7,"resourceTemplates":7,"resources":7}`),
		"no JSON": func(w http.ResponseWriter, _ *http.Request, _ jsonrpc.Message) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "not implemented")
		},
		"a broken connection": func(http.ResponseWriter, *http.Request, jsonrpc.Message) { panic(http.ErrAbortHandler) },
		"no answer":           func(_ http.ResponseWriter, r *http.Request, _ jsonrpc.Message) { <-r.Context().Done() },
	}
	for _, code := range []int{-32700, -32600, -32601, -32602, -32603, -32000, 0, 1, 404} {
		answers[fmt.Sprint("the error ", code)] = says(fmt.Sprintf(`"error":{"code":%d,"message":"not implemented"}`, code))
	}
	return answers
}

func TestAListThatFailsCostsTheOthersNothingAndIsAWarning(t *testing.T) {
	t.Parallel()
	for name, answer := range brokenAnswers() {
		for _, method := range []string{"prompts/list", "resources/list", "resources/templates/list"} {
			t.Run(name+" to "+method, func(t *testing.T) {
				t.Parallel()
				h := newHTTPScript(t, func(h *httpScript) {
					h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + all + `}`
					h.lists = fullLists()
					h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
						if m.Method == method {
							answer(w, r, m)
						}
						return m.Method == method
					}
				})
				spec := h.spec()
				spec.ConnectTimeout = 8 * time.Second // a machine that is busy with other tests answers slowly
				r := run(t, []Spec{spec}).settled(t)
				st := r.Server("web").Status()
				if st.State != Up || st.Tools != 1 || st.Prompts+st.Resources+st.Templates != 2 {
					t.Errorf("Status() = %+v", st)
				}
				silent := method == "resources/templates/list" && name == "the error -32601" // it has no capability of its own
				if got := r.warning("web", WarnListFailed, method); (got == "") != silent || len(st.Warnings) > 1 || strings.Contains(got, method) {
					t.Errorf("the warnings are %+v", st.Warnings)
				}
			})
		}
	}
}

func TestAListThatFailsAndAPingThatIsNotAnsweredLeaveTimeForTheOthers(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + all + `}`
		h.lists = fullLists()
		h.onPost = func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
			switch m.Method {
			case "prompts/list":
				http.Error(w, "no such thing", http.StatusNotFound)
			case "ping":
				<-r.Context().Done()
			default:
				return false
			}
			return true
		}
	})
	spec := h.spec()
	spec.ConnectTimeout = 9 * time.Second
	r := run(t, []Spec{spec}).settled(t)
	if st := r.Server("web").Status(); st.Tools+st.Resources+st.Templates != 3 || r.warning("web", WarnListFailed, "prompts/list") == "" {
		t.Errorf("Status() = %+v", st)
	}
}

func TestTheWarningAboutAListThatHasNoEndSaysHowMuchOfItThereWas(t *testing.T) {
	t.Parallel()
	page := 0
	h := newHTTPScript(t, func(h *httpScript) {
		h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + all + `}`
		h.lists = fullLists()
		h.lists["prompts/list"] = func(json.RawMessage) string {
			if page++; page == 3 {
				return `"error":{"code":-32603,"message":"no more"}`
			}
			return fmt.Sprintf(`"result":{"prompts":[{"name":"p%d"}],"nextCursor":"%[1]d"}`, page)
		}
	})
	r := run(t, []Spec{h.spec()}).settled(t)
	if got := r.warning("web", WarnListFailed, "prompts/list"); !strings.HasPrefix(got, "after 2 pages: server ") {
		t.Errorf("the warning is %q", got)
	}
	if n := r.Server("web").Status().Prompts; n != 2 {
		t.Errorf("%d prompts are kept", n)
	}
}

func TestASessionThatIsForgottenWhileListsAreReadIsNotTakenForListsThatFail(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, func(h *httpScript) {
		h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + all + `}`
		h.lists = fullLists()
	})
	spec := h.spec()
	spec.Isolation = Shared
	r := run(t, []Spec{spec}).settled(t)
	h.forgetAll("hub")
	if err := r.Server("web").Refresh(t.Context()); err != nil && !errors.Is(err, transport.ErrSessionGone) {
		t.Errorf("error %v", err)
	}
	hubtest.Eventually(t, "it is connected again", func() bool { return len(h.live("hub")) == 1 && r.Server("web").Status().State == Up })
	if got := r.Server("web").Status().Warnings; len(got) != 0 {
		t.Errorf("the warnings are %+v", got)
	}
}

func TestAListThatFailsWithAProcessCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	r := run(t, []Spec{childSpec(t, "script")}).settled(t)
	if st := r.up(t, "child"); st.Tools != 1 || r.warning("child", WarnListFailed, "prompts/list") == "" {
		t.Errorf("Status() = %+v", st)
	}
}

func TestAServerThatAnswersNoListIsDown(t *testing.T) {
	t.Parallel()
	h := newHTTPScript(t, hangs("/list"))
	spec := h.spec()
	spec.ConnectTimeout = time.Second
	r := run(t, []Spec{spec}).settled(t)
	if st := r.Server("web").Status(); st.State != Down || !strings.Contains(st.Error, "tools/list: ") {
		t.Errorf("Status() = %+v", st)
	}
}

func TestAListThatFailedIsReadAgainAloneAndItsWarningEnds(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	h := newHTTPScript(t, func(h *httpScript) {
		h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + all + `}`
		h.lists = fullLists()
		good := h.lists["prompts/list"]
		h.lists["prompts/list"] = func(params json.RawMessage) string {
			if broken.Load() {
				return `"error":{"code":-32603,"message":"the database is away"}`
			}
			return good(params)
		}
	})
	r := run(t, []Spec{h.spec()}).settled(t)
	if got := r.warning("web", WarnListFailed, "prompts/list"); !strings.Contains(got, "the database is away") {
		t.Fatalf("the warning is %q", got)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_listings_total", "reason", "connect", "outcome", "error"); n != 1 {
		t.Errorf("%v failed readings are counted", n)
	}
	broken.Store(false)
	hubtest.Eventually(t, "the prompts are there", func() bool { return r.Server("web").Status().Prompts == 1 })
	if got := r.Server("web").Status().Warnings; len(got) != 0 {
		t.Errorf("the warnings are %+v", got)
	}
	if n := len(h.sent("POST", `"tools/list"`)); n != 1 {
		t.Errorf("the tools were read %d times", n)
	}
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_listings_total", "reason", "retry", "outcome", "ok"); n != 1 {
		t.Errorf("%v readings are counted", n)
	}
}

func TestAListThatFailsOnANewConnectionStaysAsItWas(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	h := newHTTPScript(t, func(h *httpScript) {
		h.initialize = `{"protocolVersion":"2025-06-18","capabilities":` + all + `}`
		h.lists = fullLists()
		good := h.lists["prompts/list"]
		h.lists["prompts/list"] = func(params json.RawMessage) string {
			if broken.Load() {
				return `"error":{"code":-32603,"message":"x"}`
			}
			return good(params)
		}
	})
	spec := h.spec()
	spec.Isolation = Shared
	var published inventories
	r := run(t, []Spec{spec}, published.configure).settled(t)
	broken.Store(true)
	h.forgetAll("hub")
	hubtest.Eventually(t, "it is connected again", func() bool {
		_, _ = r.link(t, "web", LinkConfig{}).Call(t.Context(), toolCall("echo", ""))
		return len(published.all()) > 1
	})
	if st := r.up(t, "web"); st.Prompts != 1 || r.warning("web", WarnListFailed, "prompts/list") == "" {
		t.Errorf("Status() = %+v", st)
	}
}

func TestListsThatChangeAllTheTimeAreReadWithGrowingPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newRelistPlan(0)
		p.ended(nil, time.Now())
		read := 0
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			p.reported([]string{"notifications/tools/list_changed"}, time.Now())
			if at, why := p.next(); !time.Now().Before(at) && why == relistChange {
				read++
				if changed := p.began(true); len(changed) != 1 {
					t.Fatalf("%q were reported", changed)
				}
				p.ended(nil, time.Now())
			}
		}
		if read > 310 {
			t.Errorf("the lists were read %d times in ten minutes", read)
		}
		p.began(true)
		p.ended(nil, time.Now())
		time.Sleep(time.Minute)
		p.reported([]string{"notifications/tools/list_changed"}, time.Now())
		if at, _ := p.next(); time.Until(at) > changePause {
			t.Errorf("after a quiet time the next change is read in %s", time.Until(at))
		}
	})
}

func TestListsThatFailAreRetriedWithGrowingPausesBesideTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newRelistPlan(time.Hour)
		failed := map[string]error{"prompts/list": io.EOF}
		p.ended(failed, time.Now())
		var retries int
		var longest time.Duration
		for end := time.Now().Add(55 * time.Minute); time.Now().Before(end); retries++ {
			at, why := p.next()
			if why != relistRetry {
				t.Fatalf("the next reading is because of %s", why)
			}
			longest = max(longest, time.Until(at))
			time.Sleep(time.Until(at))
			p.began(false)
			p.ended(failed, time.Now())
		}
		if longest < maxRetryPause || longest > maxRetryPause*5/4 || retries > 25 {
			t.Errorf("%d retries, the longest pause was %s", retries, longest)
		}
		p.began(false)
		p.ended(nil, time.Now())
		if at, why := p.next(); why != relistInterval || time.Until(at) > 15*time.Minute {
			t.Errorf("the next reading is in %s because of %s", time.Until(at), why)
		}
		p.ended(failed, time.Now())
		if at, _ := p.next(); time.Until(at) > 2*retryPause {
			t.Errorf("after a reading that went well, a list that fails is read again in %s", time.Until(at))
		}
	})
}

func TestAListThatIsNotAnsweredTakesAShareOfTheTimeOnly(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, l := range lists() {
		for left := 1; left <= 4; left++ {
			ctx, release := listTime(ctx, l, left)
			end, _ := ctx.Deadline()
			share := time.Until(end)
			switch {
			case left == 1 && share < 59*time.Minute,
				left > 1 && l.method == "tools/list" && (share < 14*time.Minute || share > 31*time.Minute),
				left > 1 && l.method != "tools/list" && share > listPatience:
				t.Errorf("%s with %d lists left has %s", l.method, left, share)
			}
			release()
		}
	}
}

func TestAListThatFailedIsReadAgainWithAllOfTheTime(t *testing.T) {
	t.Parallel()
	again := listingOf{only: map[string]error{"prompts/list": io.EOF}}.wanted(lists())
	if len(again) != 1 || again[0].method != "prompts/list" {
		t.Errorf("%+v are read again", again)
	}
	if everything := (listingOf{}).wanted(lists()); len(everything) != 4 {
		t.Errorf("%+v are read", everything)
	}
}
