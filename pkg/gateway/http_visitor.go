package gateway

import (
	"net/http"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// maxStrangerBody is the length of the body that is read of a request whose session does not exist, so that the answer
// has the id of the request. The body of a longer one is not read.
const maxStrangerBody = 16 << 10

// visitor is a POST before its message is known: whose it is, and the memory of its body.
type visitor struct {
	cs    *clientSession // nil: there is none
	lease *session.Lease // of cs
	err   error          // why there is none although the request names one
	body  budget.Hold
}

// lookUp finds the session that a POST names, before its body is read.
func (d *door) lookUp(r *http.Request, v *visitor) {
	token := r.Header.Get(protocol.HeaderSessionID)
	if token != "" && r.Header.Get(protocol.HeaderProtocolVersion) < protocol.ModernVersion {
		v.cs, v.lease, v.err = d.open(r, token)
	}
	if v.cs != nil {
		v.body.On(v.cs.memory)
	} else {
		v.body.Alone(d.cfg.Memory)
	}
}

// keep passes the lease on: leave does not release it any more.
func (v *visitor) keep() *session.Lease {
	lease := v.lease
	v.lease = nil
	return lease
}

// leave releases what the visitor has.
func (v *visitor) leave() {
	v.body.Release()
	if v.lease != nil {
		v.lease.Release()
	}
}

// admit reports whether the visitor has a session. If not, it answers the request.
func (d *door) admit(w http.ResponseWriter, r *http.Request, m jsonrpc.Message, v *visitor) bool {
	if v.err != nil {
		d.refuseSession(w, m, v.err)
		return false
	}
	_, ok := d.sessionToken(w, r, m)
	return ok
}
