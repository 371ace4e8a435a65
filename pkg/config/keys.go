package config

import "strings"

// inherited is the default of inheritEnv: proxies, certificate authorities, caches and package sources, Docker.
const inherited = "[HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, http_proxy, https_proxy, all_proxy, no_proxy, " +
	"SSL_CERT_FILE, SSL_CERT_DIR, NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, " +
	"npm_config_*, NPM_CONFIG_*, UV_*, XDG_*, DOCKER_HOST]"

// hubKeys is the table of the keys of the hub.
var hubKeys = []row[Config]{
	{field(addressType, func(c *Config) *string { return &c.Listen }), Key{
		Name:     "listen",
		Default:  "127.0.0.1:7788",
		Variable: "MCPHUB_LISTEN",
		Flag:     "--listen",
		Usage:    "`address` of the MCP endpoint",
		Help:     "Address for MCP clients. The endpoint is `/mcp`.",
	}},
	{field(addressType, func(c *Config) *string { return &c.Admin.Listen }), Key{
		Name:     "admin.listen",
		Default:  "127.0.0.1:7789",
		Variable: "MCPHUB_ADMIN_LISTEN",
		Flag:     "--admin-listen",
		Usage:    "`address` of page, API and metrics",
		Help: "Address for operators and monitoring: web page, `/api/v1`, `/metrics`, `/healthz`, `/readyz`, " +
			"`/debug/pprof`. It must differ from `listen`.",
	}},
	{field(originsType, func(c *Config) *[]string { return &c.Admin.AllowedOrigins }), Key{
		Name: "admin.allowedOrigins",
		Help: "Origins whose web pages may use the admin listener, which can end sessions: `scheme://host` or " +
			"`scheme://host:port`. Without path, without `*`. Those of `allowedOrigins` may not.",
	}},
	{field(boolType, func(c *Config) *bool { return &c.Admin.Payloads }), Key{
		Name:    "admin.payloads",
		Default: "false",
		Help: "`true`: `mcphub sessions tail --payload` may show the params, results and errors of the messages of a " +
			"session, redacted and truncated. Everybody who can reach `admin.listen` can then read them, see " +
			"[sessions.md](sessions.md#its-messages).",
	}},
	{directory(func(c *Config) *string { return &c.DataDir }), Key{
		Name:     "dataDir",
		Default:  "~/.mcp-hub-lite",
		Variable: "MCPHUB_DATA_DIR",
		Flag:     "--data-dir",
		Usage:    "`directory` that holds sessions/",
		Help: "Directory for everything that must survive a restart. Sessions are in `sessions/` below it. " +
			"Only one hub can use a directory.",
	}},
	{field(choiceType(levels...), func(c *Config) *string { return &c.Log.Level }), Key{
		Name:     "log.level",
		Default:  "info",
		Variable: levelVariable,
		Flag:     "--log-level",
		Help:     "Lowest level that is logged.",
	}},
	{field(logLevelsType, func(c *Config) *map[string]string { return &c.Log.Levels }), Key{
		Name:     "log.levels",
		Variable: "MCPHUB_LOG",
		Help: "Levels of single subsystems, instead of `log.level`. The subsystems are " +
			inCode(subsystems[:]) + ". " +
			"`mcp` contains the records of mcp-go and other libraries, `server` what servers print to stderr. Levels can be changed while the " +
			"hub runs, see [telemetry.md](telemetry.md#levels).",
	}},
	{field(formatType, func(c *Config) *string { return &c.Log.Format }), Key{
		Name:     "log.format",
		Default:  "auto",
		Variable: "MCPHUB_LOG_FORMAT",
		Flag:     "--log-format",
		Help:     "Format of log records.",
	}},
	{field(parentType, func(c *Config) *string { return &c.Tracing.Parent }), Key{
		Name:     "tracing.parent",
		Default:  "remote",
		Variable: "MCPHUB_TRACE_PARENT",
		Flag:     "--trace-parent",
		Usage:    "use of the trace context of clients",
		Help:     "Use of the trace context that a client sends, if tracing is on.",
	}},
	{field(keysType, func(c *Config) *[]string { return &c.Tracing.Baggage }), Key{
		Name: "tracing.baggage",
		Help: "Keys of W3C baggage that the hub forwards, from clients to servers and from servers to clients. " +
			"It drops all other keys.",
	}},
	{field(toolLabelType, func(c *Config) *string { return &c.Metrics.ToolLabel }), Key{
		Name:    "metrics.toolLabel",
		Default: "on",
		Help:    "The label `gen_ai_tool_name` of the two `…_operation_duration_seconds` metrics.",
	}},
	{field(countType, func(c *Config) *int { return &c.Metrics.MaxToolLabels }), Key{
		Name:    "metrics.maxToolLabels",
		Default: "200",
		Help: "Largest number of tools with a label value of their own, on the client side and on the server " +
			"side each. Calls of other tools have `_OTHER`, see " +
			"[telemetry.md](telemetry.md#labels-that-cannot-grow).",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Sessions.IdleTimeout }), Key{
		Name:    "sessions.idleTimeout",
		Default: "30m",
		Help:    "A session without activity for this long ends.",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Sessions.CleanupInterval }), Key{
		Name:    "sessions.cleanupInterval",
		Default: "60s",
		Help:    "Interval between two searches for sessions that have to end.",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Sessions.FlushInterval }), Key{
		Name:    "sessions.flushInterval",
		Default: "5s",
		Help:    "Longest time from the first change of a session until it is written to disk.",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Sessions.TouchThrottle }), Key{
		Name:    "sessions.touchThrottle",
		Default: "100ms",
		Help:    "Activity of a session this soon after its last recorded activity is not recorded.",
	}},
	{field(boundType, func(c *Config) *Duration { return &c.Sessions.MaxLifetime }), Key{
		Name:    "sessions.maxLifetime",
		Default: "0",
		Help: "A session that is not in use ends this long after it was created. `0`: never, because many clients do " +
			"not initialize again. A call in flight and an open stream are use.",
	}},
	{field(numberType, func(c *Config) *int { return &c.Sessions.MaxSessions }), Key{
		Name:    "sessions.maxSessions",
		Default: "100000",
		Help: "Largest number of sessions at the same time. The default is less if `limits.memory` is below 1.6 GiB: one for " +
			"each 16 KiB of it. `0`: no limit but `limits.memory`.",
	}},
	{field(limitType, func(c *Config) *int { return &c.Sessions.MaxSessionsPerClient }), Key{
		Name:    "sessions.maxSessionsPerClient",
		Default: "0",
		Help: "Largest number of sessions of one client at the same time. A client is a principal, or without " +
			"authentication an address and a client name. `0`: no limit.",
	}},
	{field(atLimitType, func(c *Config) *string { return &c.Sessions.AtLimit }), Key{
		Name:    "sessions.atLimit",
		Default: "refuse",
		Help:    "Reaction to a new session that exceeds a limit.",
	}},
	{field(memoryType, func(c *Config) *int64 { return &c.Limits.Memory }), Key{
		Name: "limits.memory",
		Help: "Most memory that the hub holds for its clients: requests, answers, and messages that wait or are " +
			"retained. One session gets at most a third of it, and less the more others take, see " +
			"[known-limits.md](known-limits.md#memory). Default: half of the memory limit of the cgroup or of " +
			"`GOMEMLIMIT`, else a quarter of the memory of the machine.",
	}},
	{field(sizeType, func(c *Config) *int64 { return &c.Limits.MaxRequestBytes }), Key{
		Name:    "limits.maxRequestBytes",
		Default: "4MiB",
		Help:    "Largest body of one client request.",
	}},
	{field(sizeType, func(c *Config) *int64 { return &c.Limits.MaxMessageBytes }), Key{
		Name:    "limits.maxMessageBytes",
		Default: "64MiB",
		Help: "Largest single message of an upstream server. A longer answer becomes an error of its call. The default " +
			"is an eighth of `limits.memory` if that is less.",
	}},
	{field(countType, func(c *Config) *int { return &c.Limits.MaxInFlight }), Key{
		Name:    "limits.maxInFlight",
		Default: "256",
		Help:    "Largest number of in-flight requests of one session.",
	}},
	{field(countType, func(c *Config) *int { return &c.Limits.PageSize }), Key{
		Name:    "limits.pageSize",
		Default: "1000",
		Help:    "Number of items on one page of a merged list. A client requests the next page with the cursor.",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Limits.ShutdownTimeout }), Key{
		Name:    "limits.shutdownTimeout",
		Default: "10s",
		Help:    "Longest time for the whole shutdown, even if a server hangs.",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Streams.Patience }), Key{
		Name:    "streams.patience",
		Default: "100ms",
		Help: "The response to a request is one JSON object if the answer comes within this time and no other " +
			"message comes before it. Otherwise it is an event stream.",
	}},
	{field(countType, func(c *Config) *int { return &c.Streams.ResumeEvents }), Key{
		Name:    "streams.resumeEvents",
		Default: "1024",
		Help: "Largest number of messages of one session that the hub retains for a client that lost its connection: " +
			"sent messages, and messages that wait until the client comes back with `Last-Event-ID`.",
	}},
	{field(sizeType, func(c *Config) *int64 { return &c.Streams.ResumeBytes }), Key{
		Name:    "streams.resumeBytes",
		Default: "1MiB",
		Help:    "Largest total size of those messages. An answer that was not sent yet is retained whatever its size.",
	}},
	{field(durationType, func(c *Config) *Duration { return &c.Streams.ResumeWindow }), Key{
		Name:    "streams.resumeWindow",
		Default: "5m",
		Help:    "Time that a message is retained after it was sent, or after its stream was lost.",
	}},
	{field(hostsType, func(c *Config) *[]string { return &c.AllowedHosts }), Key{
		Name: "allowedHosts",
		Help: "Host names that are accepted in the `Host` header of both listeners, besides loopback and the host of `listen`. " +
			"Without port, without `*`.",
	}},
	{field(originsType, func(c *Config) *[]string { return &c.AllowedOrigins }), Key{
		Name: "allowedOrigins",
		Help: "Origins whose web pages may use the MCP endpoint, besides the same origin: `scheme://host` or " +
			"`scheme://host:port`. Without path, without `*`. They get CORS headers; all others get 403.",
	}},
	{field(variablesType, func(c *Config) *[]string { return &c.InheritEnv }), Key{
		Name:    "inheritEnv",
		Default: inherited,
		Help: "Variables of the hub's environment that child processes get besides the basic ones, see below. A `*` at " +
			"the end stands for the rest of a name, but not for names of credentials (`…TOKEN…`, `…PASSWORD…`, `…_AUTH…`, " +
			"`…SECRET…`, `…CREDENTIAL…`, `…KEY`): those have to be named in full.",
	}},
	{field(namingType, func(c *Config) *string { return &c.Naming }), Key{
		Name:    "naming",
		Default: "prefix",
		Help:    "Names of the items of several servers in one list. `bare` with one server makes the hub transparent.",
	}},
	{field(serversType, func(c *Config) *[]Server { return &c.Servers }), Key{
		Name:       "mcpServers",
		Help:       "The servers by name. The hub keeps the order of the file.",
		OtherNames: []string{"servers"},
	}},
}

// serverKeys is the table of the keys of one server, which are below mcpServers.<name>.
var serverKeys = []row[Server]{
	{field(programType, func(s *Server) *string { return &s.Command }), Key{
		Name: "command",
		Help: "Program that speaks MCP on stdin and stdout. `mcphub` is the running program itself, even if " +
			"it is not in `PATH`.",
		OtherNames: []string{"cmd"},
	}},
	{field(stringsType, func(s *Server) *[]string { return &s.Args }), Key{
		Name:     "args",
		OnlyWith: "command",
		Help:     "Arguments of the program. No shell interprets them.",
	}},
	{field(envType, func(s *Server) *map[string]Secret { return &s.Env }), Key{
		Name:     "env",
		OnlyWith: "command",
		Help: "Variables that are added to the environment of the child process, see below. Each value is one " +
			"line.",
	}},
	{field(inheritType, func(s *Server) *[]string { return &s.InheritEnv }), Key{
		Name:     "inheritEnv",
		OnlyWith: "command",
		Help:     "The same list for this server alone, instead of that of the hub.",
	}},
	{directory(func(s *Server) *string { return &s.Cwd }), Key{
		Name:     "cwd",
		OnlyWith: "command",
		Help:     "Working directory of the program. Default: that of the hub.",
	}},
	{field(urlType, func(s *Server) *string { return &s.URL }), Key{
		Name: "url",
		Help: "Streamable HTTP endpoint; with `type: sse` the URL of the event stream. It must not contain a " +
			"user name or password: put credentials into `headers`.",
	}},
	{field(headersType, func(s *Server) *map[string]Secret { return &s.Headers }), Key{
		Name:     "headers",
		OnlyWith: "url",
		Help: "Headers that are sent with every request. Hop-by-hop headers and those that the hub sets " +
			"itself are refused: " +
			inCode(hubHeaders) + ".",
	}},
	{field(eraType, func(s *Server) *string { return &s.Era }), Key{
		Name:    "era",
		Default: "auto",
		Help: "Protocol versions that the hub uses with the server: of the legacy era (up to 2025-11-25) or " +
			"of the modern era (from 2026-07-28).",
	}},
	{field(bridgeType, func(s *Server) *string { return &s.Bridge }), Key{
		Name:    "bridge",
		Default: "principal",
		Help: "Modern clients have no session. This key selects which of their requests share an upstream " +
			"session on a legacy server with `isolation: session`.",
	}},
	{field(isolationType, func(s *Server) *string { return &s.Isolation }), Key{
		Name:           "isolation",
		Default:        "shared",
		DefaultWithURL: "session",
		Help:           "Owner of an upstream session or child process.",
	}},
	{field(durationType, func(s *Server) *Duration { return &s.ConnectTimeout }), Key{
		Name:    "connectTimeout",
		Default: "30s",
		Help: "Longest time for the start and `initialize`, and again for the lists. An attempt to start a child that was " +
			"too short is followed by one of twice the time, up to 5m.",
	}},
	{field(durationType, func(s *Server) *Duration { return &s.StartTimeout }), Key{
		Name:     "startTimeout",
		Default:  "2m",
		OnlyWith: "command",
		Help: "`connectTimeout` until the child was up for the first time since the hub started: programs such as `npx` " +
			"and `uvx` download what they start.",
	}},
	{field(durationType, func(s *Server) *Duration { return &s.CallTimeout }), Key{
		Name:       "callTimeout",
		Default:    "15m",
		Help:       "Longest wait for one answer.",
		OtherNames: []string{"timeout"},
	}},
	{field(intervalType, func(s *Server) *Duration { return &s.RefreshInterval }), Key{
		Name: "refreshInterval",
		Help: "Interval between two readings of the server's lists. `0`: never. Default: `60s`, but `10m` for a server that " +
			"declares `listChanged` for all its lists. The lists are also read again when the server reports a change, after a " +
			"reconnect, for an unknown name, and by `mcphub servers refresh`.",
	}},
	{field(choiceType(
		Choice{"pass", "clients get it as it is, and the hub warns"},
		Choice{"drop", "clients do not get it, and the hub warns"},
	), func(s *Server) *string { return &s.OnInvalidTool }), Key{
		Name:    "onInvalidTool",
		Default: "pass",
		Help: "What becomes of a tool whose definition breaks the schema of MCP, such as one without an `inputSchema` of type " +
			"`object`: some clients then refuse the whole list, with the tools of all servers. A transparent hub passes all.",
	}},
	{field(boolType, func(s *Server) *bool { return &s.Disabled }), Key{
		Name:       "disabled",
		Default:    "false",
		Help:       "`true`: the server is not run. Its entry is checked.",
		OtherNames: []string{"enabled"},
	}},
	{field(transportType, func(s *Server) *string { return &s.Type }), Key{
		Name:       "type",
		Help:       "Transport, as MCP clients write it. Optional; it must match `command` or `url`.",
		OtherNames: []string{"transport"},
	}},
}

// Types with a fixed set of values.
var (
	formatType = choiceType(
		Choice{"auto", "`tint` on a terminal, otherwise `json`"},
		Choice{"tint", "for a terminal; without colours if the variable `NO_COLOR` is set"},
		Choice{"json", "one JSON object in each line"},
	)
	parentType = choiceType(
		Choice{"remote", "the span of the client is the parent of the span of the hub"},
		Choice{"link", "the hub starts a trace with a link to the span of the client; use it if clients must not " +
			"decide which traces are recorded"},
		Choice{"ignore", "the trace context is not used"},
	)
	toolLabelType = choiceType(
		Choice{"on", "it is the name of the tool"},
		Choice{"off", "it is empty"},
	)
	atLimitType = choiceType(
		Choice{"refuse", "503 with `Retry-After`"},
		Choice{"evict", "the session that has been unused for the longest time, and is not in use, ends"},
	)
	namingType = choiceType(
		Choice{"prefix", "`server__tool`"},
		Choice{"bare", "names as they are"},
		Choice{"conflict", "a prefix only for names that collide"},
	)
	eraType = choiceType(
		Choice{"auto", "the hub finds out what the server speaks and uses the era that suits each client; with a " +
			"server of both that all clients share, the legacy one"},
		Choice{"legacy", "only the legacy era"},
		Choice{"modern", "only the modern era"},
	)
	bridgeType = choiceType(
		Choice{"principal", "those of one client of one principal"},
		Choice{"request", "none; each has an upstream session of its own"},
		Choice{"shared", "those of all clients with the same capabilities"},
	)
	isolationType = choiceType(
		Choice{"session", "every client session has its own"},
		Choice{"shared", "all clients share one"},
	)
	transportType = optional(choiceType(
		Choice{"stdio", "a child process"},
		Choice{"http", "Streamable HTTP"},
		Choice{"streamable-http", "the same"},
		Choice{"sse", "HTTP+SSE, see below"},
	))
)

// inCode returns words as Markdown code, separated by commas.
func inCode(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }
