package gateway

import (
	"sync"
	"sync/atomic"
)

// What a client that reads slowly may make the hub keep for it.
const (
	streamQueue = 4096     // messages of one stream
	maxQueued   = 16 << 20 // bytes of all streams of a session
)

// queue holds the messages of one stream until its reader takes them. A burst
// fits in, and memory is taken only while it lasts.
type queue struct {
	ready  chan struct{} // tells the reader that there is something
	queued *atomic.Int64 // bytes of the session's queues together

	mu       sync.Mutex
	messages [][]byte
}

func newQueue(queued *atomic.Int64) *queue {
	return &queue{ready: make(chan struct{}, 1), queued: queued}
}

// push reports false if there is too much already. A single message always
// fits.
func (q *queue) push(m []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.messages) > 0 && (len(q.messages) >= streamQueue || q.queued.Load()+int64(len(m)) > maxQueued) {
		return false
	}
	q.queued.Add(int64(len(m)))
	q.messages = append(q.messages, m)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits, and leaves nothing.
func (q *queue) take() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.messages
	q.messages = nil
	for _, m := range taken {
		q.queued.Add(-int64(len(m)))
	}
	return taken
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.messages)
}
