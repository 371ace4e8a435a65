package admin

import (
	"encoding/json"
	"time"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Upstream is one configured server, as GET /api/v1/upstreams/{name} returns
// it. It has no address, command, header or variable: they may hold secrets.
type Upstream struct {
	Name            string             `json:"name"`
	Transport       string             `json:"transport"`
	Isolation       upstream.Isolation `json:"isolation"`
	State           upstream.State     `json:"state"`
	Since           time.Time          `json:"since"` // of State
	Error           string             `json:"error,omitempty"`
	NextAttempt     *time.Time         `json:"nextAttempt,omitempty"` // to connect; nil: the server is not down
	ProtocolVersion string             `json:"protocolVersion,omitempty"`
	ServerInfo      json.RawMessage    `json:"serverInfo,omitempty"` // from the server's answer to initialize
	Connections     int                `json:"connections"`          // processes or sessions
	Tools           int                `json:"tools"`
	Prompts         int                `json:"prompts"`
	Resources       int                `json:"resources"`
	Templates       int                `json:"resourceTemplates"`
	Warnings        []Warning          `json:"warnings"` // what is wrong although the server may be up
}

// Warning is something about a server that does not stop it from working.
type Warning struct {
	Kind    upstream.WarningKind `json:"kind"`
	Subject string               `json:"subject,omitempty"` // such as a tool or a method
	Message string               `json:"message"`
	Since   time.Time            `json:"since"`
}

// UpstreamList is the answer to GET /api/v1/upstreams.
type UpstreamList struct {
	Count     int        `json:"count"`
	Upstreams []Upstream `json:"upstreams"`
}
