// Package session keeps the hub's client sessions and writes them behind.
//
//	Create -> initializing -> ready -> ended{reason}
//	             |              |
//	             +--Update, Touch--> dirty --Flush--> stored --Restore--> ready
//
// A session is created, ended and bound to a principal durably: the call
// returns after the change is on stable storage. Everything else is written
// within Config.FlushInterval of the first change, many sessions in one batch.
// A derived session, of requests that belong to none, is in memory only.
// The package knows neither MCP nor HTTP.
package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// SchemaVersion is the version of the records this package writes.
const SchemaVersion = 1

// State is the position of a session in its life.
type State string

// The states of a live session; an ended session is no session.
const (
	Initializing State = "initializing"
	Ready        State = "ready"
)

// Reason says why a session ended.
type Reason string

// The reasons, which are also the values of the label of
// mcphub_sessions_closed_total.
const (
	ClientDelete Reason = "client_delete" // the client asked for it
	Disconnect   Reason = "disconnect"    // the client went on with another session
	IdleTimeout  Reason = "idle_timeout"
	MaxLifetime  Reason = "max_lifetime"
	Evicted      Reason = "evicted"
	InitFailed   Reason = "init_failed"
	BackendLost  Reason = "backend_lost"
	Admin        Reason = "admin"
	Shutdown     Reason = "shutdown" // the process stops; the stored session lives on
)

// Reasons lists every Reason.
func Reasons() []Reason {
	return []Reason{ClientDelete, Disconnect, IdleTimeout, MaxLifetime, Evicted, InitFailed, BackendLost, Admin, Shutdown}
}

// Session is what is known of one client session: the stored record. It is a
// value; its maps and slices are shared and must not be changed except inside
// Manager.Update.
type Session struct {
	Kind            Kind                       `json:"-"`         // only one kind is stored
	ID              string                     `json:"sessionId"` // public: names files, logs, spans
	ClientName      string                     `json:"clientName,omitempty"`
	ClientVersion   string                     `json:"clientVersion,omitempty"`
	ProtocolVersion string                     `json:"protocolVersion,omitempty"` // negotiated
	Capabilities    json.RawMessage            `json:"capabilities,omitempty"`    // the client's
	Cwd             string                     `json:"cwd,omitempty"`
	Project         string                     `json:"project,omitempty"`
	UserAgent       string                     `json:"userAgent,omitempty"`
	IP              string                     `json:"ip,omitempty"`
	CreatedAt       int64                      `json:"createdAt"`      // ms since 1970
	LastAccessedAt  int64                      `json:"lastAccessedAt"` // ms since 1970
	Metadata        map[string]json.RawMessage `json:"metadata"`

	SchemaVersion int                 `json:"schemaVersion,omitempty"` // 0: written by mcp-hub-lite
	TokenHash     string              `json:"tokenHash,omitempty"`     // hex SHA-256 of the verifier; empty: imported, bare id accepted
	Principal     string              `json:"principal,omitempty"`     // who created it; empty: anonymous
	State         State               `json:"state,omitempty"`         // empty: ready
	LogLevel      string              `json:"logLevel,omitempty"`
	Subscriptions []string            `json:"subscriptions,omitempty"` // resource URIs
	Upstreams     map[string]Upstream `json:"upstreams,omitempty"`     // by server name

	unknown map[string]json.RawMessage // members of the record that this version does not know
}

// Upstream is the session that an upstream server gave to this client session.
type Upstream struct {
	SessionID       string `json:"sessionId,omitempty"`
	ProtocolVersion string `json:"protocolVersion,omitempty"`
}

// LogValue shows who the session is and none of its secrets.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", s.ID), slog.String("client", s.ClientName), slog.String("version", s.ClientVersion),
		slog.String("protocol", s.ProtocolVersion))
}

// clone copies what Update's callback may change in place.
func (s Session) clone() Session {
	s.Metadata = maps.Clone(s.Metadata)
	s.Upstreams = maps.Clone(s.Upstreams)
	s.Subscriptions = slices.Clone(s.Subscriptions)
	return s
}

func (s Session) lastAccess() time.Time { return time.UnixMilli(s.LastAccessedAt) }

// encode returns the stored form of s, unknown members included.
func encode(s Session) ([]byte, error) {
	if s.Metadata == nil {
		s.Metadata = map[string]json.RawMessage{}
	}
	s.SchemaVersion = SchemaVersion
	b, err := marshal(s)
	if err != nil {
		return nil, err
	}
	if len(s.unknown) > 0 {
		extra, err := marshal(s.unknown)
		if err != nil {
			return nil, err
		}
		b = append(append(b[:len(b)-1], ','), extra[1:]...)
	}
	// Marshal looks at each raw member alone. One that is just not too deep by
	// itself is too deep inside a record, which then could not be read again.
	if bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) > 1000 && !json.Valid(b) {
		return nil, errors.New("the record would be nested too deeply")
	}
	return b, nil
}

// marshal is json.Marshal without the escapes for HTML, which would make a
// record several times as large as what it holds.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// CheckRecord reports why data could not be loaded as the stored record of the
// session id, or nil if it could.
func CheckRecord(id string, data []byte) error {
	_, err := decode(id, data)
	return err
}

// newerError is the refusal to read a record of a later version of mcphub.
type newerError struct{ version int }

func (e newerError) Error() string {
	return fmt.Sprintf("the record has schema version %d, this mcphub knows up to %d: left untouched", e.version, SchemaVersion)
}

// decode reads the stored form of the session id. Records of mcp-hub-lite,
// which have no schema version, are read as they are.
func decode(id string, data []byte) (Session, error) {
	var s Session
	var version struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	known, unknown, err := split(data)
	if err != nil {
		return s, fmt.Errorf("not a session record: %w", err)
	}
	if err := json.Unmarshal(known, &version); err != nil {
		return s, fmt.Errorf("not a session record: %w", err)
	}
	if version.SchemaVersion > SchemaVersion {
		return s, newerError{version.SchemaVersion}
	}
	if err := json.Unmarshal(known, &s); err != nil {
		return s, fmt.Errorf("not a session record: %w", err)
	}
	switch {
	case s.ID != id:
		return s, fmt.Errorf("the record says it is session %q, its name says %q", clip(s.ID, 64), id)
	case s.CreatedAt <= 0 || s.LastAccessedAt <= 0:
		return s, errors.New("createdAt or lastAccessedAt is missing")
	}
	if s.State == "" {
		s.State = Ready
	}
	if len(unknown) > 0 { // a map that was emptied keeps its size
		s.unknown = unknown
	}
	return s, nil
}

// split separates the members of a record that this version knows from the
// others. Package json takes ClientName for clientName; here only the exact
// name is known, or a member that is kept would overwrite another.
func split(data []byte) (known []byte, unknown map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(data, &unknown); err != nil {
		return nil, nil, err
	}
	members := make(map[string]json.RawMessage, len(knownMembers))
	for _, name := range knownMembers {
		if value, ok := unknown[name]; ok {
			members[name] = value
			delete(unknown, name)
		}
	}
	if len(unknown) == 0 { // as in nearly every record
		return data, nil, nil
	}
	known, err = json.Marshal(members)
	return known, unknown, err
}

// clip bounds a foreign text to about limit bytes.
func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
