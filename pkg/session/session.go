// Package session manages the client sessions of the hub: it holds them in
// memory, writes changed ones to a store in batches, and ends expired ones.
//
//	Create -> initializing -> ready -> ended{reason}
//	             |              |
//	             +--Update, Touch--> dirty --Flush--> stored --Restore--> ready
//
// Durability. Create, End and UpdateDurably return after the change is on stable
// storage. Every other change is written within Config.FlushInterval of the first
// change, many sessions in one batch. Derived sessions, which count requests that
// carry no session id (see Manager.AcquireDerived), are in memory only.
//
// Ownership. The [Manager] owns all sessions, their events and the running half
// of each ([Live]). A session outlives the process: it lasts until it is ended,
// and Close leaves its record in the store. A [Lease] lasts as long as one
// request or stream; a leased session does not become idle. Events are kept for
// live sessions and for the last 256 ended ones of each [Kind]. Messages are not
// kept: a [Tail] gets them as they happen.
//
// Goroutines. New starts none. Run has three loops: one flushes, one ends expired
// sessions, and one loads the sessions that Restore found, with 4 workers, until
// all are loaded. In addition each write to the store runs in a goroutine of its
// own, so that a write that hangs blocks no caller for longer than
// Config.WriteTimeout. All other methods run on the goroutines of their callers.
//
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
)

// SchemaVersion is the version of the records this package writes.
const SchemaVersion = 1

// State is the state of a live session.
type State string

// The states. There is none for an ended session: it is removed.
const (
	Initializing State = "initializing"
	Ready        State = "ready"
)

// Reason says why a session ended.
type Reason string

// The reasons. They are also the values of the label reason of
// mcphub_sessions_closed_total.
const (
	ClientDelete Reason = "client_delete" // the client sent DELETE
	Disconnect   Reason = "disconnect"    // the client initialized a new session
	IdleTimeout  Reason = "idle_timeout"
	MaxLifetime  Reason = "max_lifetime"
	Evicted      Reason = "evicted"
	InitFailed   Reason = "init_failed"
	BackendLost  Reason = "backend_lost"
	Admin        Reason = "admin"
	Shutdown     Reason = "shutdown" // the process stops; the stored session remains
)

// Reasons returns every Reason.
func Reasons() []Reason {
	return []Reason{ClientDelete, Disconnect, IdleTimeout, MaxLifetime, Evicted, InitFailed, BackendLost, Admin, Shutdown}
}

// Session is the record of one client session, as it is stored. It is a value;
// its maps and slices are shared and must not be changed except inside
// Manager.Update.
type Session struct {
	Kind            Kind                       `json:"-"`         // not stored: every stored session is of kind Protocol
	ID              string                     `json:"sessionId"` // public: used in file names, logs and spans
	ClientName      string                     `json:"clientName,omitempty"`
	ClientVersion   string                     `json:"clientVersion,omitempty"`
	ProtocolVersion string                     `json:"protocolVersion,omitempty"` // negotiated
	Capabilities    json.RawMessage            `json:"capabilities,omitempty"`    // the client's
	Cwd             string                     `json:"cwd,omitempty"`
	Project         string                     `json:"project,omitempty"`
	UserAgent       string                     `json:"userAgent,omitempty"`
	IP              string                     `json:"ip,omitempty"`
	CreatedAt       int64                      `json:"createdAt"`      // Unix time, ms
	LastAccessedAt  int64                      `json:"lastAccessedAt"` // Unix time, ms
	Metadata        map[string]json.RawMessage `json:"metadata"`

	SchemaVersion int                 `json:"schemaVersion,omitempty"` // 0: written by mcp-hub-lite
	TokenHash     string              `json:"tokenHash,omitempty"`     // hex SHA-256 of the verifier; empty: imported, no verifier
	Principal     string              `json:"principal,omitempty"`     // who created it; empty: anonymous
	State         State               `json:"state,omitempty"`         // empty: ready
	LogLevel      string              `json:"logLevel,omitempty"`
	Subscriptions []string            `json:"subscriptions,omitempty"` // resource URIs
	Upstreams     map[string]Upstream `json:"upstreams,omitempty"`     // by server name
	Clock         *Reading            `json:"clock,omitempty"`         // only in the stored form

	unknown map[string]json.RawMessage // members of the record that this version does not know
}

// Upstream is the session at an upstream server that belongs to a client session.
type Upstream struct {
	SessionID       string `json:"sessionId,omitempty"`
	ProtocolVersion string `json:"protocolVersion,omitempty"`
}

// LogValue returns the attributes that identify the session, and no secret.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", s.ID), slog.String("client", s.ClientName), slog.String("version", s.ClientVersion),
		slog.String("protocol", s.ProtocolVersion))
}

// clone returns a copy whose maps and slices the callback of Update may change.
func (s Session) clone() Session {
	s.Metadata = maps.Clone(s.Metadata)
	s.Upstreams = maps.Clone(s.Upstreams)
	s.Subscriptions = slices.Clone(s.Subscriptions)
	return s
}

// encode returns the stored form of s, including the members that this version
// does not know.
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
	// Marshal checks the nesting of each raw member separately. A member just below
	// the limit exceeds it inside the record, which could then not be read again.
	if bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) > 1000 && !json.Valid(b) {
		return nil, errors.New("the record would be nested too deeply")
	}
	return b, nil
}

// marshal is json.Marshal without HTML escaping, which can make a record several
// times as large as its content.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// CheckRecord returns nil if data can be loaded as the stored record of the
// session id, otherwise the reason why not.
func CheckRecord(id string, data []byte) error {
	_, err := decode(id, data)
	return err
}

// newerError is the error for a record that a later version of mcphub wrote.
type newerError struct{ version int }

func (e newerError) Error() string {
	return fmt.Sprintf("the record has schema version %d, this mcphub reads versions up to %d: left untouched",
		e.version, SchemaVersion)
}

// decode reads the stored form of the session id. A record of mcp-hub-lite has
// no schema version and is read in the same way.
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
		return s, fmt.Errorf("the record has the session id %q, but its key is %q", clip(s.ID, 64), id)
	case s.CreatedAt <= 0 || s.LastAccessedAt <= 0:
		return s, errors.New("createdAt or lastAccessedAt is missing")
	}
	if s.State == "" {
		s.State = Ready
	}
	if len(unknown) > 0 { // otherwise drop the map: one that was emptied keeps its memory
		s.unknown = unknown
	}
	return s, nil
}

// split separates the members of a record that this version knows from the
// others. It compares names exactly: encoding/json would read ClientName as
// clientName, so an unknown member would overwrite a known one.
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

// clip cuts a text from outside to about limit bytes.
func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
