// Package config reads the configuration file.
//
//	text --document--> nodes --decode, expand ${VAR}--> Config --Validate--> done
//
// No error of this package contains a value of the file or of a variable:
// it says where the value stands and what was expected instead.
package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Duration is written as a text such as 30s or 5m; a bare number is refused.
type Duration = time.Duration

// Config is everything the file can say. Default holds what it need not say.
type Config struct {
	Listen         string // address of the MCP endpoint
	Admin          Admin
	DataDir        string // where the sessions are kept; ~/ stands for the home directory
	Log            Log
	Tracing        Tracing
	Metrics        Metrics
	Sessions       Sessions
	Limits         Limits
	Streams        Streams
	AllowedHosts   []string // accepted in the Host header besides loopback and Listen
	AllowedOrigins []string // accepted in the Origin header besides the same origin
	Naming         string   // prefix, bare or conflict
	Servers        []Server // mcpServers, in the order of the file
}

// Admin is the endpoint for operators.
type Admin struct {
	Listen   string
	Payloads bool // those who follow a session may see what its messages carry
}

// Log says what is logged, and how.
type Log struct {
	Level  string            // trace, debug, info, notice, warn or error
	Levels map[string]string // of subsystems, instead of Level
	Format string            // auto, tint or json
}

// Tracing says what becomes of the trace context that clients send.
type Tracing struct {
	Parent  string   // remote, link or ignore
	Baggage []string // keys of baggage that servers get
}

// Metrics says how far metrics go into detail.
type Metrics struct {
	ToolLabel     string // on or off: calls of each tool by themselves
	MaxToolLabels int    // tools that are shown by themselves, at each of both hops
}

// Sessions are the times in the life of a client session.
type Sessions struct {
	IdleTimeout     Duration // end a session unseen for this long
	CleanupInterval Duration // look for such sessions this often
	FlushInterval   Duration // write changed sessions this long after the first change
	TouchThrottle   Duration // ignore a touch this soon after the last
	MaxLifetime     Duration // end every session after this long; Unlimited: never

	MaxSessions          int    // 0: no limit
	MaxSessionsPerClient int    // 0: no limit
	AtLimit              string // refuse or evict
}

// Limits bound what one peer can make the hub hold.
type Limits struct {
	MaxRequestBytes int64    // body of one client request
	MaxMessageBytes int64    // one message of an upstream
	MaxInFlight     int      // requests of one session under way at once
	PageSize        int      // items of one page of a merged list
	ShutdownTimeout Duration // whole of a shutdown
}

// Streams say when the answer to a request becomes a stream, and what is kept
// of a session for a client that lost its connection.
type Streams struct {
	Patience     Duration // wait for an answer before a stream begins
	ResumeEvents int      // messages
	ResumeBytes  int64    // of them together
	ResumeWindow Duration // keep a message this long
}

// Server is one upstream: a child process (Command) or an HTTP endpoint (URL).
type Server struct {
	Name           string
	Command        string
	Args           []string
	Env            map[string]Secret
	Cwd            string // ~/ stands for the home directory
	URL            string
	Headers        map[string]Secret
	Era            string   // auto, legacy or modern; empty: auto
	Bridge         string   // principal, request or shared; empty: principal
	Isolation      string   // session or shared; default session for a URL, shared for a Command
	ConnectTimeout Duration // start, initialize and the first lists; default 30s
	CallTimeout    Duration // longest wait for one answer; default 15m
	Disabled       bool
	Type           string // as MCP clients write it: stdio, http, streamable-http, sse; may be empty
}

// Unlimited is the Duration that the file writes as 0 where it means no bound.
const Unlimited Duration = -1

// Default returns what holds without a file.
func Default() Config {
	return Config{
		Listen:  "127.0.0.1:7788",
		Admin:   Admin{Listen: "127.0.0.1:7789"},
		DataDir: "~/.mcp-hub-lite",
		Log:     Log{Level: "info", Format: "auto"},
		Tracing: Tracing{Parent: "remote"},
		Metrics: Metrics{ToolLabel: "on", MaxToolLabels: 200},
		Sessions: Sessions{
			IdleTimeout:     30 * time.Minute,
			CleanupInterval: time.Minute,
			FlushInterval:   5 * time.Second,
			TouchThrottle:   100 * time.Millisecond,
			MaxLifetime:     24 * time.Hour,
			AtLimit:         "refuse",
		},
		Limits: Limits{
			MaxRequestBytes: 4 << 20,
			MaxMessageBytes: 64 << 20,
			MaxInFlight:     256,
			PageSize:        1000,
			ShutdownTimeout: 10 * time.Second,
		},
		Streams: Streams{
			Patience:     100 * time.Millisecond,
			ResumeEvents: 1024,
			ResumeBytes:  1 << 20,
			ResumeWindow: 5 * time.Minute,
		},
		Naming: "prefix",
	}
}

// Finish makes c ready for use once environment and flags are applied: what
// is zero gets its default, ~/ becomes the home directory, and the whole is
// validated.
func (c *Config) Finish() error {
	c.fill()
	if err := c.expandHome(); err != nil {
		return err
	}
	return c.Validate()
}

// fill gives every zero field its default.
func (c *Config) fill() {
	d := Default()
	c.Listen = cmp.Or(c.Listen, d.Listen)
	c.Admin.Listen = cmp.Or(c.Admin.Listen, d.Admin.Listen)
	c.DataDir = cmp.Or(c.DataDir, d.DataDir)
	c.Log.Level = cmp.Or(c.Log.Level, d.Log.Level)
	c.Log.Format = cmp.Or(c.Log.Format, d.Log.Format)
	c.Tracing.Parent = cmp.Or(c.Tracing.Parent, d.Tracing.Parent)
	c.Metrics.ToolLabel = cmp.Or(c.Metrics.ToolLabel, d.Metrics.ToolLabel)
	c.Metrics.MaxToolLabels = cmp.Or(c.Metrics.MaxToolLabels, d.Metrics.MaxToolLabels)
	c.Sessions.IdleTimeout = cmp.Or(c.Sessions.IdleTimeout, d.Sessions.IdleTimeout)
	c.Sessions.CleanupInterval = cmp.Or(c.Sessions.CleanupInterval, d.Sessions.CleanupInterval)
	c.Sessions.FlushInterval = cmp.Or(c.Sessions.FlushInterval, d.Sessions.FlushInterval)
	c.Sessions.TouchThrottle = cmp.Or(c.Sessions.TouchThrottle, d.Sessions.TouchThrottle)
	c.Sessions.MaxLifetime = cmp.Or(c.Sessions.MaxLifetime, d.Sessions.MaxLifetime)
	c.Sessions.AtLimit = cmp.Or(c.Sessions.AtLimit, d.Sessions.AtLimit)
	c.Limits.MaxRequestBytes = cmp.Or(c.Limits.MaxRequestBytes, d.Limits.MaxRequestBytes)
	c.Limits.MaxMessageBytes = cmp.Or(c.Limits.MaxMessageBytes, d.Limits.MaxMessageBytes)
	c.Limits.MaxInFlight = cmp.Or(c.Limits.MaxInFlight, d.Limits.MaxInFlight)
	c.Limits.PageSize = cmp.Or(c.Limits.PageSize, d.Limits.PageSize)
	c.Limits.ShutdownTimeout = cmp.Or(c.Limits.ShutdownTimeout, d.Limits.ShutdownTimeout)
	c.Streams.Patience = cmp.Or(c.Streams.Patience, d.Streams.Patience)
	c.Streams.ResumeEvents = cmp.Or(c.Streams.ResumeEvents, d.Streams.ResumeEvents)
	c.Streams.ResumeBytes = cmp.Or(c.Streams.ResumeBytes, d.Streams.ResumeBytes)
	c.Streams.ResumeWindow = cmp.Or(c.Streams.ResumeWindow, d.Streams.ResumeWindow)
	c.Naming = cmp.Or(c.Naming, d.Naming)
	for i := range c.Servers {
		c.Servers[i].fill()
	}
}

func (s *Server) fill() {
	isolation := "shared"
	if s.URL != "" {
		isolation = "session"
	}
	s.Isolation = cmp.Or(s.Isolation, isolation)
	s.Era = cmp.Or(s.Era, "auto")
	s.Bridge = cmp.Or(s.Bridge, "principal")
	s.ConnectTimeout = cmp.Or(s.ConnectTimeout, 30*time.Second)
	s.CallTimeout = cmp.Or(s.CallTimeout, 15*time.Minute)
}

// expandHome replaces the leading ~ of the directories.
func (c *Config) expandHome() error {
	dirs := []*string{&c.DataDir}
	for i := range c.Servers {
		dirs = append(dirs, &c.Servers[i].Cwd)
	}
	for _, dir := range dirs {
		if *dir != "~" && !strings.HasPrefix(*dir, "~/") {
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
