package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// Programs read these bodies: their members, their order and their layout are
// part of the API.
func TestBodiesAreExactlyAsDocumented(t *testing.T) {
	r := startWith(t, func(cfg *admin.Config) {
		cfg.LogLevels, cfg.SetLogLevels = new(levels).list, new(levels).change
	})
	full, _ := r.session(session.Session{ClientName: "probe", ClientVersion: "1", ProtocolVersion: "2025-11-25", Principal: "ann",
		Capabilities: json.RawMessage(`{"roots":{}}`), UserAgent: "a<b", IP: "127.0.0.1", Cwd: "/w", Project: "p", LogLevel: "info",
		Subscriptions: []string{"a://b"}, Metadata: map[string]json.RawMessage{"k": json.RawMessage(`1`)},
		Upstreams: map[string]session.Upstream{"z": {}, "a": {}}})
	derived := r.derived(session.Session{Principal: "ann"})
	short, err := r.sessions.Info(t.Context(), derived)
	if err != nil {
		t.Fatal(err)
	}
	fullBody := fmt.Sprintf(`{
  "sessionId": %q,
  "kind": "protocol",
  "state": "initializing",
  "clientName": "probe",
  "clientVersion": "1",
  "protocolVersion": "2025-11-25",
  "capabilities": {
    "roots": {}
  },
  "cwd": "/w",
  "project": "p",
  "userAgent": "a\u003cb",
  "ip": "127.0.0.1",
  "principal": "ann",
  "createdAt": %d,
  "lastAccessedAt": %d,
  "expiresAt": %d,
  "inFlight": 0,
  "requests": 0,
  "dirty": false,
  "logLevel": "info",
  "subscriptions": [
    "a://b"
  ],
  "upstreams": [
    "a",
    "z"
  ],
  "metadata": {
    "k": 1
  }
}
`, full.ID, full.CreatedAt, full.LastAccessedAt, full.LastAccessedAt+(30*time.Minute).Milliseconds())
	listBody := fmt.Sprintf(`{
  "count": 1,
  "next": %q,
  "restoring": 0,
  "sessions": [
    {
      "sessionId": %[1]q,
      "kind": "derived",
      "state": "ready",
      "principal": "ann",
      "createdAt": %d,
      "lastAccessedAt": %d,
      "expiresAt": %d,
      "inFlight": 0,
      "requests": 1,
      "dirty": false
    }
  ]
}
`, derived, short.CreatedAt, short.LastAccessedAt, short.ExpiresAt.UnixMilli())
	created := r.sessions.Events(full.ID)[0]
	eventsBody := fmt.Sprintf(`{
  "count": 1,
  "events": [
    {
      "seq": %d,
      "time": %q,
      "sessionId": %q,
      "type": "created",
      "detail": "probe"
    }
  ]
}
`, created.Seq, created.Time.Format(time.RFC3339Nano), full.ID)
	levelsBody := `{
  "levels": [
    {
      "subsystem": "default",
      "level": "info",
      "own": true
    },
    {
      "subsystem": "session",
      "level": "debug",
      "own": true,
      "until": "1970-01-01T00:00:01Z",
      "then": "default"
    }
  ]
}
`
	for path, want := range map[string]string{
		"/api/v1/sessions/" + full.ID:              fullBody,
		"/api/v1/sessions?limit=1&kind=derived":    listBody,
		"/api/v1/sessions?after=zzzzzzzz":          "{\n  \"count\": 2,\n  \"restoring\": 0,\n  \"sessions\": []\n}\n",
		"/api/v1/sessions/" + full.ID + "/events":  eventsBody,
		"/api/v1/log-levels":                       levelsBody,
		"/healthz":                                 "{\n  \"status\": \"ok\"\n}\n",
		"/readyz":                                  "{\n  \"status\": \"ready\",\n  \"upstreamsNotUp\": [\n    \"down\"\n  ]\n}\n",
		"/api/v1/sessions/none":                    "{\n  \"error\": \"session not found\"\n}\n",
		"/api/v1/sessions/" + full.ID + "/nothing": "{\n  \"error\": \"there is nothing at this path of the API\"\n}\n",
	} {
		if p := r.do(http.MethodGet, path); p.body != want {
			t.Errorf("%s is\n%swant\n%s", path, p.body, want)
		}
	}
	r.setReady(errors.New("sessions are being restored"))
	if p := r.do(http.MethodGet, "/readyz"); p.body != "{\n  \"reason\": \"sessions are being restored\",\n  \"status\": \"not ready\"\n}\n" {
		t.Errorf("not ready is\n%s", p.body)
	}
}

func TestBodyOfAServerIsExactlyAsDocumented(t *testing.T) {
	r := start(t)
	body := func() string {
		down := r.pool.Server("down").Status()
		cause, _ := json.Marshal(down.Error)
		return fmt.Sprintf(`{
  "name": "down",
  "transport": "stdio",
  "isolation": "shared",
  "state": "down",
  "since": %q,
  "error": %s,
  "nextAttempt": %q,
  "connections": 0,
  "tools": 0,
  "prompts": 0,
  "resources": 0,
  "resourceTemplates": 0,
  "warnings": []
}
`, down.Since.Format(time.RFC3339Nano), cause, down.NextAttempt.Format(time.RFC3339Nano))
	}
	got, want := "", ""
	for want != body() { // again if the hub has tried to start the server meanwhile
		want = body()
		got = r.do(http.MethodGet, "/api/v1/upstreams/down").body
	}
	if got != want {
		t.Errorf("the server is\n%swant\n%s", got, want)
	}
	if p := r.do(http.MethodGet, "/api/v1/upstreams"); !strings.HasPrefix(
		p.body,
		"{\n  \"count\": 2,\n  \"upstreams\": [\n    {\n      \"name\": \"up\",\n",
	) {
		t.Errorf("the list is\n%s", p.body)
	}
}
