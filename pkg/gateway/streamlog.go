package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// What a client that reads slowly may make the hub keep for it.
const (
	streamQueue = 4096     // messages that wait on one stream
	maxQueued   = 16 << 20 // bytes that wait on all streams of a session
)

// maxStreams bounds the GET streams that one session may hold at once, and
// those that it has lost and may still come back for.
const maxStreams = 8

// streamLog owns the streams of a session and bounds what they hold. What waits
// for a client that is there counts as queued. What was written, or waits for a
// client that has lost its connection, counts as kept, and may be read again
// after a Last-Event-ID, specification 2025-11-25, basic/transports,
// resumability. A log without epoch gives no event ids and keeps nothing.
type streamLog struct {
	*retention
	epoch  string // random, of epochLength bytes
	primes bool   // streams begin with an event without a message

	mu      sync.Mutex
	queued  int64 // bytes
	kept    int64 // bytes
	keptN   int   // events
	told    int64 // bytes that the metric says are kept
	made    uint64
	named   map[string]*stream // with event ids, by name
	gets    []*stream          // GET streams, those the client has lost included; the newest is the last
	written chain              // in the order of writing
	timer   *time.Timer        // forgets; nil: there is nothing to forget
	closed  bool
}

// retention says what the logs of all sessions keep, and where it is counted.
type retention struct {
	metrics *streamMetrics
	events  int           // of one session
	bytes   int64         // of one session
	window  time.Duration // since an event was written or its stream was lost
}

// epochLength is the length of the random part of ids, in characters.
const epochLength = 8

// entry is one message on a stream.
type entry struct {
	s      *stream
	seq    int64
	data   []byte
	answer bool
	old    bool      // it was written
	at     time.Time // when

	before, after *entry // in streamLog.written
}

// chain links entries of many streams.
type chain struct{ first, last *entry }

func (c *chain) add(e *entry) {
	e.old, e.at = true, time.Now()
	e.before, e.after = c.last, nil
	if c.last == nil {
		c.first = e
	} else {
		c.last.after = e
	}
	c.last = e
}

func (c *chain) remove(e *entry) {
	if e.before == nil {
		c.first = e.after
	} else {
		e.before.after = e.after
	}
	if e.after == nil {
		c.last = e.before
	} else {
		e.after.before = e.before
	}
	e.old, e.before, e.after = false, nil, nil
}

// newStreamLog makes a log. version is that of the protocol which the client
// speaks.
func newStreamLog(r *retention, epoch, version string) *streamLog {
	// Clients of older versions take an event without a message for a broken one.
	return &streamLog{retention: r, epoch: epoch, primes: version >= "2025-11-25"}
}

// post makes the stream for the answers to some requests of one POST.
// It has a reader from the start.
func (l *streamLog) post(answers int, requests ...jsonrpc.ID) *stream {
	return &stream{log: l, kind: streamPost, requests: requests, pending: answers, reader: newOutlet()}
}

// listen makes a GET stream and its reader. It is nil if there are too many.
func (l *streamLog) listen() *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attached() >= maxStreams {
		return nil
	}
	s := &stream{log: l, kind: streamGet, reader: newOutlet()}
	l.register(s)
	l.gets = append(l.gets, s)
	return s
}

// attached counts the GET streams that are read.
func (l *streamLog) attached() (n int) {
	for _, s := range l.gets {
		if s.reader != nil {
			n++
		}
	}
	return n
}

// listening reports whether the client reads a GET stream.
func (l *streamLog) listening() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attached() > 0
}

// send puts data on the newest GET stream that is read, on that one alone. If
// there is none and the message may be kept, it waits on the newest that was
// lost. It says why if it cannot.
func (l *streamLog) send(data []byte, until reading) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range slices.Backward(l.gets) {
		if s.reader != nil {
			return s.add(data, until)
		}
	}
	l.purge(time.Now())
	if len(l.gets) == 0 {
		return "no_stream"
	}
	return l.gets[len(l.gets)-1].add(data, until)
}

// register gives s event ids, if it may have them.
func (l *streamLog) register(s *stream) {
	if l.epoch == "" || l.closed || s.name != "" || (s.kind == streamPost && len(s.requests) == 0) {
		return
	}
	l.made++
	if s.name = streamName(l.epoch, l.made, s.requests); s.name == "" {
		return
	}
	if l.named == nil {
		l.named = map[string]*stream{}
	}
	l.named[s.name] = s
}

// resumed is what became of a Last-Event-ID.
type resumed string

const (
	resumeReplayed resumed = "replayed"
	resumeUnknown  resumed = "unknown" // nothing is known of the stream, or what the client lacks is gone
	resumeRefused  resumed = "refused" // there was never such an event
	resumeFull     resumed = "full"    // too many GET streams are read
)

// resume gives the stream that id belongs to a new reader, which displaces the
// one it has and gets what came after id.
func (l *streamLog) resume(id eventID) (*stream, *outlet, resumed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purge(time.Now())
	s := l.named[id.stream]
	switch {
	case s == nil || id.seq < s.lost:
		return nil, nil, resumeUnknown
	case id.seq > s.last:
		return nil, nil, resumeRefused
	case s.reader != nil:
		close(s.reader.displaced)
	case s.kind == streamGet && l.attached() >= maxStreams:
		return nil, nil, resumeFull
	}
	s.seek(id.seq)
	if i := slices.Index(l.gets, s); i >= 0 { // the newest again
		l.gets = append(slices.Delete(l.gets, i, i+1), s)
	}
	if s.span != nil {
		s.span.AddEvent("mcphub.stream.resumed")
	}
	l.settle()
	return s, s.reader, resumeReplayed
}

// over reports whether more is kept than may be, with so much in addition.
func (l *streamLog) over(events int, bytes int64) bool {
	return l.keptN+events > l.events || l.kept+bytes > l.bytes
}

// shed forgets what was written, the oldest first, until there is room.
func (l *streamLog) shed(events int, bytes int64) {
	for l.over(events, bytes) && l.written.first != nil {
		l.forget(l.written.first)
	}
}

// trim makes room for an answer that waits on s: also streams go that are
// finished and that nobody has come back for.
func (l *streamLog) trim(s *stream) {
	l.shed(0, 0)
	for l.over(0, 0) {
		victim := l.leastWanted(s)
		if victim == nil {
			return
		}
		victim.drop()
	}
}

func (l *streamLog) leastWanted(except *stream) (victim *stream) {
	for _, s := range l.named {
		if s != except && s.reader == nil && s.finished() && (victim == nil || s.touched.Before(victim.touched)) {
			victim = s
		}
	}
	return victim
}

// forget takes the oldest event from a stream.
func (l *streamLog) forget(e *entry) {
	s := e.s
	s.remove(0)
	if s.reader == nil && s.finished() && len(s.entries) == 0 {
		s.drop()
	}
}

// purge forgets what is older than the window.
func (l *streamLog) purge(now time.Time) {
	for e := l.written.first; e != nil && now.Sub(e.at) >= l.window; e = l.written.first {
		l.forget(e)
	}
	for _, s := range l.named {
		if s.perishable() && now.Sub(s.touched) >= l.window {
			s.drop()
		}
	}
	l.settle()
}

// expire is what the timer calls.
func (l *streamLog) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.purge(time.Now())
}

// settle tells the metric what is kept, and sets the timer where something
// will have to be forgotten.
func (l *streamLog) settle() {
	if l.kept != l.told {
		l.metrics.logBytes.Add(float64(l.kept - l.told))
		l.told = l.kept
	}
	if l.timer != nil || l.closed {
		return
	}
	var oldest time.Time
	if e := l.written.first; e != nil {
		oldest = e.at
	}
	for _, s := range l.named {
		if s.perishable() && (oldest.IsZero() || s.touched.Before(oldest)) {
			oldest = s.touched
		}
	}
	if !oldest.IsZero() {
		l.timer = time.AfterFunc(time.Until(oldest.Add(l.window)), l.expire) // stopped by close
	}
}

// close forgets everything but what waits for a client that is reading: the
// answers of its last calls.
func (l *streamLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	for l.written.first != nil {
		l.forget(l.written.first)
	}
	for _, s := range l.named {
		if s.reader == nil {
			s.drop()
		}
	}
	l.settle()
}

// lose bounds the GET streams that the client may still come back for.
func (l *streamLog) lose() {
	var oldest *stream
	for _, s := range l.gets {
		if s.reader == nil && (oldest == nil || s.touched.Before(oldest.touched)) {
			oldest = s
		}
	}
	if len(l.gets)-l.attached() > maxStreams {
		oldest.drop()
	}
}
