package gateway

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// sendRaw sends raw bytes to a guarded handler and returns the status.
func sendRaw(t *testing.T, address, raw string) int {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

func TestGuardAcceptsOnlyRequestsMeantForThisHub(t *testing.T) {
	reached := 0
	server := httptest.NewServer(Guard{Hosts: []string{"Hub.Example.org", "[fd00::1]", "fd00::2"}, Pages: []string{"/"},
		Origins: []string{"https://App.example.org/", "http://app.example.org:8080", "https://other.example.org:443"},
	}.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })))
	defer server.Close()
	address := server.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	head := func(lines ...string) string {
		return "GET / HTTP/1.1\r\nConnection: close\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	for _, c := range []struct {
		name, raw string
		status    int
	}{
		{"its address", head("Host: " + address), 200},
		{"another port", head("Host: 127.0.0.1:1"), 200},
		{"no port", head("Host: 127.0.0.1"), 200},
		{"another loopback address", head("Host: 127.9.9.9"), 200},
		{"localhost", head("Host: localhost:" + port), 200},
		{"localhost in capitals", head("Host: LOCALHOST"), 200},
		{"localhost with a dot", head("Host: localhost.:" + port), 200},
		{"IPv6 loopback", head("Host: [::1]:" + port), 200},
		{"IPv6 loopback in full", head("Host: [0:0:0:0:0:0:0:1]"), 200},
		{"a configured host", head("Host: hub.example.ORG:" + port), 200},
		{"a configured IPv6 address", head("Host: [fd00::1]:" + port), 200},
		{"another configured IPv6 address", head("Host: [FD00::2]"), 200},
		{"HTTP/1.0 with a host", "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 200},
		{"an absolute URI", "GET http://localhost/ HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n", 200},

		{"a foreign host", head("Host: evil.example"), 403},
		{"a foreign host with its port", head("Host: evil.example:" + port), 403},
		{"a name that begins well", head("Host: localhost.evil.example"), 403},
		{"a name that ends well", head("Host: evil-localhost"), 403},
		{"an address as a name", head("Host: 127.0.0.1.evil.example"), 403},
		{"an address with a login", head("Host: 127.0.0.1@evil.example"), 400},
		{"localhost with two dots", head("Host: localhost.."), 403},
		{"every address", head("Host: 0.0.0.0:" + port), 403},
		{"every IPv6 address", head("Host: [::]"), 403},
		{"a foreign address", head("Host: 192.0.2.1"), 403},
		{"a short address", head("Host: 127.1"), 403},
		{"a number", head("Host: 2130706433"), 403},
		{"a configured host's child", head("Host: x.hub.example.org"), 403},
		{"an empty host", head("Host: "), 403},
		{"a port only", head("Host: :" + port), 403},
		{"HTTP/1.0 without host", "GET / HTTP/1.0\r\n\r\n", 403},
		{"a foreign absolute URI", "GET http://evil.example/ HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n", 403},
		{"no host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400},
		{"two hosts", head("Host: localhost", "Host: evil.example"), 400},

		{"the same origin", head("Host: "+address, "Origin: http://"+address), 200},
		{"the same origin in capitals", head("Host: localhost:"+port, "Origin: HTTP://LocalHost:"+port), 200},
		{"a configured origin", head("Host: localhost", "Origin: https://app.example.org"), 200},
		{"a configured origin with a port", head("Host: localhost", "Origin: http://app.example.org:8080"), 200},
		{"a configured origin with the usual port", head("Host: localhost", "Origin: https://other.example.org"), 200},
		{"a foreign origin", head("Host: localhost", "Origin: http://evil.example"), 403},
		{"no origin in particular", head("Host: localhost", "Origin: null"), 403},
		{"an empty origin", head("Host: localhost", "Origin: "), 403},
		{"another port of loopback", head("Host: "+address, "Origin: http://127.0.0.1:1"), 403},
		{"another name of loopback", head("Host: "+address, "Origin: http://localhost:"+port), 403},
		{"another scheme", head("Host: "+address, "Origin: https://"+address), 403},
		{"a configured origin's other scheme", head("Host: localhost", "Origin: http://app.example.org"), 403},
		{"a configured origin's other port", head("Host: localhost", "Origin: https://app.example.org:8443"), 403},
		{"two origins", head("Host: localhost", "Origin: http://localhost", "Origin: http://evil.example"), 403},
		{"two origins, one of them configured", head("Host: localhost", "Origin: https://app.example.org",
			"Origin: http://evil.example"), 403},
		{"two origins in one", head("Host: localhost", "Origin: http://localhost, http://evil.example"), 403},

		{"an address that a person typed", head("Host: localhost", "Sec-Fetch-Site: none"), 200},
		{"a page of the hub", head("Host: localhost", "Sec-Fetch-Site: same-origin"), 200},
		{"a picture in a foreign page", head("Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors",
			"Sec-Fetch-Dest: image"), 403},
		{"a picture in a page of another port", head("Host: localhost", "Sec-Fetch-Site: same-site", "Sec-Fetch-Dest: image"), 403},
		{"a configured origin of another site", head("Host: localhost", "Sec-Fetch-Site: cross-site",
			"Origin: https://app.example.org"), 200},
		{"the same origin, which the browser denies", head("Host: localhost", "Sec-Fetch-Site: cross-site",
			"Origin: http://localhost"), 403},
		{"two sites", head("Host: localhost", "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"), 403},
		{"a site that we do not know", head("Host: localhost", "Sec-Fetch-Site: near-site"), 403},
		{"a link to the page", head("Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate",
			"Sec-Fetch-Dest: document"), 200},
		{"the page in a frame", head("Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate",
			"Sec-Fetch-Dest: iframe"), 403},
		{"a link to something else", strings.Replace(head("Host: localhost", "Sec-Fetch-Site: cross-site",
			"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"), "GET /", "GET /debug/pprof/profile", 1), 403},
		{"a form that is sent to the page", strings.Replace(head("Host: localhost", "Sec-Fetch-Site: cross-site",
			"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Content-Length: 0"), "GET /", "POST /", 1), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := reached
			if got := sendRaw(t, address, c.raw); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			if (reached > before) != (c.status == 200) {
				t.Errorf("the handler was called %d times", reached-before)
			}
		})
	}
}

func TestGuardNamesTheKeyToChange(t *testing.T) {
	r := start(t, setup{})
	if p := r.send(http.MethodPost, initializeBody, "Host: evil.example"); p.status != 403 || !strings.Contains(p.body, "allowedHosts") {
		t.Errorf("answered %d %s", p.status, p.body)
	}
	if p := r.send(http.MethodPost, initializeBody, "Origin: http://evil.example"); p.status != 403 ||
		!strings.Contains(p.body, "allowedOrigins") {
		t.Errorf("answered %d %s", p.status, p.body)
	}
	if keys := r.stored(); len(keys) > 0 {
		t.Errorf("the store holds %q", keys)
	}
}

func TestGuardLogsAndCountsWhatItRefusesWithTheKeyToChange(t *testing.T) {
	logs, registry := &hubtest.Buffer{}, prometheus.NewPedanticRegistry()
	for _, listener := range []string{"mcp", "admin"} { // two guards share one metric
		g := Guard{Listener: listener, OriginsKey: "admin.allowedOrigins", Registerer: registry,
			Logger: slog.New(slog.NewJSONHandler(logs, nil))}
		server := httptest.NewServer(g.Handler(http.NotFoundHandler()))
		t.Cleanup(server.Close)
		for _, lines := range []string{"Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example",
			"Host: localhost\r\nSec-Fetch-Site: cross-site"} {
			sendRaw(t, server.Listener.Addr().String(), "GET / HTTP/1.1\r\nConnection: close\r\n"+lines+"\r\n\r\n")
		}
	}
	for _, want := range []string{`"key":"allowedHosts","host":"evil.example"`,
		`"key":"admin.allowedOrigins","host":"localhost","origin":"http://evil.example"`,
		`"reason":"site","key":"admin.allowedOrigins","host":"localhost","origin":"","site":"cross-site"`} {
		if n := strings.Count(logs.String(), want); n != 2 {
			t.Errorf("the log says %d times %s:\n%s", n, want, logs)
		}
	}
	if n := strings.Count(logs.String(), `"level":"WARN"`); n != 6 { // the log limits warnings, not other records
		t.Errorf("%d warnings", n)
	}
	for _, listener := range []string{"mcp", "admin"} {
		for _, reason := range []string{"host", "origin", "site"} {
			name := `mcphub_http_requests_refused_total{listener="` + listener + `",reason="` + reason + `"}`
			if got := gathered(t, registry, "mcphub_http_requests_refused_total", listener, reason); got != 1 {
				t.Errorf("%s is %v", name, got)
			}
		}
	}
}

// gathered returns the value of the counter with these label values, in the order of their names; -1 if there is none.
func gathered(t *testing.T, registry *prometheus.Registry, name string, values ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			if family.GetName() == name && slices.Equal(got, values) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}
