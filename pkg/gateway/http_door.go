package gateway

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// door is the HTTP side of the gateway: it reads requests, checks them, and hands messages to their era. Its
// methods may be called concurrently.
type door struct {
	*core
	legacy *legacySessions
	modern *modernEndpoint
}

// accepts reports whether the Accept header of r includes a media type.
func accepts(r *http.Request, want string) bool {
	group, _, _ := strings.Cut(want, "/")
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err == nil && params["q"] != "0" && (kind == want || kind == "*/*" || kind == group+"/*") {
				return true
			}
		}
	}
	return false
}

// checkHeaders rejects duplicate MCP headers and unsupported protocol versions, and reports whether there are none. A
// client without a version header uses the version of its session.
func (d *door) checkHeaders(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
	for _, name := range []string{protocol.HeaderSessionID, protocol.HeaderProtocolVersion} {
		if len(r.Header.Values(name)) > 1 {
			d.refuse(w, http.StatusBadRequest, m, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "there is more than one %s header", name))
			return false
		}
	}
	version := r.Header.Get(protocol.HeaderProtocolVersion)
	if version == "" || slices.Contains(protocol.LegacyVersions(), version) {
		return true
	}
	d.refuse(w, http.StatusBadRequest, m, unsupportedVersion(version))
	return false
}

// sessionToken returns the session header. It rejects a request without one.
func (d *door) sessionToken(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (string, bool) {
	token := r.Header.Get(protocol.HeaderSessionID)
	if token == "" {
		d.refuse(w, http.StatusBadRequest, m, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"the Mcp-Session-Id header is missing; send initialize first and repeat the id it returns"))
	}
	return token, token != ""
}

// acquire leases the session of a request. If there is none, acquire answers the request.
func (d *door) acquire(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (*session.Lease, bool) {
	token, ok := d.sessionToken(w, r, m)
	if !ok {
		return nil, false
	}
	lease, err := d.cfg.Sessions.Acquire(r.Context(), token, d.principal(r))
	if err != nil {
		d.refuseSession(w, m, err)
		return nil, false
	}
	return lease, true
}

// enter returns the live half of the session of a request. The caller releases the lease. If there is no session, enter
// answers the request.
func (d *door) enter(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) (*clientSession, *session.Lease, bool) {
	token, ok := d.sessionToken(w, r, m)
	if !ok {
		return nil, nil, false
	}
	cs, lease, err := d.open(r, token)
	if err != nil {
		d.refuseSession(w, m, err)
		return nil, nil, false
	}
	return cs, lease, true
}

// open returns the live half of the session with that token. The caller releases the lease.
func (d *door) open(r *http.Request, token string) (*clientSession, *session.Lease, error) {
	lease, err := d.cfg.Sessions.Acquire(r.Context(), token, d.principal(r))
	if err != nil {
		return nil, nil, err
	}
	live, err := lease.Live(r.Context())
	if err != nil {
		lease.Release()
		return nil, nil, err
	}
	return live.(*clientSession), lease, nil //nolint:forcetypeassert // Open returns no other type
}
