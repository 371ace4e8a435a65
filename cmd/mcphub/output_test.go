package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// cannedHub answers as the admin listener of a hub of a newer version, which
// has members that this one does not know.
func cannedHub(t *testing.T) *httptest.Server {
	t.Helper()
	const full = `{"sessionId":"s1","kind":"protocol","state":"ready","clientName":"a\u003cb","clientVersion":"1",` +
		`"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"cwd":"/w","project":"p","userAgent":"agent","ip":"127.0.0.1",` +
		`"createdAt":1000,"lastAccessedAt":2000,"inFlight":1,"requests":2,"dirty":true,"logLevel":"info",` +
		`"subscriptions":["a://b"],"upstreams":["a","z"],"metadata":{"k":1},"newer":[1]}`
	const event1 = `{"seq":1,"time":"2026-01-02T03:04:05.678901234Z","sessionId":"s1","type":"created","detail":"a\u003cb\u001b"}`
	const event2 = `{"seq":2,"time":"2026-01-02T03:04:06+02:00","sessionId":"s1","type":"ended"}`
	const request = `{"seq":1,"time":"2026-01-02T03:04:05.678Z","sessionId":"s1","hop":"downstream","direction":"in","kind":"request",` +
		`"method":"tools/call","target":"echo","id":1,"size":20,"newer":1}`
	const failure = `{"seq":3,"time":"2026-01-02T03:04:05.7Z","sessionId":"s1","hop":"backend","server":"demo","direction":"in",` +
		`"kind":"response",` +
		`"method":"tools/call","target":"echo","id":"x","size":9,"duration":0.0123,"outcome":"tool_error","fault":"tool","traceId":"0af7",` +
		`"payload":{"text":"\u003cb"},"payloadCut":true}`
	const levels = `{"levels":[{"subsystem":"default","level":"info","own":true},{"subsystem":"session","level":"info","own":false},` +
		`{"subsystem":"x","level":"debug","own":true,"until":"2020-01-01T00:00:01Z","then":"default"}]}`
	mux := http.NewServeMux()
	for pattern, body := range map[string]string{
		"GET /api/v1/sessions/s1":        full,
		"GET /api/v1/sessions/s1/events": `{"events":[` + event1 + `,` + event2 + `],"count":2}`,
		"GET /api/v1/log-levels":         levels,
		"PUT /api/v1/log-levels":         levels,
		"GET /api/v1/events": ": session " +
			"events\n\nid: 1\nevent: created\ndata: " + event1 + "\n\nevent: lost\ndata: {\"count\":3}\n\n",
		"GET /api/v1/sessions/s1/messages": ": session messages\n\nid: 1\nevent: message\ndata: " + request + "\n\n: keep-alive\n\n" +
			"event: lost\ndata: " +
			"{\"count\":1}\n\nid: 3\nevent: message\ndata: " + failure + "\n\nevent: end\ndata: {\"reason\":\"idle_timeout\"}\n\n",
		"GET /api/v1/sessions/s2/messages": ": session messages\n\nevent: end\ndata: {\"reason\":\"shutdown\"}\n\n",
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
	}
	mux.HandleFunc("GET /api/v1/sessions", func(w http.ResponseWriter, r *http.Request) { // two pages
		if r.URL.Query().Get("after") == "" {
			fmt.Fprintf(w, `{"sessions":[%s],"count":2,"restoring":0,"next":"s1"}`, full)
			return
		}
		_, _ = w.Write([]byte(`{"sessions":[{"sessionId":"s2"}],"count":2,"restoring":4}`))
	})
	mux.HandleFunc("DELETE /api/v1/sessions/s1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":"session not found"}`))
	})
	hub := httptest.NewServer(mux)
	t.Cleanup(hub.Close)
	return hub
}

// moment matches durations until now and the headings of their columns, whose width follows them.
var moment = regexp.MustCompile(`-?[0-9]{5,}h[0-9]+m[0-9]+s( ago)? *|(AGE|IDLE|FOR) +|(own|-) +\n`)

// Scripts read what the commands print.
func TestOutputOfTheCommandsIsExactlyAsBefore(t *testing.T) {
	hub := cannedHub(t)
	local := func(format, text string) string {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at.Local().Format(format)
	}
	const date, clock = "2006-01-02 15:04:05.000", "15:04:05.000"
	created, ended := local(date, "2026-01-02T03:04:05.678Z"), local(date, "2026-01-02T03:04:06+02:00")
	called, failed := local(clock, "2026-01-02T03:04:05.678Z"), local(clock, "2026-01-02T03:04:05.7Z")
	const full = `{
      "sessionId": "s1",
      "kind": "protocol",
      "state": "ready",
      "clientName": "a\u003cb",
      "clientVersion": "1",
      "protocolVersion": "2025-11-25",
      "capabilities": {
        "roots": {}
      },
      "cwd": "/w",
      "project": "p",
      "userAgent": "agent",
      "ip": "127.0.0.1",
      "createdAt": 1000,
      "lastAccessedAt": 2000,
      "inFlight": 1,
      "requests": 2,
      "dirty": true,
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
      },
      "newer": [
        1
      ]
    }`
	for _, test := range []struct {
		args   string
		status int
		out    string
	}{
		{"sessions list", 0, `SESSION  KIND      CLIENT  PROTOCOL    STATE  ~~EXPIRES IN  IN FLIGHT  REQUESTS
s1       protocol  a<b 1   2025-11-25  ready  ~~never       1          2
s2       protocol                             ~~never       0          0
4 more are being restored
`},
		{"sessions list --json", 0, "{\n  \"count\": 2,\n  \"restoring\": 4,\n  \"sessions\": [\n    " +
			full + ",\n    {\n      \"sessionId\": \"s2\"\n    }\n  ]\n}\n"},
		{"sessions list --json --client nobody", 0, "{\n  \"count\": 0,\n  \"restoring\": 4,\n  \"sessions\": []\n}\n"},
		{"sessions show s1.secret", 0, `session        s1
kind           protocol
state          ready
client         a<b 1
protocol       2025-11-25
user agent     agent
address        127.0.0.1
cwd            /w
project        p
created        ` + time.UnixMilli(1000).Format(time.RFC3339) + ` (~)
last activity  ` + time.UnixMilli(2000).Format(time.RFC3339) + ` (~)
expires in     never
in flight      1
requests       2
dirty          true
log level      info
subscriptions  a://b
servers        a, z
metadata.k     1
`},
		{"sessions show s1 --json", 0, strings.ReplaceAll(full, "\n    ", "\n") + "\n"},
		{"sessions show none", 1, ""},
		{"sessions kill --yes s1.secret none", 1, "s1  ended\nnone  session not found\n"},
		{"sessions kill --yes --json s1 none", 1, `{"ended":true,"sessionId":"s1"}` + "\n" + `{"ended":false,"error":"session ` +
			`not found","sessionId":"none"}` + "\n"},
		{"sessions events s1", 0, created + "  s1  created                a<b\\u001b\n" + ended + "  s1  ended                  \n"},
		{"sessions events s1 --json", 0, `{"seq":1,"time":"2026-01-02T03:04:05.678901234Z","sessionId":"s1",` +
			`"type":"created","detail":"a\u003cb\u001b"}
{"seq":2,"time":"2026-01-02T03:04:06+02:00","sessionId":"s1","type":"ended"}
`},
		{"sessions events --follow", 1, created + "  s1  created                a<b\\u001b\n"},
		{"sessions events --follow --json", 1, `{"seq":1,"time":"2026-01-02T03:04:05.678901234Z","sessionId":"s1","type":"created",` +
			`"detail":"a\u003cb\u001b"}` + "\n"},
		{"sessions tail s1", 0, `TIME          HOP                    DIR  KIND          METHOD                         ` +
			` ID            BYTES       TOOK  OUTCOME               TRACE
` + called + `  downstream             in   request       tools/call echo                 1                20
1 messages were lost: they came faster than they could be shown
` + failed + `  backend demo           in   response      tools/call echo                 "x"               9    ` +
			` 12.3ms  tool_error (tool)     0af7
    {"text":"\u003cb"}  [cut]
the session has ended: idle_timeout
`},
		{"sessions tail s2", 0, `TIME          HOP                    DIR  KIND          METHOD                         ` +
			` ID            BYTES       TOOK  OUTCOME               TRACE
the hub stops; the session may go on after its restart
`},
		{"sessions tail s1 --json", 0, `{"seq":1,"time":"2026-01-02T03:04:05.678Z","sessionId":"s1","hop":"downstream",` +
			`"direction":"in","kind":"request",` +
			`"method":"tools/call","target":"echo","id":1,"size":20,"newer":1}
{"event":"lost","count":1}
{"seq":3,"time":"2026-01-02T03:04:05.7Z","sessionId":"s1","hop":"backend","server":"demo","direction":"in","kind":"response",` +
			`"method":"tools/call","target":"echo","id":"x","size":9,"duration":0.0123,"outcome":"tool_error","fault":"tool","traceId":"0af7",` +
			`"payload":{"text":"\u003cb"},"payloadCut":true}
{"event":"end","reason":"idle_timeout"}
`},
		{"log-level", 0, "SUBSYSTEM  LEVEL  OWN  ~THEN\ndefault    info   ~session    info   ~" +
			"x          debug  own  ~default\n"},
		{"log-level x=debug --for 10m --json", 0, `{
  "levels": [
    {
      "subsystem": "default",
      "level": "info",
      "own": true
    },
    {
      "subsystem": "session",
      "level": "info",
      "own": false
    },
    {
      "subsystem": "x",
      "level": "debug",
      "own": true,
      "until": "2020-01-01T00:00:01Z",
      "then": "default"
    }
  ]
}
`},
	} {
		status, out, errs := mcphub(t, "", append(strings.Fields(test.args), "--admin", hub.URL)...)
		if out = moment.ReplaceAllString(out, "~"); status != test.status || out != test.out {
			t.Errorf("%s: %d %s\n%s\nwant\n%s", test.args, status, errs, out, test.out)
		}
	}
}
