package admin

import (
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Problem is the body of every answer that reports an error.
type Problem struct {
	Error string `json:"error"`
}

// Health is the answer to GET /healthz.
type Health struct {
	Status string `json:"status"` // ok
}

// Readiness is the answer to GET /readyz.
type Readiness struct {
	Reason         string   `json:"reason,omitempty"`        // why the hub is not ready
	Status         string   `json:"status"`                  // ready or not ready
	UpstreamsNotUp []string `json:"upstreamsNotUp,omitzero"` // names; nil if the hub is not ready

	Upstreams []UpstreamState `json:"upstreams,omitempty"` // all servers; only with ?verbose
}

// UpstreamState says how one server is. GET /api/v1/upstreams has more.
type UpstreamState struct {
	Name     string         `json:"name"`
	State    upstream.State `json:"state"`
	Since    time.Time      `json:"since"` // of State
	Error    string         `json:"error,omitempty"`
	Warnings int            `json:"warnings"`
}

// LogLevel is the log level of one subsystem.
type LogLevel struct {
	Subsystem string    `json:"subsystem"`      // a name, or default
	Level     string    `json:"level"`          // in effect
	Own       bool      `json:"own"`            // false: Level is that of the subsystem default
	Until     time.Time `json:"until,omitzero"` // when Then replaces Level; zero: never
	Then      string    `json:"then,omitempty"` // a level, or default
}

// LogLevelList is the answer to GET and PUT /api/v1/log-levels.
type LogLevelList struct {
	Levels []LogLevel `json:"levels"`
}
