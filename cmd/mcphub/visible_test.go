package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// hostile turns what follows, ends the line, and clears the screen in three ways.
const hostile = "a\u202eb\u2028c\u009b2Jd\u0085e\U000e0041f\\u001b[2J\\u007f"

// hostileHub answers everything with hostile text.
func hostileHub(t *testing.T) string {
	t.Helper()
	const session = `{"sessionId":"s` + hostile + `","kind":"k` + hostile + `","state":"` + hostile + `","clientName":"` + hostile +
		`","clientVersion":"` + hostile + `","protocolVersion":"` + hostile + `","cwd":"` + hostile + `","metadata":{"` + hostile + `":"` +
		hostile + `"},"subscriptions":["` + hostile + `"],"upstreams":["` + hostile + `"],"newer":"` + hostile + `"}`
	const event = `{"seq":1,"time":"2026-01-02T03:04:05Z","sessionId":"` + hostile + `","type":"` + hostile + `","detail":"` + hostile + `"}`
	const message = `{"seq":1,"time":"2026-01-02T03:04:05Z","sessionId":"s1","hop":"` + hostile + `","server":"` + hostile +
		`","direction":"` + hostile + `","kind":"` + hostile + `","method":"` + hostile + `","target":"` + hostile + `","id":"` + hostile +
		`","outcome":"` + hostile + `","fault":"` + hostile + `","traceId":"` + hostile + `","payload":"` + hostile + `"}`
	const server = `{"name":"` + hostile + `","state":"` + hostile + `","transport":"` + hostile + `","error":"` + hostile + `","warnings":[` +
		`{"kind":"` + hostile + `","subject":"` + hostile + `","message":"` + hostile + `"}]}`
	mux := http.NewServeMux()
	for pattern, body := range map[string]string{
		"GET /api/v1/sessions":             `{"sessions":[` + session + `],"count":1,"restoring":0}`,
		"GET /api/v1/sessions/s1":          session,
		"GET /api/v1/upstreams":            `{"upstreams":[` + server + `]}`,
		"GET /api/v1/sessions/s1/events":   `{"events":[` + event + `],"count":1}`,
		"GET /api/v1/log-levels":           `{"levels":[{"subsystem":"` + hostile + `","level":"` + hostile + `","then":"` + hostile + `"}]}`,
		"GET /api/v1/events":               "id: 1\nevent: created\ndata: " + event + "\n\n",
		"GET /api/v1/sessions/s1/messages": "event: message\ndata: " + message + "\n\nevent: end\ndata: {\"reason\":\"" + hostile + "\"}\n\n",
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":"` + hostile + `"}`))
	})
	hub := httptest.NewServer(mux)
	t.Cleanup(hub.Close)
	return hub.URL
}

func noneHidden(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsGraphic(r) {
			t.Errorf("%s shows %q:\n%q", what, r, text)
			return
		}
	}
}

func TestNoCommandLetsTextFromOutsideSteerATerminal(t *testing.T) {
	hub := hostileHub(t)
	for _, args := range []string{
		"sessions list", "sessions show s1", "sessions events s1", "sessions events --follow", "sessions tail s1", "sessions kill --yes s1",
		"sessions kill --yes --client a", "log-level", "sessions show nobody", "servers list", "servers refresh s1",
	} {
		for _, format := range []string{"", " --json"} {
			_, out, errs := mcphub(t, "", append(strings.Fields(args+format), "--admin", hub)...)
			noneHidden(t, args+format, out)
			noneHidden(t, args+format+": the error", errs)
			if !strings.Contains(out+errs, `\u202e`) {
				t.Errorf("%s%s: %s%s", args, format, out, errs)
			}
		}
	}
	_, _, errs := mcphub(t, "", "config", "check", "--config", "/nowhere/\u202e\x1b[2J")
	noneHidden(t, "config check", errs)
}

func TestNothingThatTheAdminListenerSaysCanSteerATerminal(t *testing.T) {
	hub := hubtest.StartHub(t, hubtest.Options{})
	name := "a\u202eb\u2028c\u009b2J"
	init := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},` +
		`"clientInfo":{"name":"` + name + `","version":"1"}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hub.URL(), strings.NewReader(init))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	id := hub.AwaitSession()
	for _, path := range []string{"/", "/api/v1/sessions", "/api/v1/sessions/" + id, "/api/v1/sessions/" + id + "/events"} {
		_, body := hub.Get(path)
		noneHidden(t, path, body)
		if !strings.Contains(body, `\u202e`) {
			t.Errorf("%s does not show the client:\n%s", path, body)
		}
	}
	hub.Terminate(20 * time.Second)
	status, out, errs := mcphub(t, "", "sessions", "export", "--data-dir", hub.DataDir)
	noneHidden(t, "export", out)
	if status != 0 || !strings.Contains(out, `\u202e`) {
		t.Errorf("export: %d %s%s", status, out, errs)
	}
	noneHidden(t, "the log", hub.Log.String())
}
