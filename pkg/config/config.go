// Package config reads and checks the configuration file.
//
//	text --readDocument--> nodes --schema.read, expand--> Config --fill, check--> Config with defaults, valid
//
// The table of keys in keys.go holds everything about a key: name, type, default, check, variable, flag and help.
// To add a key, add a field to Config or Server and a row to the table; make docs then writes it to
// docs/configuration.md.
//
// No error of this package contains a value of the file or of a variable, since a value can be a secret. An error names
// the position of the value and what was expected instead.
//
// The package starts no goroutines and keeps no state. A Config is a plain value and belongs to its caller.
package config

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"time"
)

// Duration is written as a string such as 30s or 5m in the file; a number without a unit is refused.
type Duration = time.Duration

// Config is the content of the configuration file. The table of keys has the meaning and the default of each field.
type Config struct {
	Listen         string // address of the MCP endpoint
	Admin          Admin
	DataDir        string // directory of the sessions; Load and Finish replace a leading ~/ by the home directory
	Log            Log
	Tracing        Tracing
	Metrics        Metrics
	Sessions       Sessions
	Limits         Limits
	Streams        Streams
	AllowedHosts   []string // accepted in the Host header besides loopback and Listen
	AllowedOrigins []string // accepted in the Origin header of the MCP endpoint besides the same origin
	InheritEnv     []string // variables that child processes get from the hub
	Naming         string   // how the names of several servers share one list
	Servers        []Server // mcpServers, in the order of the file
}

// Admin configures the endpoint for operators.
type Admin struct {
	Listen         string
	AllowedOrigins []string // accepted in the Origin header besides the same origin
	Payloads       bool     // the payloads of the messages of a session may be shown
}

// Log configures the log.
type Log struct {
	Level  string            // lowest level that is logged
	Levels map[string]string // subsystem to level; the others have Level
	Format string            // of the records
}

// Tracing configures the use of the trace context that clients send.
type Tracing struct {
	Parent  string   // use of the trace context
	Baggage []string // keys of baggage that are forwarded
}

// Metrics configures the labels of the metrics.
type Metrics struct {
	ToolLabel     string // whether metrics have a label for the tool
	MaxToolLabels int    // largest number of label values for tools, on the client side and on the server side each
}

// Sessions configures the lifecycle of client sessions.
type Sessions struct {
	IdleTimeout     Duration // a session without activity for this long ends
	CleanupInterval Duration // time between two searches for such sessions
	FlushInterval   Duration // longest time from the first change of a session until it is written
	TouchThrottle   Duration // activity this soon after the last is not recorded
	MaxLifetime     Duration // a session that is not in use ends at this age; Unlimited: never

	MaxSessions          int    // NoLimit: no limit
	MaxSessionsPerClient int    // 0: no limit
	AtLimit              string // reaction to a session that exceeds a limit
}

// Limits bounds the resources that one peer can use.
type Limits struct {
	Memory          int64    // held for clients; 0: a part of the memory of the process
	MaxRequestBytes int64    // body of one client request
	MaxMessageBytes int64    // one message of an upstream server
	MaxInFlight     int      // in-flight requests of one session
	PageSize        int      // items on one page of a merged list
	ShutdownTimeout Duration // the whole shutdown
}

// Streams configures event streams and the messages that are retained for a client that lost its connection.
type Streams struct {
	Patience     Duration // longest wait for an answer before the response becomes a stream
	ResumeEvents int      // largest number of retained messages of one session
	ResumeBytes  int64    // their largest total size
	ResumeWindow Duration // time that a message is retained
}

// Server is one upstream server: a child process (Command) or an HTTP endpoint (URL).
type Server struct {
	Name           string
	Command        string
	Args           []string
	Env            map[string]Secret
	InheritEnv     []string // variables that it gets from the hub; nil: those of Config
	Cwd            string   // Load and Finish replace a leading ~/ by the home directory
	URL            string
	Headers        map[string]Secret
	Era            string   // protocol versions that the hub uses with the server
	Bridge         string   // which requests of modern clients share an upstream session
	Isolation      string   // owner of an upstream session or child process
	ConnectTimeout Duration // start and initialize, and again the lists
	StartTimeout   Duration // the same, before a child was up once
	CallTimeout    Duration // longest wait for one answer
	// RefreshInterval is the time between two readings of the lists. 0: it depends on the server; Unlimited: never.
	RefreshInterval Duration
	OnInvalidTool   string // what becomes of a tool that breaks the schema of MCP
	Disabled        bool
	Type            string // transport, as MCP clients write it; may be empty
}

// NoLimit is the value of a number whose default is not 0, but which has no limit. The file writes it as 0.
const NoLimit = -1

// Unlimited is the value of a Duration without a bound. The file writes it as 0.
const Unlimited Duration = -1

// Default returns the configuration without a file.
func Default() Config {
	var c Config
	c.fill()
	return c
}

// Finish completes c after environment and flags were applied: zero values get their default, ~/ becomes the home
// directory, and everything is validated.
func (c *Config) Finish() error {
	c.fill()
	if err := c.expandHome(); err != nil {
		return err
	}
	return c.Validate()
}

// fill sets every zero value to its default.
func (c *Config) fill() {
	for _, r := range hubKeys {
		r.fill(c, r.Default)
	}
	for i := range c.Servers {
		c.Servers[i].fill()
	}
}

func (s *Server) fill() {
	for _, r := range serverKeys {
		if s.URL != "" {
			r.fill(s, r.DefaultWithURL)
			if r.OnlyWith == "command" {
				continue
			}
		}
		r.fill(s, r.Default)
	}
}

// expandHome replaces the leading ~ of the directories.
func (c *Config) expandHome() error {
	for _, dir := range c.directories() {
		if !inHome(*dir) {
			continue
		}
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("find the home directory that ~ stands for: %w", err)
		}
		*dir = filepath.Join(home, (*dir)[1:])
	}
	return nil
}

// directories yields the key path and the field of each directory.
func (c *Config) directories() iter.Seq2[string, *string] {
	return func(yield func(string, *string) bool) {
		for _, r := range hubKeys {
			if r.dir != nil && !yield(r.Name, r.dir(c)) {
				return
			}
		}
		for i := range c.Servers {
			s := &c.Servers[i]
			for _, r := range serverKeys {
				if r.dir != nil && !yield(join(join("mcpServers", s.Name), r.Name), r.dir(s)) {
					return
				}
			}
		}
	}
}
