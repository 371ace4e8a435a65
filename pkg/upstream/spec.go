package upstream

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// Isolation says who shares a connection to a server.
type Isolation string

// The isolations.
const (
	Shared     Isolation = "shared"  // one connection for all clients
	PerSession Isolation = "session" // each client session has its own
)

// Spec is how to reach a server. Either Command or URL is set.
type Spec struct {
	Name      string
	Command   string
	Args      []string
	Env       []string // the whole environment of the process, KEY=VALUE
	Dir       string
	URL       string
	SSE       bool // URL is the stream of HTTP+SSE, the transport of 2024-11-05, not Streamable HTTP
	Headers   map[string]string
	Isolation Isolation    // default: PerSession with URL, else Shared
	Era       protocol.Era // AnyEra: found out

	// Secrets are masked if the server writes them to its stderr or into an error: the values of its environment. The
	// values of Headers, the password in URL and the values in its query are masked without being named here.
	Secrets []string

	ConnectTimeout time.Duration // to start and initialize, and again to list; default 30s
	StartTimeout   time.Duration // instead for a process until it was up once; default 2m
	CallTimeout    time.Duration // for one call; default 15m
	MaxMessage     int64         // bytes of one message; default 64 MiB

	// RefreshInterval is how long the lists of the server are believed before they are read again, without a word from
	// the server. Default: 1m, but 10m for a server that declares that it reports all changes. Below 0: for ever.
	RefreshInterval time.Duration

	writeWait time.Duration     // for a process that reads nothing; default 10s
	probeWait time.Duration     // for a server to tell its era; default 5s
	startWait time.Duration     // of a call for a server that is starting, before it is told so; default 5s
	mask      *strings.Replacer // takes the secrets out of texts; nil: does nothing
}

func (s Spec) connectTimeout() time.Duration { return cmp.Or(s.ConnectTimeout, 30*time.Second) }
func (s Spec) startTimeout() time.Duration   { return cmp.Or(s.StartTimeout, 2*time.Minute) }
func (s Spec) callTimeout() time.Duration    { return cmp.Or(s.CallTimeout, 15*time.Minute) }
func (s Spec) maxMessage() int64             { return cmp.Or(s.MaxMessage, 64<<20) }
func (s Spec) writeTimeout() time.Duration   { return cmp.Or(s.writeWait, 10*time.Second) }

func (s Spec) startPatience() time.Duration { return cmp.Or(s.startWait, 5*time.Second) }

// refreshInterval returns RefreshInterval for a server that reports all changes, or does not; 0: never.
func (s Spec) refreshInterval(reportsAll bool) time.Duration {
	switch {
	case s.RefreshInterval < 0:
		return 0
	case s.RefreshInterval == 0 && reportsAll:
		return 10 * time.Minute
	}
	return cmp.Or(s.RefreshInterval, time.Minute)
}

// probeTimeout is short: some legacy servers do not answer an unknown method.
func (s Spec) probeTimeout() time.Duration { return cmp.Or(s.probeWait, 5*time.Second) }

// Transport names how the server is reached: stdio, http or sse.
func (s Spec) Transport() string { return string(s.kind()) }

func (s Spec) kind() transport.Kind { return transport.KindOf(s.URL, s.SSE) }

func (s Spec) isolation() Isolation {
	if s.Isolation == "" && !s.kind().IsProcess() {
		return PerSession
	}
	return cmp.Or(s.Isolation, Shared)
}

// Identity is how the hub introduces the client of a connection to the server. Its fields are raw JSON objects.
type Identity struct {
	ClientInfo   json.RawMessage
	Capabilities json.RawMessage
}

// Initialized is the server's answer to initialize, or to server/discover.
type Initialized struct {
	ProtocolVersion string          `json:"protocolVersion"`
	Capabilities    json.RawMessage `json:"capabilities"`
	ServerInfo      json.RawMessage `json:"serverInfo"`
	Instructions    string          `json:"instructions"`

	dual bool // a modern server that speaks legacy versions, too
}

// ServerSession is the session of the server behind a Link. Who stores it can resume the session after a restart.
type ServerSession struct {
	SessionID       string // empty: the server gave none
	ProtocolVersion string
}

// StartProblem says why the child process of the server cannot be started on this machine, as far as that can be known
// without a try; "" if nothing is known to be wrong, and for a server over HTTP.
func (s Spec) StartProblem() string {
	if s.Command == "" {
		return ""
	}
	return transport.StartProblem(transport.Config{Command: s.Command, Args: s.Args, Dir: s.Dir})
}
