package gateway

import (
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// stream is a sequence of messages to a client that outlives the connection it
// is written to. It has one reader at most, and remembers what that has written.
// The stream of a POST ends with the last of its answers. All of it is guarded
// by the log's mutex, and all methods but add and the ones after it take that.
type stream struct {
	log      *streamLog
	kind     string
	requests []jsonrpc.ID // whose answers it brings
	status   int          // of HTTP, if the answer is all there is; 0: 200. Set before the answer
	name     string       // of its event ids; "": it has none

	entries []*entry // those that were written come first
	old     int      // how many were written
	oldSize int64    // bytes that were written
	newSize int64    // bytes that wait
	last    int64    // sequence number of the newest message
	lost    int64    // sequence number of the newest answer that is not kept any more
	pending int      // answers that are still to come
	said    bool     // there is something besides answers
	heard   bool     // there is an answer
	known   bool     // the client may know one of its event ids
	gone    bool     // nobody will ever read it
	reader  *outlet  // nil: the client has lost it
	touched time.Time
	span    trace.Span // of the call that it belongs to
}

// outlet is the connection that a stream is written to.
type outlet struct {
	wake      chan struct{} // there is something to do
	displaced chan struct{} // closed: another one reads now
}

func newOutlet() *outlet {
	return &outlet{wake: make(chan struct{}, 1), displaced: make(chan struct{})}
}

// reading says whether a message may wait for a client that is not there.
type reading bool

const (
	readNow reading = true
	orKept  reading = false
)

// push adds a message that is no answer, and says why if it cannot.
func (s *stream) push(data []byte, until reading) (reason string) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.add(data, until)
}

// answer adds an answer, for which there is always room; nil if there is none.
func (s *stream) answer(data []byte) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	s.pending--
	if s.touched = time.Now(); s.pending == 0 {
		s.span = nil
	}
	if s.gone {
		return
	}
	if data != nil {
		s.heard = true
		s.append(data, true)
	}
	if s.reader == nil && s.finished() && len(s.entries) == 0 {
		s.drop()
	} else if s.reader == nil {
		l.trim(s)
	}
	s.wakeUp()
	l.settle()
}

// begin notes that the stream is written as events, and returns the id of the
// event that comes before all messages; "" if there is to be none.
func (s *stream) begin() string {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.register(s)
	if s.name == "" || !l.primes {
		return ""
	}
	s.known = true
	return s.name + ".0"
}

// progress reports what there is to be written: something besides answers, all
// answers.
func (s *stream) progress() (said, finished bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.said, s.finished()
}

// answers returns the messages there are.
func (s *stream) answers() [][]byte {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	all := make([][]byte, len(s.entries))
	for i, e := range s.entries {
		all[i] = e.data
	}
	return all
}

// next returns the next message that rd is to write and the id of its event;
// nil if there is none now, and then why the reading ends, if it does.
func (s *stream) next(rd *outlet) (e *entry, id, why string) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	switch {
	case s.reader != rd:
		return nil, "", closedDisplaced
	case s.old < len(s.entries):
		e = s.entries[s.old]
		if s.name != "" {
			s.known = true
			id = s.name + "." + strconv.FormatInt(e.seq, 10)
		}
		return e, id, ""
	case s.finished() && s.heard:
		return nil, "", closedAnswered
	case s.finished():
		return nil, "", closedCancelled
	}
	return nil, "", ""
}

// wrote notes that rd has written e, which next returned.
func (s *stream) wrote(rd *outlet, e *entry) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.reader != rd {
		return
	}
	if s.name == "" || l.closed || int64(len(e.data)) > l.bytes { // it does not push out all else
		s.remove(s.old)
	} else {
		s.leave()
		s.old++
		s.newSize -= int64(len(e.data))
		s.oldSize += int64(len(e.data))
		l.written.add(e)
		s.join()
		l.shed(0, 0)
	}
	l.settle()
}

// detach takes rd from the stream. What is not read may be read by the next
// one, if there can be one.
func (s *stream) detach(rd *outlet) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.reader != rd {
		return
	}
	s.leave()
	s.reader = nil
	s.touched = time.Now()
	s.join()
	if s.name == "" || !s.known || l.closed || (s.finished() && len(s.entries) == 0) {
		s.drop()
		l.settle()
		return
	}
	l.shed(0, 0)
	for l.over(0, 0) && len(s.entries) > 0 && !s.entries[0].answer { // a reader so slow that it left more than is kept
		s.remove(0)
		l.metrics.dropped("slow_reader")
	}
	l.trim(s)
	if s.kind == streamGet {
		l.lose()
	}
	l.settle()
}

// belongs notes the span of the call that the stream belongs to.
func (s *stream) belongs(span trace.Span) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.span = span
}

// add is push with the mutex held, as is what follows.
func (s *stream) add(data []byte, until reading) (reason string) {
	l, size := s.log, int64(len(data))
	switch {
	case s.gone || s.finished() || (s.reader == nil && until == readNow):
		return "no_stream"
	case s.reader != nil:
		if waiting := len(s.entries) - s.old; waiting > 0 && (waiting >= streamQueue || l.queued+size > maxQueued) {
			return "slow_reader"
		}
	default:
		l.shed(1, size)
		l.settle()
		if l.over(1, size) {
			return "slow_reader"
		}
	}
	s.said = true
	s.touched = time.Now()
	s.append(data, false)
	s.wakeUp()
	l.settle()
	return ""
}

func (s *stream) append(data []byte, answer bool) {
	s.leave()
	s.last++
	s.newSize += int64(len(data))
	s.entries = append(s.entries, &entry{s: s, seq: s.last, data: data, answer: answer})
	s.join()
}

// remove forgets the message with that index.
func (s *stream) remove(i int) {
	s.leave()
	e := s.entries[i]
	if e.answer {
		s.lost = e.seq
	}
	if i < s.old {
		s.old--
		s.oldSize -= int64(len(e.data))
		s.log.written.remove(e)
	} else {
		s.newSize -= int64(len(e.data))
	}
	if i == 0 { // the common case costs nothing
		s.entries[0] = nil
		s.entries = s.entries[1:]
	} else {
		s.entries = slices.Delete(s.entries, i, i+1)
	}
	if len(s.entries) == 0 {
		s.entries = nil
	}
	s.join()
}

// seek gives the stream a new reader that gets what came after seq.
func (s *stream) seek(seq int64) {
	s.leave()
	s.reader = newOutlet()
	s.old, s.oldSize, s.newSize = 0, 0, 0
	for _, e := range s.entries {
		size := int64(len(e.data))
		if e.seq > seq {
			if e.old {
				s.log.written.remove(e)
			}
			s.newSize += size
			continue
		}
		if !e.old {
			s.log.written.add(e)
		}
		s.old++
		s.oldSize += size
	}
	s.join()
}

// drop forgets the stream.
func (s *stream) drop() {
	l := s.log
	if s.kind == streamGet && s.name != "" && !l.closed {
		for range len(s.entries) - s.old {
			l.metrics.dropped("no_stream")
		}
	}
	s.leave()
	for _, e := range s.entries[:s.old] {
		l.written.remove(e)
	}
	s.entries, s.old, s.oldSize, s.newSize = nil, 0, 0, 0
	s.gone = true
	delete(l.named, s.name)
	if i := slices.Index(l.gets, s); i >= 0 {
		l.gets = slices.Delete(l.gets, i, i+1)
	}
}

// leave takes what the stream holds out of the log's sums, and join puts it in.
func (s *stream) leave() { s.count(-1) }
func (s *stream) join()  { s.count(1) }

func (s *stream) count(sign int) {
	l, by := s.log, int64(sign)
	l.kept += by * s.oldSize
	l.keptN += sign * s.old
	if s.reader != nil {
		l.queued += by * s.newSize
		return
	}
	l.kept += by * s.newSize
	l.keptN += sign * (len(s.entries) - s.old)
}

func (s *stream) wakeUp() {
	if s.reader == nil {
		return
	}
	select {
	case s.reader.wake <- struct{}{}:
	default:
	}
}

// finished reports whether the last answer is there.
func (s *stream) finished() bool { return s.kind == streamPost && s.pending == 0 }

// perishable reports whether the stream is kept for a client that may not come
// back. What a call is still to answer is not: the call is bounded.
func (s *stream) perishable() bool { return s.reader == nil && (s.kind == streamGet || s.pending == 0) }
