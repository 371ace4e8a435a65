// Package canary proves that secrets of clients and servers do not leak. Clients
// and servers send secrets, called canaries, wherever the protocol has a place for
// them. The tests then search everything that the hub writes and shows: logs,
// traces, metrics, the admin API, the page, commands and files.
package canary

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// exposure is a value that the hub shows on purpose: in which sinks, and why.
type exposure struct {
	path  string
	sinks []string
	why   string
}

// exposures returns all exposures. The search must find each of them in its sinks,
// which proves that it would find a leak.
func exposures() []exposure {
	return []exposure{
		{"client-name", []string{"log", "OTLP logs", "api", "page", "commands", "files", "events"}, "who the client is"},
		{"client-version", []string{"log", "OTLP logs", "api", "page", "commands", "files"}, "who the client is"},
		{"modern-client-name", []string{"log", "OTLP logs", "api", "page", "commands", "events"},
			"who the client is; a derived session is not stored"},
		{"user-agent", []string{"api", "commands", "files"}, "who the client is"},
		{"capabilities", []string{"api", "commands", "files"}, "what the client can do; needed after a restart"},
		{"roots", []string{"api", "commands", "files"}, "the first root is where the client works, as the session list says"},
		{"cwd", []string{"api", "commands"}, "where a modern client works; it has no roots that are asked for"},
		{"project", []string{"api", "commands"}, "where a modern client works"},
		{"listed-userinfo", []string{"files"}, "the URI of a subscription; needed after a restart"},
		{"listed-query", []string{"files"}, "the URI of a subscription"},
		{"listed-fragment", []string{"files"}, "the URI of a subscription"},
		{"upstream-session", []string{"files"}, "the session of a server; needed after a restart to go on with it"},
		{"server-info", []string{"api"}, "what the server is called"},
		{"initialize-error", []string{"log", "OTLP logs", "api", "page"},
			"why a server does not let the hub in; nothing of a client is in there"},
		{"sse-foreign-host", []string{"log", "OTLP logs", "OTLP traces", "api", "page"},
			"the host that a server sends the hub to, and the hub does not go"},
		{"origin", []string{"log", "OTLP logs"}, "the origin of a page that was refused, for who has to correct the configuration"},
		{"twice", []string{"log", "OTLP logs", "api", "page"}, "the name of a member of a tool, for who has to mend the server"},
		{"args-of-sh", []string{"log", "OTLP logs", "api", "page"}, "a server printed its argument, which is no place for secrets"},
		{"not-json", []string{"log", "OTLP logs"}, "the first bytes of what no call can be told for, for who has to mend the server"},
		{"bad-member", []string{"log", "OTLP logs"}, "the first bytes of a text that is no message"},
		{"bad-key", []string{"log", "OTLP logs"}, "the first bytes of a text that is no message"},
		{"request-id", []string{"OTLP traces"}, "jsonrpc.request.id, which the semantic conventions ask for"},
		{"modern-request-id", []string{"OTLP traces"}, "jsonrpc.request.id"},
		{"cancelled-id", []string{"OTLP traces"}, "jsonrpc.request.id"},
		{"tracestate-header", []string{"OTLP traces"}, "part of a span's context, meant for tracing systems"},
		{"tracestate-meta", []string{"OTLP traces"}, "part of a span's context"},
		{"tracestate-modern", []string{"OTLP traces"}, "part of a span's context"},
	}
}

// The canaries that have to get through the hub to the other end.
const (
	forServers = `
		answer-error answer-error-data baggage-tenant-header baggage-tenant-meta broken-fragment broken-query
		broken-userinfo capabilities client-name client-version completion-argument elicitation-answer
		elicitation-url-answer header header-variable listed-fragment listed-query listed-userinfo modern-arguments
		modern-client-name modern-client-title modern-meta modern-prompt-arguments prompt-arguments request-meta
		roots sampling-answer server-cursor server-state sse-endpoint tool-arguments tracestate-header
		tracestate-meta tracestate-modern unknown-notification unknown-notification-params upstream-session
		url-query`
	forChild   = "args env tool-arguments modern-arguments roots baggage-tenant-meta"
	forClients = `
		completion-value elicitation-id elicitation-question elicitation-url error-data error-message instructions
		is-error listed-fragment listed-query listed-userinfo log-data log-level log-logger modern-request-id
		modern-unknown-method progress progress-token prompt-result request-id resource-contents result-meta
		sampling-question server-notification server-notification-params server-question server-question-params
		structured tool-result unknown-method unknown-prompt unknown-ref unknown-tool version-header`
)

// traffic keeps what servers and clients send and receive.
type traffic struct {
	toServers, fromServers hubtest.Buffer
	toClients, fromClients hubtest.Buffer
}

// startLeaky runs a hub with leaky and faulty servers that exports all telemetry.
// The child process writes what it receives to file.
func startLeaky(t *testing.T, c *hubtest.Collector, all *traffic, file string) (hub *hubtest.Hub, config string) {
	t.Helper()
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp",
		"OTEL_EXPORTER_OTLP_HEADERS": "x-token=" + canary("otlp-header"), "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100",
		"OTEL_BSP_MAX_QUEUE_SIZE": "65536", "OTEL_BLRP_MAX_QUEUE_SIZE": "65536", "OTEL_METRIC_EXPORT_INTERVAL": "500",
		"SECRET_OF_THE_HUB": canary("hub-env"), "CHILD_TOKEN": canary("env"), "HTTP_TOKEN": canary("header-variable"),
	} {
		t.Setenv(name, value)
		fmt.Fprintln(&all.fromServers, value)
	}
	url := func(handler http.Handler) string { return hubtest.Serve(t, handler) }
	broken := url(faulty(&all.toServers, &all.fromServers))
	text := "tracing: {baggage: [tenant]}\nsessions: {flushInterval: 100ms}\nmcpServers:\n" +
		fmt.Sprintf("  child: {command: %q, args: [--token, %q], env: {TOKEN: \"${CHILD_TOKEN}\", GORACE: atexit_sleep_ms=0, %s: %q}}\n",
			os.Args[0], canary("args"), childVariable, file)
	for name, address := range map[string]string{
		"legacy": url(newLeaky(false, &all.toServers, &all.fromServers)), "modern": url(newLeaky(true, &all.toServers, &all.fromServers)),
		"dead":    "http://" + hubtest.FreeAddress(t),
		"refuses": broken + "/refuses", "status": broken + "/status", "header": broken + "/header", "garbled": broken + "/garbled",
		"moved": broken + "/moved", "prose": broken + "/prose", "chatty": broken + "/chatty",
		"sse-foreign": broken + "/sse-foreign", "sse-broken": broken + "/sse-broken",
	} {
		kind := map[bool]string{true: ", type: sse"}[strings.HasPrefix(name, "sse-")]
		text += fmt.Sprintf("  %s: {url: \"%s?token=%s\", headers: {Authorization: \"Bearer ${HTTP_TOKEN}\","+
			" X-Api-Key: %s}%s}\n", name, address, canary("url-query"), canary("header"), kind)
	}
	text += fmt.Sprintf("  ends: {command: sh, args: [-c, \"echo $0 $TOKEN >&2\", %s], env: {TOKEN: %s}}\n",
		canary("args-of-sh"), canary("env-of-sh"))
	text += fmt.Sprintf("  missing: {command: /none/there, args: [%s], env: {TOKEN: %s}}\n",
		canary("args-of-missing"), canary("env-of-missing"))
	config = filepath.Join(t.TempDir(), "mcphub.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&all.fromServers, text)
	return hubtest.StartHub(t, hubtest.Options{Config: text, LogLevel: "trace"}), config
}

func TestNoSecretOfClientsAndServersIsFoundInTelemetryTheAPIOrFiles(t *testing.T) {
	all := &traffic{}
	file := filepath.Join(t.TempDir(), "child")
	c := hubtest.StartCollector(t)
	hub, config := startLeaky(t, c, all, file)
	events := &hubtest.Buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	follow(ctx, t, hub, events)
	for _, name := range []string{"child", "legacy", "modern"} {
		hubtest.Eventually(t, name+" is up", func() bool { return hub.Metric(`mcphub_backend_up{mcphub_backend="`+name+`"}`) == "1" })
	}

	stays, ends := startTrusting(t, hub.URL(), all), startTrusting(t, hub.URL(), all)
	stays.listen(ctx)
	modern := &trusting{t: t, url: hub.URL(), received: &all.toClients, sent: &all.fromClients}
	for _, server := range []string{"child", "legacy", "modern"} {
		stays.legacyToServer(server)
		modern.modernToServer(server)
	}
	stays.legacyToHub()
	modern.modernToHub()
	ends.ask("resources/subscribe", `"uri":"`+secretURI("listed")+`"`)
	ends.send(ctx, http.MethodDelete, "", nil).Body.Close()

	s := sinks{}
	hubtest.Eventually(t, "the session is stored", func() bool {
		files := sinks{}
		files.files(t, hub.DataDir)
		return strings.Contains(files["files"], canary("listed-userinfo"))
	})
	s.run(t, "config", "check", "--config", config)
	s.run(t, "config", "check", "--config", wrongConfig(t, &all.fromServers))
	s.admin(t, hub, []string{hubtest.SessionID(stays.token), hubtest.SessionID(ends.token)})
	cancel()
	if status := hub.Terminate(30 * time.Second); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if !strings.Contains(hub.Log.String(), "Unsolicited response") {
		t.Error("no server has sent an unsolicited response")
	}
	s["log"], s["events"] = hub.Log.String(), events.String()
	s["OTLP traces"], s["OTLP logs"], s["OTLP metrics"] = c.Traces.String(), c.Logs.String(), c.Metrics.String()
	s.files(t, hub.DataDir)

	s.check(t)
	_, verifier, _ := strings.Cut(stays.token, ".")
	for name, text := range s {
		if strings.Contains(text, verifier) {
			t.Errorf("%s: the verifier of a session is there", name)
		}
	}
	child, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	everythingWasSent(t, all.fromClients.String()+all.fromServers.String()+all.toClients.String()+c.Headers.String())
	for _, way := range []struct {
		to, text, paths string
	}{
		{"servers", all.toServers.String() + string(child), forServers},
		{"the child", string(child), forChild},
		{"clients", all.toClients.String(), forClients},
	} {
		found := canaries(way.text)
		for path := range strings.FieldsSeq(way.paths) {
			if !found[path] {
				t.Errorf("%s did not reach %s", path, way.to)
			}
		}
	}
}

// controls returns a word for each sink that must be in it, which proves that the
// sink was read.
func controls() map[string]string {
	call := "tools/call"
	return map[string]string{
		"log": `"msg":"session created"`, "events": "initialised", "OTLP traces": "tools/call legacy__everything", "OTLP logs": "session created",
		"OTLP metrics": "mcp_server_operation_duration_seconds", "metrics": `gen_ai_tool_name="legacy__everything"`,
		"openmetrics": `# {span_id="`, "protobuf metrics": call,
		"page": "legacy", "api": `"name": "legacy"`, "health": "upstreamsNotUp",
		"pprof": "goroutine profile: total", "commands": ": ok, 15 servers", "files": "tokenHash",
	}
}

// check checks that the sinks contain the controls and the exposures and no other
// canary.
func (s sinks) check(t *testing.T) {
	t.Helper()
	for name, word := range controls() {
		if !strings.Contains(s[name], word) {
			t.Errorf("%s: %q is not there, so it is not read\n%.400q", name, word, s[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		found := canaries(s[name])
		if controls()[name] == "" {
			t.Errorf("%s: has no control", name)
		}
		for _, row := range exposures() {
			if slices.Contains(row.sinks, name) != found[row.path] {
				t.Errorf("%s: %s is there: %t; the table says otherwise", name, row.path, found[row.path])
			}
			delete(found, row.path)
		}
		for _, path := range slices.Sorted(maps.Keys(found)) {
			at := strings.Index(s[name], canary(path))
			t.Errorf("%s: %s leaks: %q", name, path, s[name][max(0, at-150):min(len(s[name]), at+100)])
		}
	}
}

// follow reads the stream of events of all sessions.
func follow(ctx context.Context, t *testing.T, hub *hubtest.Hub, to *hubtest.Buffer) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, hub.AdminURL()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			fmt.Fprintln(to, lines.Text())
		}
	}()
}

// everythingWasSent checks that each canary that the tests name was sent: one that
// was not sent cannot leak.
func everythingWasSent(t *testing.T, sent string) {
	t.Helper()
	found := canaries(sent)
	files, err := filepath.Glob("*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`canary\("([a-z-]+)"\)`).FindAllStringSubmatch(string(text), -1) {
			if !found[name[1]] {
				t.Errorf("%s: %s was never sent", file, name[1])
			}
		}
	}
}
