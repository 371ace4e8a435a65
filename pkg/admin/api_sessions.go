package admin

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// Session is one client session, as GET /api/v1/sessions/{sessionId} returns
// it: the stored record without its secrets, and its state in this process.
// Times are in ms since 1970.
type Session struct {
	SessionID       string                     `json:"sessionId"` // the public half of the id
	Kind            string                     `json:"kind"`      // protocol or derived; "": the hub knows no kinds
	State           session.State              `json:"state"`
	ClientName      string                     `json:"clientName,omitempty"`
	ClientVersion   string                     `json:"clientVersion,omitempty"`
	ProtocolVersion string                     `json:"protocolVersion,omitempty"` // negotiated
	Capabilities    json.RawMessage            `json:"capabilities,omitempty"`    // of the client
	Cwd             string                     `json:"cwd,omitempty"`
	Project         string                     `json:"project,omitempty"`
	UserAgent       string                     `json:"userAgent,omitempty"`
	IP              string                     `json:"ip,omitempty"`
	Principal       string                     `json:"principal,omitempty"`
	CreatedAt       int64                      `json:"createdAt"`
	LastAccessedAt  int64                      `json:"lastAccessedAt"`
	ExpiresAt       int64                      `json:"expiresAt,omitempty"` // 0: never
	InFlight        int                        `json:"inFlight"`            // open requests and streams
	Requests        int64                      `json:"requests"`            // requests and streams since the hub started
	Dirty           bool                       `json:"dirty"`               // the stored copy is stale
	LogLevel        string                     `json:"logLevel,omitempty"`
	Subscriptions   []string                   `json:"subscriptions,omitempty"` // URIs, redacted
	Upstreams       []string                   `json:"upstreams,omitempty"`     // names of servers
	Metadata        map[string]json.RawMessage `json:"metadata,omitempty"`

	// Raw is the object as the hub sent it, with members that this version does
	// not know. Only a decoded Session has it.
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON decodes data and keeps a copy of it in Raw.
func (s *Session) UnmarshalJSON(data []byte) error {
	type members Session // without this method
	if err := json.Unmarshal(data, (*members)(s)); err != nil {
		return err
	}
	s.Raw = append(json.RawMessage(nil), data...)
	return nil
}

// SessionList is the answer to GET /api/v1/sessions: one page of sessions, in
// the order of their ids.
type SessionList struct {
	Count     int       `json:"count"`          // loaded sessions of the kind, on all pages
	Next      string    `json:"next,omitempty"` // SessionQuery.After of the next page; "": this is the last one
	Restoring int       `json:"restoring"`      // stored sessions that are not loaded yet
	Sessions  []Session `json:"sessions"`
}

// SessionQuery selects a page of the sessions. The zero value selects all.
type SessionQuery struct {
	After string // sessions whose ids are greater
	Limit int    // length of the page; 0: no limit
	Kind  string // protocol or derived; "": both
}

func (q SessionQuery) encode() string {
	v := url.Values{}
	if q.After != "" {
		v.Set("after", q.After)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Kind != "" {
		v.Set("kind", q.Kind)
	}
	return v.Encode()
}

func parseSessionQuery(v url.Values) (q SessionQuery, err error) {
	q = SessionQuery{After: v.Get("after"), Kind: v.Get("kind")}
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 {
			return q, errors.New("limit must be a positive number")
		}
	}
	return q, nil
}

// kinds returns the kinds that q selects; none stands for all.
func (q SessionQuery) kinds() ([]session.Kind, error) {
	if q.Kind == "" {
		return nil, nil
	}
	var kind session.Kind
	if err := kind.UnmarshalText([]byte(q.Kind)); err != nil {
		return nil, err
	}
	return []session.Kind{kind}, nil
}
