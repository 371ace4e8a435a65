package admin

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// Sessions returns one page of the sessions.
func (c *Client) Sessions(ctx context.Context, query SessionQuery) (SessionList, error) {
	var list SessionList
	err := c.do(ctx, get("list sessions", "/api/v1/sessions?"+query.encode()), &list)
	return list, err
}

// sessionPage is the number of sessions that AllSessions gets with one call.
const sessionPage = 5000

// AllSessions returns all sessions of a kind, or of both if kind is "". It makes
// one call for each page, so sessions that begin or end meanwhile may be missing
// or be there. Count and Restoring are those of the last page.
func (c *Client) AllSessions(ctx context.Context, kind string) (SessionList, error) {
	var all []Session
	for query := (SessionQuery{Limit: sessionPage, Kind: kind}); ; {
		page, err := c.Sessions(ctx, query)
		if err != nil {
			return SessionList{}, err
		}
		all = append(all, page.Sessions...)
		if query.After = page.Next; query.After == "" {
			page.Sessions = all
			return page, nil
		}
	}
}

// Session returns one session.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	var s Session
	err := c.do(ctx, get("get session "+id, sessionPath(id)), &s)
	return s, err
}

// EndSession ends one session: its streams are closed and its calls cancelled.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.do(ctx, call{op: "end session " + id, method: http.MethodDelete, path: sessionPath(id)}, nil)
}

// PatchMetadata merges patch into the metadata of a session and returns the
// session after the change. A value of null removes its key.
func (c *Client) PatchMetadata(ctx context.Context, id string, patch map[string]json.RawMessage) (Session, error) {
	var s Session
	err := c.do(ctx, call{op: "change the metadata of session " + id, method: http.MethodPatch,
		path: sessionPath(id) + "/metadata", body: patch}, &s)
	return s, err
}

// SessionEvents returns the last events of one session, oldest first. The hub
// keeps them for a while after the session has ended.
func (c *Client) SessionEvents(ctx context.Context, id string) (EventList, error) {
	var list EventList
	err := c.do(ctx, get("get the events of session "+id, sessionPath(id)+"/events"), &list)
	return list, err
}

// Upstreams returns all configured servers.
func (c *Client) Upstreams(ctx context.Context) (UpstreamList, error) {
	var list UpstreamList
	err := c.do(ctx, get("list servers", "/api/v1/upstreams"), &list)
	return list, err
}

// Upstream returns one configured server.
func (c *Client) Upstream(ctx context.Context, name string) (Upstream, error) {
	var u Upstream
	err := c.do(ctx, get("get server "+name, "/api/v1/upstreams/"+url.PathEscape(name)), &u)
	return u, err
}

// RefreshUpstream has the lists of one server read again, and returns the server as it is then.
func (c *Client) RefreshUpstream(ctx context.Context, name string) (Upstream, error) {
	var u Upstream
	err := c.do(ctx, call{op: "refresh server " + name, method: http.MethodPost,
		path: "/api/v1/upstreams/" + url.PathEscape(name) + "/refresh"}, &u)
	return u, err
}

// LogLevels returns the log levels of all subsystems.
func (c *Client) LogLevels(ctx context.Context) (LogLevelList, error) {
	var list LogLevelList
	err := c.do(ctx, get("get the log levels", "/api/v1/log-levels"), &list)
	return list, err
}

// SetLogLevels changes log levels, by name of the subsystem, and returns the
// levels of all subsystems after the change. It changes all or, on an error,
// none. If d is not 0, the hub restores the levels from before after d.
func (c *Client) SetLogLevels(ctx context.Context, levels map[string]string, d time.Duration) (LogLevelList, error) {
	const op = "set log levels"
	if _, ok := levels[durationMember]; ok {
		return LogLevelList{}, &Error{Op: op, Err: errors.New(`"for" is not a subsystem; pass the duration as an argument`)}
	}
	body := maps.Clone(levels)
	if d != 0 {
		body[durationMember] = d.String()
	}
	var list LogLevelList
	err := c.do(ctx, call{op: op, method: http.MethodPut, path: "/api/v1/log-levels", body: body}, &list)
	return list, err
}
