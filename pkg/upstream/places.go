package upstream

import (
	"sync/atomic"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// places limits the connections of single clients to all servers together: each takes file descriptors, which the shared
// servers and the disk need, too. Nil places have no limit. They may be used concurrently.
type places struct {
	limit int64
	taken atomic.Int64
}

func newPlaces(limit int) *places {
	if limit <= 0 {
		return nil
	}
	return &places{limit: int64(limit)}
}

// take takes a place. It fails if there is none.
func (p *places) take() error {
	if p == nil {
		return nil
	}
	if p.taken.Add(1) > p.limit {
		p.taken.Add(-1)
		return jsonrpc.Errorf(jsonrpc.CodeInternal, "the hub has %d connections of single clients to servers already, as many as its "+
			"file descriptors allow (ulimit -n); try again later", p.limit)
	}
	return nil
}

// leave gives a place back.
func (p *places) leave() {
	if p != nil {
		p.taken.Add(-1)
	}
}
