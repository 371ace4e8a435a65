package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustParse(t testing.TB, text string) Config {
	t.Helper()
	c, err := Parse("f", []byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWithoutContentTheDefaultsHold(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "{}", "\ufeff", "mcpServers:\nlog:\nallowedHosts:\n", "null\n"} {
		if c := mustParse(t, text); !reflect.DeepEqual(c, Default()) {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	want := Config{
		Listen:   "127.0.0.1:7788",
		Admin:    Admin{"127.0.0.1:7789", nil, false},
		DataDir:  "~/.mcp-hub-lite",
		Log:      Log{"info", nil, "auto"},
		Tracing:  Tracing{"remote", nil},
		Metrics:  Metrics{"on", 200},
		Sessions: Sessions{30 * time.Minute, time.Minute, 5 * time.Second, 100 * time.Millisecond, Unlimited, 100_000, 0, "refuse"},
		Limits:   Limits{0, 4 << 20, 64 << 20, 256, 1000, 10 * time.Second},
		Streams:  Streams{100 * time.Millisecond, 1024, 1 << 20, 5 * time.Minute},
		InheritEnv: []string{
			"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
			"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
			"npm_config_*", "NPM_CONFIG_*", "UV_*", "XDG_*", "DOCKER_HOST",
		},
		Naming: "prefix",
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	s := mustParse(t, "mcpServers: {a: {command: x}, b: {url: 'http://h/'}}").Servers
	if s[0].Isolation != "shared" || s[1].Isolation != "session" || s[0].ConnectTimeout != 30*time.Second ||
		s[1].CallTimeout != 15*time.Minute {
		t.Errorf("%+v", s)
	}
}

const everything = `
listen: ":80"
admin: {listen: "[::1]:81", allowedOrigins: ["https://ops.x.org"], payloads: true}
dataDir: /var/lib/mcphub
log: {level: trace, levels: {gateway: warn}, format: json}
tracing: {parent: link, baggage: [tenant]}
metrics: {toolLabel: off, maxToolLabels: 7}
sessions: {idleTimeout: 1h30m, cleanupInterval: 2s, flushInterval: 1s, touchThrottle: 1ms, maxLifetime: 0,` +
	` maxSessions: 5, maxSessionsPerClient: 2, atLimit: evict}
limits: {memory: 1GiB, maxRequestBytes: 1GiB, maxMessageBytes: 512KiB, maxInFlight: 1, shutdownTimeout: 1m}
streams: {patience: 50ms, resumeEvents: 10, resumeBytes: 64KiB, resumeWindow: 1m}
allowedHosts: [hub.example.org, "[::1]", 10.0.0.1]
allowedOrigins: ["https://x.org", "http://localhost:3000", "vscode-webview://abc"]
inheritEnv: [HTTP_PROXY, "UV_*"]
naming: conflict
mcpServers:
  zeta:
    command: npx
    args: [-y, thing, "${TOKEN}", "${YAML}", "${REFERENCE}"]
    env: {TOKEN: "${TOKEN}", EMPTY: "", PRICE: "5$$ or $5", FALLBACK: "${NOPE:-a:b}", UNSET: "${EMPTY:-x}", VOID: "${EMPTY}"}
    inheritEnv: []
    cwd: /tmp
    isolation: session
    connectTimeout: 1s
    startTimeout: 3m
    callTimeout: 2s
    refreshInterval: 0
    onInvalidTool: drop
    disabled: true
    type: stdio
  alpha:
    url: http://${HOST}:9000/mcp?a=b
    headers: {Authorization: "Bearer ${TOKEN}"}
    isolation: shared
    disabled: "${TRUE}"
    type: streamable-http
`

func TestEveryKeyIsRead(t *testing.T) {
	yaml, _ := environment("YAML")
	want := Config{
		Listen:         ":80",
		Admin:          Admin{"[::1]:81", []string{"https://ops.x.org"}, true},
		DataDir:        "/var/lib/mcphub",
		Log:            Log{"trace", map[string]string{"gateway": "warn"}, "json"},
		Tracing:        Tracing{"link", []string{"tenant"}},
		Metrics:        Metrics{"off", 7},
		Sessions:       Sessions{90 * time.Minute, 2 * time.Second, time.Second, time.Millisecond, Unlimited, 5, 2, "evict"},
		Limits:         Limits{1 << 30, 1 << 30, 512 << 10, 1, 1000, time.Minute},
		Streams:        Streams{50 * time.Millisecond, 10, 64 << 10, time.Minute},
		AllowedHosts:   []string{"hub.example.org", "[::1]", "10.0.0.1"},
		AllowedOrigins: []string{"https://x.org", "http://localhost:3000", "vscode-webview://abc"},
		InheritEnv:     []string{"HTTP_PROXY", "UV_*"},
		Naming:         "conflict",
		Servers: []Server{
			{
				Name: "zeta", Command: "npx", Args: []string{"-y", "thing", "canary-token", yaml, "${TOKEN} $$"},
				Env:        map[string]Secret{"TOKEN": "canary-token", "EMPTY": "", "PRICE": "5$ or $5", "FALLBACK": "a:b", "UNSET": "x", "VOID": ""},
				InheritEnv: []string{}, Cwd: "/tmp", Era: "auto", Bridge: "principal", Isolation: "session", ConnectTimeout: time.Second,
				StartTimeout: 3 * time.Minute, CallTimeout: 2 * time.Second, RefreshInterval: Unlimited, OnInvalidTool: "drop",
				Disabled: true, Type: "stdio",
			},
			{
				Name: "alpha", URL: "http://127.0.0.1:9000/mcp?a=b", Headers: map[string]Secret{"Authorization": "Bearer canary-token"},
				Era: "auto", Bridge: "principal", Isolation: "shared", ConnectTimeout: 30 * time.Second, CallTimeout: 15 * time.Minute,
				OnInvalidTool: "pass", Disabled: true, Type: "streamable-http",
			},
		},
	}
	if got := mustParse(t, everything); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestEachTypeOfAnEndpointIsRead(t *testing.T) {
	for _, kind := range []string{"http", "streamable-http", "sse"} {
		got := mustParse(t, "mcpServers: {a: {url: 'http://h/', type: '"+kind+"'}}")
		if len(got.Servers) != 1 || got.Servers[0].Type != kind {
			t.Errorf("%q is read as %+v", kind, got.Servers)
		}
	}
}

func TestVariableCannotChangeTheStructure(t *testing.T) {
	for _, text := range []string{"dataDir: ${YAML}", "dataDir: '${YAML}'", "dataDir: >-\n  ${YAML}\n", `{"dataDir":"${YAML}"}`} {
		yaml, _ := environment("YAML")
		want := Default()
		want.DataDir = yaml
		if got := mustParse(t, text); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestVariablesMayHoldNumbersAndSizes(t *testing.T) {
	c := mustParse(t, "limits: {maxInFlight: '${NUMBER}', maxRequestBytes: '${NUMBER}MiB', shutdownTimeout: '${NUMBER}s'}")
	if want := (Limits{0, 12 << 20, 64 << 20, 12, 1000, 12 * time.Second}); c.Limits != want {
		t.Errorf("%+v", c.Limits)
	}
}

func TestKeysAreNotExpanded(t *testing.T) {
	_, err := Parse("f", []byte("mcpServers: {a: {command: x, env: {'${TOKEN}': x}}}"), environment)
	if err != nil {
		t.Fatal(err)
	}
}

func TestJSONIsReadAsYAMLIs(t *testing.T) {
	text := `{"listen":"127.0.0.1:1","mcpServers":{"b":{"command":"x","args":["\ud83d\ude00\/\u00e9\n"],"disabled":false}` +
		`,"a" : {"url":"http://h/mcp","callTimeout":"5s"}},"limits":{"maxRequestBytes":1024}}`
	var indented strings.Builder
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	e := json.NewEncoder(&indented)
	e.SetIndent("", "\t")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, text)
	if c.Listen != "127.0.0.1:1" || c.Servers[0].Args[0] != "😀/é\n" || c.Servers[1].CallTimeout != 5*time.Second ||
		c.Limits.MaxRequestBytes != 1024 {
		t.Errorf("%+v", c)
	}
	if other := mustParse(t, indented.String()); len(other.Servers) != 2 || other.Servers[1].Args[0] != "😀/é\n" {
		t.Errorf("indented by tabs: %+v", other)
	}
}

func TestServersKeepTheOrderOfTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9-]{0,30}`), rapid.ID[string]).Draw(t, "names")
		text := "mcpServers:\n"
		for _, name := range names {
			text += "  '" + name + "': {command: x}\n"
		}
		c, err := Parse("f", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range c.Servers {
			if s.Name != names[i] {
				t.Fatalf("%d is %s, want %s", i, s.Name, names[i])
			}
		}
	})
}

func TestStringsOfJSONArriveAsTheyAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOf(rapid.String()).Draw(t, "args")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\x00", "")
		}
		escaped := make([]string, len(args))
		for i := range args {
			escaped[i] = strings.ReplaceAll(args[i], "$", "$$")
		}
		text, err := json.MarshalIndent(
			map[string]any{"mcpServers": map[string]any{"a": map[string]any{"command": "x", "args": escaped}}},
			"",
			"\t",
		)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse("f", text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Servers[0].Args; !reflect.DeepEqual(got, args) {
			t.Fatalf("got %q, want %q", got, args)
		}
	})
}

func TestAliasesAndMergeKeysWork(t *testing.T) {
	c := mustParse(t, `
mcpServers:
  a: &a
    command: x
    args: &args [one]
    env: {K: v}
    callTimeout: &t 5s
  b:
    <<: *a
    command: y
  c: {<<: [{command: z}, *a], connectTimeout: *t}
`)
	a, b, z := c.Servers[0], c.Servers[1], c.Servers[2]
	a.Name, a.Command = "b", "y"
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v", b)
	}
	if z.Command != "z" || z.ConnectTimeout != 5*time.Second || z.Args[0] != "one" {
		t.Errorf("%+v", z)
	}
}

func TestBothListenersMayTakeAnyPort(t *testing.T) {
	mustParse(t, "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}")
	mustParse(t, "listen: 127.0.0.1:80\nadmin: {listen: '127.0.0.2:80'}")
}

func TestLoadReadsTheFileAndReplacesTheHome(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	t.Setenv("MCPHUB_TEST_COMMAND", "x")
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	text := "dataDir: ~/data\nmcpServers: {a: {command: '${MCPHUB_TEST_COMMAND}', cwd: '~'}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "/home/someone/data" || c.Servers[0].Cwd != "/home/someone" || c.Servers[0].Command != "x" {
		t.Errorf("%+v", c)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := Load(file, environment); err == nil || !strings.HasPrefix(err.Error(), file+":2:") {
		t.Errorf("a lookup of one's own: %v", err)
	}
	if after, _ := os.ReadFile(file); string(after) != text {
		t.Error("the file was changed")
	}
}

func TestLoadRefusesAFileThatIsMissingOrTooLarge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(file, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("too large: %v", err)
	}
}
