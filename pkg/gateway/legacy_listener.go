package gateway

import (
	"context"
	"errors"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
)

// listener prepares the session for a GET stream: it sends what needs one. The caller calls stop after the
// stream has ended.
func (cs *clientSession) listener() (_ *stream.Listener, stop func()) {
	cs.learnRoots(false)
	cs.reconnect()
	p := &pinger{cs: cs}
	return &stream.Listener{
		Ended:    cs.ctx.Done(),
		Shutdown: func() bool { return errors.Is(context.Cause(cs.ctx), errStopping) },
		Pinger:   p,
	}, p.stop
}
