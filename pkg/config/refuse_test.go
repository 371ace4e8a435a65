package config

import (
	"strings"
	"testing"
)

// environment looks up a variable for the tests.
func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"HOST": "127.0.0.1", "TOKEN": "canary-token", "EMPTY": "", "NUMBER": "12", "TRUE": "true",
		"LINES": "a\nb", "YAML": "x: [1, {y: *z}]\nlisten: 0.0.0.0:1\n# \"'", "REFERENCE": "${TOKEN} $$",
	}[name]
	return v, ok
}

// Each want has the line, the column, what is wrong and what was expected.
func TestEveryRefusalNamesFileLineAndColumn(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":       {"listen: :1\nfoo: 1\n", "f:2:1: foo: unknown key; expected one of admin, "},
		"close key":         {"\n\nlistn: :1\n", "f:3:1: listn: unknown key; did you mean listen?"},
		"other case":        {"sessions:\n  idletimeout: 5s\n", "f:2:3: sessions.idletimeout: unknown key; did you mean idleTimeout?"},
		"key of others":     {"servers: {}\n", "f:1:1: servers: unknown key; did you mean mcpServers?"},
		"key in server":     {"mcpServers:\n  a:\n    comand: x\n", "f:3:5: mcpServers.a.comand: unknown key; did you mean command?"},
		"key in json":       {"{\n\t\"admin\": {\n\t\t\"port\": 1\n\t}\n}", "f:3:3: admin.port: unknown key; expected one of allowedOrigins"},
		"key like a secret": {"\"Bearer canary\": 1\n", "f:1:1: unknown key; "},
		"duplicate":         {"listen: :1\nnaming: bare\nlisten: :2\n", "f:3:1: listen: is given twice, first in line 1; expected it once"},
		"duplicate deep": {"mcpServers:\n  a: {command: x, env: {K: a, K: b}}\n", "f:2:31: mcpServers.a.env.K: is given " +
			"twice, first in line 2"},
		"duplicate server": {"mcpServers:\n  a: {command: " +
			"x}\n  b: {command: x}\n  a: {command: y}\n", "f:4:3: mcpServers.a: is given twice, first in line 2"},
		"odd key":          {"? [a]\n: 1\n", "f:2:1: not valid YAML: found an invalid key for this map"},
		"list for mapping": {"sessions: [1]\n", "f:1:11: sessions: is a list; expected a mapping of keys to values"},
		"text for server":  {"mcpServers:\n  a: npx\n", "f:2:6: mcpServers.a: is a string; expected a mapping of keys to values"},
		"list of servers":  {"mcpServers:\n- command: x\n", "f:2:1: mcpServers: is a list; expected a mapping"},
		"list at the top":  {"- a\n", "f:1:1: is a list; expected a mapping of keys to values"},
		"text at the top":  {"hello\n", "f:1:1: is a string; expected a mapping of keys to values"},
		"mapping for text": {"listen:\n  host: x\n", "f:2:3: listen: is a mapping; expected an address host:port such as 127.0.0.1:7788"},
		"number for text":  {"listen: 7788\n", "f:1:9: listen: is a number; expected an address host:port"},
		"number in env": {"mcpServers:\n  a:\n    command: x\n    env:\n      PORT: 80\n", "f:5:13: mcpServers.a.env.PORT: " +
			"is a number; expected a string; a number, true or false needs quotes"},
		"number in args": {"mcpServers:\n  a:\n    command: " +
			"x\n    args:\n    - a\n    - 80\n", "f:6:7: mcpServers.a.args[1]: is a number; expected a string"},
		"text for list": {"mcpServers: {a: {command: x, args: -v}}\n", "f:1:36: mcpServers.a.args: is a string; expected " +
			"a list such as [one, two]"},
		"nothing for text": {"listen:\n", "f:1:9: listen: has no value; expected an address"},
		"nothing in env":   {"mcpServers: {a: {command: x, env: {K: }}}\n", "mcpServers.a.env.K: has no value; expected a string"},
		"empty text":       {"naming: ''\n", "f:1:9: naming: is empty; expected prefix, bare or conflict"},
		"text for truth": {"mcpServers: {a: {command: x, disabled: 'no'}}\n", "f:1:40: mcpServers.a.disabled: is a string;" +
			" expected true or false"},
		"yes for truth": {"mcpServers: {a: {command: x, disabled: yes}}\n", "f:1:40: mcpServers.a.disabled: is a string;" +
			" expected true or false"},
		"variable for truth": {"mcpServers: {a: {command: x, disabled: '${NUMBER}'}}\n", "f:1:40: mcpServers.a.disabled: is " +
			"not a boolean; expected true or false"},

		"bare number": {"sessions:\n  idleTimeout: 30\n", "f:2:16: sessions.idleTimeout: is a number; expected a " +
			"duration such as 30s or 5m"},
		"quoted number": {"sessions:\n  idleTimeout: '30'\n", "f:2:16: sessions.idleTimeout: is not a duration; expected " +
			"a duration such as 30s or 5m"},
		"unknown unit":  {"sessions:\n  flushInterval: 5 sec\n", "f:2:18: sessions.flushInterval: is not a duration; expected"},
		"zero duration": {"sessions:\n  touchThrottle: 0s\n", "f:2:18: sessions.touchThrottle: is not positive; expected"},
		"negative lifetime": {"sessions:\n  maxLifetime: -1h\n", "f:2:16: sessions.maxLifetime: is negative; expected a " +
			"duration such as 24h, or 0 for none"},
		"number lifetime": {"sessions:\n  maxLifetime: 24\n", "f:2:16: sessions.maxLifetime: is not a duration; expected " +
			"a duration such as 24h, or 0 for none"},
		"negative limit": {"sessions:\n  maxSessions: -1\n", "f:2:16: sessions.maxSessions: is not in range; expected a " +
			"whole number, or 0 for no limit"},
		"unknown switch": {"metrics: {toolLabel: maybe}", "f:1:22: metrics.toolLabel: unknown value; expected on or off"},
		"no room for tools": {"metrics: {maxToolLabels: 0}", "f:1:26: metrics.maxToolLabels: is not in range; expected a " +
			"whole number of at least 1"},
		"unknown policy": {"sessions:\n  atLimit: shrug\n", "f:2:12: sessions.atLimit: unknown value; expected refuse or evict"},
		"negative duration": {"mcpServers:\n  a:\n    command: x\n    callTimeout: -5s\n", "f:4:18: mcpServers.a.callTimeout: " +
			"is not positive; expected"},
		"zero duration 2": {"mcpServers: {a: {command: x, connectTimeout: 0s}}\n", "f:1:46: mcpServers.a.connectTimeout: is not positive"},
		"variable":        {"inheritEnv: [A=B]\n", "f:1:14: inheritEnv[0]: is not the name of a variable"},
		"variables": {
			"mcpServers: {a: {command: x, inheritEnv: ['*']}}\n", "f:1:43: mcpServers.a.inheritEnv[0]: is not the name of a variable",
		},
		"startTimeout of a url": {
			"mcpServers: {a: {url: \"http://x\", startTimeout: 1m}}\n", "mcpServers.a.startTimeout: is not valid with a url",
		},
		"negative size": {"limits: {maxRequestBytes: -1}\n", "f:1:27: limits.maxRequestBytes: is not a size; expected " +
			"a number of bytes such as 4194304, 512KiB, 4MiB or 1GiB"},
		"decimal unit":  {"limits: {maxMessageBytes: 4MB}\n", "f:1:27: limits.maxMessageBytes: is not a size; expected"},
		"size overflow": {"limits: {maxMessageBytes: 99999999999GiB}\n", "limits.maxMessageBytes: is not a size"},
		"huge number":   {"limits: {maxMessageBytes: 18446744073709551615}\n", "limits.maxMessageBytes: is not a size"},
		"fraction": {"limits: {maxInFlight: 1.5}\n", "f:1:23: limits.maxInFlight: is a number with a fraction; " +
			"expected a whole number of at least 1"},
		"zero patience":  {"streams: {patience: 0s}\n", "f:1:21: streams.patience: is not positive; expected a duration"},
		"zero kept":      {"streams: {resumeEvents: 0}\n", "streams.resumeEvents: is not in range; expected a whole number"},
		"zero count":     {"limits: {maxInFlight: 0}\n", "f:1:23: limits.maxInFlight: is not in range; expected a whole number"},
		"huge count":     {"limits: {maxInFlight: 99999999999}\n", "f:1:23: limits.maxInFlight: is not in range"},
		"text for count": {"limits: {maxInFlight: '5'}\n", "f:1:23: limits.maxInFlight: is a string; expected a whole number"},

		"missing variable": {"mcpServers:\n  a:\n    command: " +
			"x\n    env:\n      K: ok ${TOKEN} ${NOPE}\n", "f:5:10: mcpServers.a.env.K: the variable NOPE " +
			"is not set; set it, or write ${NOPE:-default}"},
		"missing in args": {"mcpServers:\n  a:\n    command: " +
			"x\n    args: [a, '${NOPE}']\n", "f:4:15: mcpServers.a.args[1]: the variable NOPE is not set"},
		"unclosed variable": {"naming: '${HOST'\n", "f:1:9: naming: ${ does not begin a variable; expected ${NAME} or " +
			"${NAME:-default}, or $$ for a literal $"},
		"bad variable":         {"naming: ${A B}\n", "f:1:9: naming: ${ does not begin a variable"},
		"other shell syntax":   {"naming: ${HOST:?no}\n", "f:1:9: naming: ${ does not begin a variable"},
		"unquoted in braces":   {"mcpServers: {a: {command: x, env: {K: ${TOKEN}}}}\n", "inside { } and [ ] a ${VAR} needs quotes"},
		"variable becomes ''":  {"listen: ${EMPTY}\n", "f:1:9: listen: is empty; expected an address"},
		"variable is no list":  {"mcpServers: {a: {command: x, args: '${YAML}'}}\n", "f:1:36: mcpServers.a.args: is a string; expected a list"},
		"variable of yaml":     {"naming: ${YAML}\n", "f:1:9: naming: unknown value; expected prefix, bare or conflict"},
		"variable as a number": {"sessions: {idleTimeout: '${NUMBER}'}\n", "f:1:25: sessions.idleTimeout: is not a duration"},

		"no port":        {"listen: localhost\n", "f:1:9: listen: is not an address; expected an address host:port such as 127.0.0.1:7788"},
		"named port":     {"admin:\n  listen: localhost:http\n", "f:2:11: admin.listen: is not an address"},
		"large port":     {"listen: localhost:65536\n", "f:1:9: listen: is not an address"},
		"url as address": {"listen: http://x:1\n", "f:1:9: listen: is not an address"},
		"same listeners": {"listen: 127.0.0.1:80\nadmin:\n  listen: 127.0.0.1:80\n", "f:3:11: admin.listen: listen and " +
			"admin.listen are the same"},
		"admin's default": {"naming: bare\nlisten: 127.0.0.1:7789\n", "f:2:9: listen: listen and admin.listen are the same"},
		"wildcard": {"listen: 0.0.0.0:80\nadmin: {listen: 'localhost:80'}\n", "f:2:17: admin.listen: listen and " +
			"admin.listen are the same"},
		"naming": {"naming: suffix\n", "f:1:9: naming: unknown value; expected prefix, bare or conflict"},
		"level":  {"log: {level: INFO}\n", "f:1:14: log.level: unknown value; expected trace, debug, info, notice, warn or error"},
		"levels": {"log:\n  levels: {session: loud}\n", "f:2:21: log.levels.session: unknown value; expected trace," +
			" debug, info, notice, warn or error"},
		"subsystem":       {"log:\n  levels: {sesion: info}\n", "f:2:12: log.levels.sesion: unknown key; did you mean session?"},
		"format":          {"log: {format: text}\n", "f:1:15: log.format: unknown value; expected auto, tint or json"},
		"home of others":  {"dataDir: ~bob/x\n", "f:1:10: dataDir: the home directory of another user is not looked up"},
		"host with port":  {"allowedHosts: [a, 'b:80']\n", "f:1:19: allowedHosts[1]: is not a host name; expected one such as hub.example.org"},
		"any host":        {"allowedHosts: ['*']\n", "f:1:16: allowedHosts[0]: is not a host name"},
		"origin":          {"allowedOrigins: [hub.example.org]\n", "f:1:18: allowedOrigins[0]: is not an origin; expected scheme://host"},
		"origin and path": {"allowedOrigins: ['https://x/']\n", "f:1:18: allowedOrigins[0]: is not an origin"},
		"any origin":      {"allowedOrigins: ['*']\n", "f:1:18: allowedOrigins[0]: is not an origin"},

		"server name": {"mcpServers:\n  ok: {command: x}\n  not ok: {command: x}\n", "f:3:3: mcpServers[\"not ok\"]: is " +
			"not a name for a server; expected 1 to 32 letters, digits, _ and -"},
		"separator":   {"mcpServers: {a__b: {command: x}}\n", "f:1:14: mcpServers.a__b: is not a name for a server"},
		"long name":   {"mcpServers: {" + strings.Repeat("a", 33) + ": {command: x}}\n", "not a name for a server"},
		"no target":   {"mcpServers:\n  a:\n    disabled: true\n", "f:2:3: mcpServers.a: has neither command nor url; expected one of them"},
		"nothing":     {"mcpServers:\n  a:\n", "f:2:3: mcpServers.a: has neither command nor url"},
		"two targets": {"mcpServers:\n  a: {command: x, url: 'http://h/'}\n", "f:2:3: mcpServers.a: has both command and url"},
		"scheme": {"mcpServers:\n  a: {url: 'ftp://h/'}\n", "f:2:12: mcpServers.a.url: is not a usable URL; expected " +
			"an http or https URL such as"},
		"no host":  {"mcpServers:\n  a: {url: 'http:///x'}\n", "f:2:12: mcpServers.a.url: is not a usable URL"},
		"url port": {"mcpServers:\n  a: {url: 'http://h:99999/'}\n", "f:2:12: mcpServers.a.url: is not a usable URL"},
		"no url":   {"mcpServers:\n  a: {url: 'http://h\u0085 canary'}\n", "f:2:12: mcpServers.a.url: is not a usable URL"},
		"userinfo": {"mcpServers:\n  a: {url: 'https://canary:canary@h/'}\n", "f:2:12: mcpServers.a.url: contains " +
			"a user name or password; expected credentials in headers"},
		"isolation": {"mcpServers:\n  a: {command: x, isolation: none}\n", "f:2:30: mcpServers.a.isolation: unknown " +
			"value; expected session or shared"},
		"sse and command": {"mcpServers:\n  a: {command: x, type: sse}\n", "f:2:25: mcpServers.a.type: an HTTP type does " +
			"not match a command; expected stdio"},
		"type": {"mcpServers:\n  a: {url: 'http://h/', type: ws}\n", "f:2:31: mcpServers.a.type: unknown value;" +
			" expected stdio, http, streamable-http or sse"},
		"stdio with url":   {"mcpServers:\n  a: {url: 'http://h/', type: stdio}\n", "f:2:31: mcpServers.a.type: stdio does not match a url"},
		"http and command": {"mcpServers:\n  a: {command: x, type: http}\n", "f:2:25: mcpServers.a.type: an HTTP type does not match a command"},
		"env with url": {"mcpServers:\n  a:\n    url: http://h/\n    env: {K: canary}\n", "f:4:5: mcpServers.a.env: is " +
			"not valid with a url; expected a command"},
		"headers of child": {"mcpServers:\n  a:\n    command: x\n    headers: {K: canary}\n", "f:4:5: mcpServers.a.headers: " +
			"is not valid with a command; expected env, or a url"},
		"header name": {"mcpServers:\n  a:\n    url: " +
			"http://h/\n    headers:\n      'Bearer canary': x\n", "f:5:7: mcpServers.a.headers: contains a name that no header can have"},
		"hop by hop": {"mcpServers:\n  a:\n    url: " +
			"http://h/\n    headers:\n      connection: x\n", "f:5:7: mcpServers.a.headers.connection: is a hop-by-hop header"},
		"hub's header": {"mcpServers:\n  a:\n    url: " +
			"http://h/\n    headers:\n      MCP-Session-Id: x\n", "f:5:7: mcpServers.a.headers.MCP-Session-Id: " +
			"is a header that the hub sets itself"},
		"header twice": {"mcpServers:\n  a:\n    url: " +
			"http://h/\n    headers:\n      X-A: x\n      x-a: y\n", "f:6:7: mcpServers.a.headers.x-a: is given " +
			"twice; upper and lower case are the same"},
		"header value": {"mcpServers:\n  a:\n    url: " +
			"http://h/\n    headers:\n      X-A: \"canary\\r\\nX-B: y\"\n", "f:5:12: mcpServers.a.headers.X-A: contains a line break"},
		"env name": {"mcpServers:\n  a:\n    command: x\n    env:\n      K=canary: x\n", "f:5:7: mcpServers.a.env: " +
			"contains a name that no variable can have"},
		"env value": {"mcpServers:\n  a:\n    command: " +
			"x\n    env:\n      K: ${LINES}\n", "f:5:10: mcpServers.a.env.K: contains a line break or NUL"},
		"arg with NUL": {"mcpServers:\n  a:\n    command: " +
			"x\n    args: [a, \"canary\\0\"]\n", "f:4:15: mcpServers.a.args[1]: contains a NUL character"},

		"syntax":          {"a: [1\n", "f:1:4: not valid YAML: sequence end token ']' not found"},
		"unclosed string": {"a:\n  b: \"canary\n", "f:2:6: not valid YAML: could not find end character of double-quoted text"},
		"tab":             {"a:\n\tb: c\n", "f:2:1: not valid YAML: "},
		"two documents":   {"naming: bare\n---\nnaming: bare\n", "a second document begins here"},
		"tag":             {"naming: !!str bare\n", "f:1:9: YAML tags (!) are not supported"},
		"a comment of JSON": {"# mine\n{mcpServers: {a: {command: sh,\n  args: [a, // \"b\",\n  c]}}}\n",
			"f:3:13: comments begin with # in YAML; a string that begins with // or /* needs quotes"},
		"a comment of JSON in a list": {"mcpServers:\n  a:\n    command: sh\n    args:\n      - /* b */ c\n",
			"f:5:9: comments begin with # in YAML"},
		"directive":      {"%YAML 1.2\n---\nnaming: bare\n", "f:1:1: YAML directives (%) are not supported"},
		"no anchor":      {"naming: *nope\n", "f:1:9: naming: is an alias without an anchor before it"},
		"own anchor":     {"mcpServers: &a\n  x: *a\n", "f:2:6: mcpServers.x: is an alias without an anchor before it"},
		"merge":          {"sessions:\n  <<: 5\n", "f:2:3: sessions: merges a value that is not a mapping"},
		"latin-1":        {"naming: bare\n# caf\xe9\n", "f:2:6: the file is not valid UTF-8 here"},
		"NUL":            {"naming: bare\nlisten: \x00", "f:2:9: the file contains a control character here"},
		"deep":           {strings.Repeat("[", 100000), "f:1:33: nested deeper than 32 levels"},
		"deep in a line": {strings.Repeat("- ", 100000), "nested deeper than 32 levels"},
		"deep in lines":  {staircase(200), "f:33:34: nested deeper than 32 levels"},
		"many":           {strings.Repeat("a: \n", 100000), "the file has more than 20000 YAML tokens"},
		"large":          {strings.Repeat("# canary\n", 1<<17), "f:1:1: the file is larger than 1 MiB"},
		"alias bomb":     {bomb(), "the aliases add up to more than 100000 values"},

		"crlf":         {"listen: :1\r\n\r\nfoo: 1\r\n", "f:3:1: foo: unknown key"},
		"cr":           {"listen: :1\r\rfoo: 1\r", "f:3:1: foo: unknown key"},
		"bom":          {"\ufefffoo: 1\n", "f:1:1: foo: unknown key"},
		"after blocks": {"dataDir: >-\n  a\n  b\nallowedHosts:\n- 'a'\n# c\n\n- \"b\\\n   c\"\nfoo: 1\n", "f:10:1: foo: unknown key"},
		"after umlaut": {"dataDir: äöü€𝄞\nadmin: {listen: 'ä', foo: 1}\n", "f:2:22: admin.foo: unknown key"},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, c.text, c.want) })
	}
}

// wantRefusal checks that a file with that text is refused for a reason, and that no value is shown.
func wantRefusal(t *testing.T, text, reason string) {
	t.Helper()
	_, err := Parse("f", []byte(text), environment)
	if err == nil {
		t.Fatalf("accepted; want %q", reason)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("got\n%v\nwant\n%s", err, reason)
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("shows a value: %v", err)
	}
}

// staircase returns n nested mappings.
func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// bomb returns a file whose merge keys repeat a mapping thousands of times.
func bomb() string {
	env := "mcpServers:\n  a: &a\n    command: x\n    env:\n"
	for i := range 1000 {
		env += "      K" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + ": v\n"
	}
	return env + "  b: {<<: [" + strings.Repeat("*a,", 2000) + "*a]}\n"
}

func TestAllProblemsAreReportedInTheOrderOfTheFile(t *testing.T) {
	_, err := Parse("f", []byte(`
naming: suffix
sessions:
  idleTimeout: 30
  flush: 5s
mcpServers:
  a: {command: "${NOPE}", isolation: none}
  b: {}
`), environment)
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"f:2:9: naming", "f:4:16: sessions.idleTimeout", "f:5:3: sessions.flush",
		"f:7:16: mcpServers.a.command", "f:7:38: mcpServers.a.isolation", "f:8:3: mcpServers.b"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d: want %s in\n%v", i, want, err)
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d lines, want 6:\n%v", len(lines), err)
	}
}

func TestManyProblemsAreCutShort(t *testing.T) {
	_, err := Parse("f", []byte(strings.Repeat("x: 1\n", 1000)), nil)
	if n := strings.Count(err.Error(), "\n"); n > maxProblems {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(err.Error(), "and 950 more") {
		t.Error("the rest is not counted")
	}
}
