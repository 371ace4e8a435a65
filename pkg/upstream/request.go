package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
)

// notifyTimeout is for a notification, or a response, to be sent.
const notifyTimeout = 10 * time.Second

// Request is a call to a server.
type Request struct {
	Method string
	Params json.RawMessage // with the names that the server knows
	Target string          // the tool or prompt, for spans and metrics
	Sink   Sink            // takes what the server sends for this call; nil: that of the connection
	Task   bool            // may be answered with a task; its progress goes to the Sink of the connection

	// Modern: the caller speaks a modern version. A modern server gets the request as it is, and the response is not
	// translated for a legacy client.
	Modern bool
	Header http.Header // Mcp-Param-* headers of the caller that the hub does not know

	// Spent, if set, grows by the time in ns that the call waits for others than the hub.
	Spent *atomic.Int64

	// Memory holds the memory of the response until the caller is done with it; nil: no limit. A response for which there
	// is none becomes an error.
	Memory *budget.Hold

	session  string    // public id of the caller's session, for spans
	attempt  int       // at the same request; the first is 0
	identity *Identity // of the caller, where several share the connection; nil: that of the connection
	refused  *refusal  // if set, the call stores here how the server refused it
	addMeta  bool      // the hub adds the members of _meta that a modern request must have

	// tentative: the server may answer with HTTP 404 although it knows the session, because it does not know the method.
	tentative bool
}

// addSpent adds the time since start to Spent.
func (r Request) addSpent(start time.Time) {
	if r.Spent != nil {
		r.Spent.Add(int64(time.Since(start)))
	}
}

// origin is what a call or a server request is made for: the context of the call, with its span and the values of its
// session, and the public id of the session. Both may be unknown.
type origin struct {
	ctx     context.Context //nolint:containedctx // nil: there is no call
	session string
}
