package stream

import (
	"slices"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The limits of what waits for a client that reads slowly.
const (
	maxQueuedMessages = 4096     // on one stream
	maxQueuedBytes    = 16 << 20 // on all streams of a session
)

// MaxStreams is the limit of the GET streams of one session that have a reader, and also of those
// whose reader is lost.
const MaxStreams = 8

// Log owns the streams of a session and limits the memory that they use. A message that waits for a connected reader
// counts as queued. A message that was written, or that waits for a client without connection, counts as kept: the
// client can get it again with a Last-Event-ID. A Log without epoch gives no event ids and keeps nothing. Its methods
// may be called concurrently.
type Log struct {
	*Retention
	epoch  string // random, EpochLength bytes; empty: streams cannot be resumed
	primes bool   // streams begin with an event without a message
	memory memory

	mu            sync.Mutex
	queuedBytes   int64              // of messages that wait for a connected reader
	keptBytes     int64              // of the kept messages
	keptEvents    int                // number of the kept messages
	reportedBytes int64              // the keptBytes that the metric includes
	lastStream    uint64             // number of the newest stream with event ids
	named         map[string]*Stream // streams with event ids, by name
	gets          []*Stream          // GET streams with and without reader, the newest last
	history       history
	timer         *time.Timer // calls expire; nil: nothing can expire
	closed        bool
}

// Retention is the configuration of the logs of all sessions. All fields must be set.
type Retention struct {
	Metrics *Metrics
	Events  int           // limit of the kept events of one session
	Bytes   int64         // limit of their bytes
	Window  time.Duration // for which an event is kept after it was written or its stream lost its reader

	Memory *budget.Budget // for the written messages of all sessions; nil: no limit
}

// NewLog makes a Log. version is the protocol version of the client; what waits for it counts towards its account.
func NewLog(r *Retention, account *budget.Account, epoch, version string) *Log {
	// A client of an older version fails on an event without a message.
	l := &Log{Retention: r, epoch: epoch, primes: version >= "2025-11-25"}
	l.memory.waiting.account = account
	if epoch != "" {
		l.memory.written.account = r.Memory.Account()
	}
	return l
}

// NewPost makes the stream of a POST that gets this many answers. requests are the ids of its
// requests. The stream has a reader from the start.
func (l *Log) NewPost(answers int, requests ...jsonrpc.ID) *Stream {
	return &Stream{log: l, Kind: KindPost, requests: requests, pending: answers, reader: newReader()}
}

// NewGet makes a GET stream with a reader. It returns nil if the session has MaxStreams already.
func (l *Log) NewGet() *Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attached() >= MaxStreams {
		return nil
	}
	s := &Stream{log: l, Kind: KindGet, reader: newReader()}
	l.register(s)
	l.gets = append(l.gets, s)
	return s
}

// The methods attached, register, over, makeRoom, hasRoomToKeep, makeRoomForAnswer, oldestFinished, forget, purge, update
// and boundLost are called with mu held.

// attached counts the GET streams that have a reader.
func (l *Log) attached() (n int) {
	for _, s := range l.gets {
		if s.reader != nil {
			n++
		}
	}
	return n
}

// HasReader reports whether the client reads a GET stream.
func (l *Log) HasReader() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attached() > 0
}

// Send adds a message to the newest GET stream that has a reader. Without such a stream, a message
// that may wait is added to the newest one that lost its reader. If neither is possible Send returns the
// reason for the metric of dropped notifications.
func (l *Log) Send(data []byte, d Delivery) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range slices.Backward(l.gets) {
		if s.reader != nil {
			return s.add(data, d)
		}
	}
	l.purge(time.Now())
	if len(l.gets) == 0 {
		return "no_stream"
	}
	return l.gets[len(l.gets)-1].add(data, d)
}

// register gives s event ids, if it can have them.
func (l *Log) register(s *Stream) {
	if l.epoch == "" || l.closed || s.name != "" || (s.Kind == KindPost && len(s.requests) == 0) {
		return
	}
	l.lastStream++
	if s.name = streamName(l.epoch, l.lastStream, s.requests); s.name == "" {
		return
	}
	if l.named == nil {
		l.named = map[string]*Stream{}
	}
	l.named[s.name] = s
}

// Resume gives the stream of id a new reader, which gets the messages after id and displaces the
// reader that the stream has.
func (l *Log) Resume(id EventID) (*Stream, *Reader, Resumption) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purge(time.Now())
	s := l.named[id.Stream]
	switch {
	case s == nil || id.seq < s.lostSeq:
		return nil, nil, Unknown
	case id.seq > s.lastSeq:
		return nil, nil, Refused
	case s.reader != nil:
		close(s.reader.displaced)
	case s.Kind == KindGet && l.attached() >= MaxStreams:
		return nil, nil, Full
	}
	s.seek(id.seq)
	if i := slices.Index(l.gets, s); i >= 0 { // make it the newest
		l.gets = append(slices.Delete(l.gets, i, i+1), s)
	}
	if s.span != nil {
		s.span.AddEvent("mcphub.stream.resumed")
	}
	l.update()
	return s, s.reader, Replayed
}

// over reports whether the kept events, with so many events and bytes in addition, exceed a limit.
func (l *Log) over(events int, bytes int64) bool {
	return l.keptEvents+events > l.Events || l.keptBytes+bytes > l.Bytes
}

// makeRoom forgets written messages, the oldest first, until so many events and bytes fit.
func (l *Log) makeRoom(events int, bytes int64) {
	for l.over(events, bytes) && l.history.first != nil {
		l.forget(l.history.first)
	}
}

// hasRoomToKeep reports whether the budget of all logs has room for e, which was written. If not, older messages of this
// log make room.
func (l *Log) hasRoomToKeep(e *entry) bool {
	for l.memory.written.reserve(int64(len(e.data))) != nil {
		if l.history.first == nil {
			return false
		}
		l.forget(l.history.first)
		l.memory.settle()
	}
	return true
}

// makeRoomForAnswer makes room for an answer that waits on s. It also drops finished streams without
// reader, the oldest first.
func (l *Log) makeRoomForAnswer(s *Stream) {
	l.makeRoom(0, 0)
	for l.over(0, 0) {
		victim := l.oldestFinished(s)
		if victim == nil {
			return
		}
		victim.drop()
	}
}

// oldestFinished returns the finished stream other than except that has been without reader longest, or nil.
func (l *Log) oldestFinished(except *Stream) (victim *Stream) {
	for _, s := range l.named {
		if s != except && s.reader == nil && s.finished() && (victim == nil || s.touched.Before(victim.touched)) {
			victim = s
		}
	}
	return victim
}

// forget removes e, the oldest event of its stream.
func (l *Log) forget(e *entry) {
	s := e.stream
	s.remove(0)
	if s.reader == nil && s.finished() && len(s.entries) == 0 {
		s.drop()
	}
}

// purge forgets the events and streams that are older than the window.
func (l *Log) purge(now time.Time) {
	for e := l.history.first; e != nil && now.Sub(e.at) >= l.Window; e = l.history.first {
		l.forget(e)
	}
	for _, s := range l.named {
		if s.expires() && now.Sub(s.touched) >= l.Window {
			s.drop()
		}
	}
	l.update()
}

// expire is called by the timer. It forgets what is older than the window.
func (l *Log) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.purge(time.Now())
}

// update accounts for the messages, reports the kept bytes to the metric, and starts the timer if something will expire.
func (l *Log) update() {
	l.memory.settle()
	if l.keptBytes != l.reportedBytes {
		l.Metrics.logBytes.Add(float64(l.keptBytes - l.reportedBytes))
		l.reportedBytes = l.keptBytes
	}
	if l.timer != nil || l.closed {
		return
	}
	var oldest time.Time
	if e := l.history.first; e != nil {
		oldest = e.at
	}
	for _, s := range l.named {
		if s.expires() && (oldest.IsZero() || s.touched.Before(oldest)) {
			oldest = s.touched
		}
	}
	if !oldest.IsZero() {
		l.timer = time.AfterFunc(time.Until(oldest.Add(l.Window)), l.expire) // stopped by Close
	}
}

// Close forgets everything except the messages that wait for a connected reader: the answers to
// the last requests. A Log may be closed before its first use.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	for l.history.first != nil {
		l.forget(l.history.first)
	}
	for _, s := range l.named {
		if s.reader == nil {
			s.drop()
		}
	}
	l.update()
}

// boundLost drops the oldest GET stream without reader if there are more than MaxStreams.
func (l *Log) boundLost() {
	var oldest *Stream
	for _, s := range l.gets {
		if s.reader == nil && (oldest == nil || s.touched.Before(oldest.touched)) {
			oldest = s
		}
	}
	if len(l.gets)-l.attached() > MaxStreams {
		oldest.drop()
	}
}
