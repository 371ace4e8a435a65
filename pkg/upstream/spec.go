// Package upstream keeps the hub connected to its servers.
//
//	Pool ── Server ──┬─ control Conn: supervised, lists what the server offers
//	                 └─ Link, one per client session ── the shared Conn, or one of its own
//
// A Conn is one initialized JSON-RPC connection: a child process that speaks
// over stdin and stdout, or a session over Streamable HTTP or over HTTP+SSE,
// which was before it. It gives every request an id and a progress token of its
// own, so that what several clients do over one Conn cannot get mixed up, and
// passes on raw bytes.
package upstream

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
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
	Env       []string // the whole environment of the child, KEY=VALUE
	Dir       string
	URL       string
	SSE       bool // URL is the stream of HTTP+SSE, the transport of 2024-11-05, not Streamable HTTP
	Headers   map[string]string
	Isolation Isolation
	Era       protocol.Era // AnyEra: found out

	// Secrets are values that are not repeated if the server writes them to its
	// stderr or into an error: those of its environment. Headers, the password in
	// URL and values in its query are kept secret without being named here.
	Secrets []string

	ConnectTimeout time.Duration // start, initialize and list; default 30s
	CallTimeout    time.Duration // longest wait for one answer; default 15m
	MaxMessage     int64         // bytes of one message; default 64 MiB

	patience      time.Duration     // with a child that reads nothing; default 10s
	probePatience time.Duration     // for a server to say which era it speaks; default 5s
	mask          *strings.Replacer // takes the secrets out of texts; nil: does nothing
}

func (s Spec) connectTimeout() time.Duration { return cmp.Or(s.ConnectTimeout, 30*time.Second) }
func (s Spec) callTimeout() time.Duration    { return cmp.Or(s.CallTimeout, 15*time.Minute) }
func (s Spec) maxMessage() int64             { return cmp.Or(s.MaxMessage, 64<<20) }

// probeTimeout is short: some legacy servers do not answer what they do not know.
func (s Spec) probeTimeout() time.Duration { return cmp.Or(s.probePatience, 5*time.Second) }
func (s Spec) writeTimeout() time.Duration { return cmp.Or(s.patience, 10*time.Second) }

// Transport names how the server is reached: stdio, http or sse.
func (s Spec) Transport() string {
	switch {
	case s.URL == "":
		return "stdio"
	case s.SSE:
		return "sse"
	}
	return "http"
}

func (s Spec) isolation() Isolation {
	if s.Isolation == "" && s.URL != "" {
		return PerSession
	}
	return cmp.Or(s.Isolation, Shared)
}

// Identity is what a connection says of the client when it is initialized. Its
// fields are raw JSON objects.
type Identity struct {
	ClientInfo   json.RawMessage
	Capabilities json.RawMessage
}

// Initialized is what the server answered to initialize.
type Initialized struct {
	ProtocolVersion string          `json:"protocolVersion"`
	Capabilities    json.RawMessage `json:"capabilities"`
	ServerInfo      json.RawMessage `json:"serverInfo"`
	Instructions    string          `json:"instructions"`

	dual bool // a modern server that speaks legacy versions, too
}

// Modern reports whether the server is spoken to in a modern version.
func (i Initialized) Modern() bool { return protocol.IsModernVersion(i.ProtocolVersion) }

// Bound is the upstream session behind a Link: what has to be kept to go on
// with it after a restart.
type Bound struct {
	SessionID       string // empty: the server gave none
	ProtocolVersion string
}

// The errors of calls that got no answer. Each is wrapped in a text that names
// the server.
var (
	ErrDown        = errors.New("is down")                                // there is no connection
	ErrTimeout     = errors.New("did not answer in time")                 // CallTimeout passed
	ErrLost        = errors.New("was lost before it answered")            // dispatched, outcome unknown
	ErrProtocol    = errors.New("broke the protocol")                     // an answer that is none
	ErrSessionGone = errors.New("does not know its session any more")     // HTTP 404: not dispatched
	ErrCancelled   = errors.New("was told that the request is cancelled") // the caller gave up
)

// errClosed is why a connection is lost that the hub itself closed.
var errClosed = errors.New("the connection was closed")

// serverError says which server err is about.
func serverError(name string, err error) error { return fmt.Errorf("server %q %w", name, err) }
