package stream

import (
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Stream is a sequence of messages to a client that outlives the connection it is written to. It has at most one
// reader, and keeps what the reader has written. The stream of a POST ends with the last of its answers. The mutex of
// the log guards all fields except Kind, requests and Status. Its exported methods may be called concurrently.
type Stream struct {
	log      *Log
	Kind     string       // KindGet or KindPost
	requests []jsonrpc.ID // the requests that its answers are for
	Status   int          // HTTP status if the answer is the only message; 0: 200. Set it before the answer
	name     string       // first part of its event ids; empty: it has none

	entries      []*entry   // the written ones first
	written      int        // number of written entries
	writtenBytes int64      // of written entries
	waitingBytes int64      // of entries that are not written
	lastSeq      int64      // sequence number of the newest message
	lostSeq      int64      // sequence number of the newest answer that is no longer kept
	pending      int        // number of answers to come
	hasMessages  bool       // there was a message that is no answer
	hasAnswer    bool       // there was an answer
	idKnown      bool       // the client may know one of the event ids
	dropped      bool       // it was removed from the log and can have no reader any more
	reader       *Reader    // nil: the client has lost its connection
	touched      time.Time  // when a message was added or the reader was lost
	span         trace.Span // of the request that it belongs to; nil: none, or ended
}

// Reader is the connection that reads a Stream.
type Reader struct {
	wake      chan struct{} // receives when there is something to write
	displaced chan struct{} // closed when another Reader has taken over
}

// newReader makes the reader of a new connection.
func newReader() *Reader {
	return &Reader{wake: make(chan struct{}, 1), displaced: make(chan struct{})}
}

// Delivery says what to do with a message if no reader is connected.
type Delivery bool

// The deliveries.
const (
	ReadNow Delivery = true  // refuse it
	MayWait Delivery = false // keep it for a reader that resumes the stream
)

// Push adds a message that is not an answer. If that is not possible it returns the reason for the metric of dropped
// notifications. Push keeps data.
func (s *Stream) Push(data []byte, d Delivery) (reason string) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.add(data, d)
}

// Reserve makes room for an answer of so many bytes, before it is added. An error means that the session of the client
// has no memory for it; a short answer that says so fits nevertheless.
func (s *Stream) Reserve(size int) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.memory.waiting.reserve(int64(size))
}

// Answer adds an answer, which always fits. A nil answer counts, but is not written: the request
// was cancelled. Answer keeps data.
func (s *Stream) Answer(data []byte) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	s.pending--
	if s.touched = time.Now(); s.pending == 0 {
		s.span = nil
	}
	if s.dropped {
		l.update()
		return
	}
	if data != nil {
		s.hasAnswer = true
		s.append(data, true)
	}
	if s.reader == nil && s.finished() && len(s.entries) == 0 {
		s.drop()
	} else if s.reader == nil {
		l.makeRoomForAnswer(s)
	}
	s.wakeReader()
	l.update()
}

// begin is called when the stream is written as events. It returns the id of the event without
// message that comes first, or an empty string if there is to be none.
func (s *Stream) begin() string {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.register(s)
	if s.name == "" || !l.primes {
		return ""
	}
	s.idKnown = true
	return s.name + ".0"
}

// progress reports whether there was a message that is no answer, and whether all answers are
// there.
func (s *Stream) progress() (hasMessages, finished bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.hasMessages, s.finished()
}

// Messages returns all messages that are kept or wait.
func (s *Stream) Messages() [][]byte {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	all := make([][]byte, len(s.entries))
	for i, e := range s.entries {
		all[i] = e.data
	}
	return all
}

// next returns the next message that rd has to write and its event id. If there is none it returns
// nil, and the reason if none will come.
func (s *Stream) next(rd *Reader) (e *entry, id string, why Reason) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	switch {
	case s.reader != rd:
		return nil, "", Displaced
	case s.written < len(s.entries):
		e = s.entries[s.written]
		if s.name != "" {
			s.idKnown = true
			id = s.name + "." + strconv.FormatInt(e.seq, 10)
		}
		return e, id, ""
	case s.finished() && s.hasAnswer:
		return nil, "", Answered
	case s.finished():
		return nil, "", Cancelled
	}
	return nil, "", ""
}

// wrote is called after rd has written e, which next returned.
func (s *Stream) wrote(rd *Reader, e *entry) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.reader != rd {
		return
	}
	// A message that is longer than the limit must not displace all others.
	if s.name == "" || l.closed || int64(len(e.data)) > l.Bytes || !l.hasRoomToKeep(e) {
		s.remove(s.written)
	} else {
		s.uncount()
		s.written++
		s.waitingBytes -= int64(len(e.data))
		s.writtenBytes += int64(len(e.data))
		l.history.add(e)
		s.count()
		l.makeRoom(0, 0)
	}
	l.update()
}

// detach removes rd from the stream. The next reader gets what rd has not written, if the stream
// can be resumed.
func (s *Stream) detach(rd *Reader) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.reader != rd {
		return
	}
	s.uncount()
	s.reader = nil
	s.touched = time.Now()
	s.count()
	if s.name == "" || !s.idKnown || l.closed || (s.finished() && len(s.entries) == 0) {
		s.drop()
		l.update()
		return
	}
	l.makeRoom(0, 0)
	for l.over(0, 0) && len(s.entries) > 0 && !s.entries[0].answer { // a slow reader left more than can be kept
		s.remove(0)
		l.Metrics.dropped("slow_reader")
	}
	l.makeRoomForAnswer(s)
	if s.Kind == KindGet {
		l.boundLost()
	}
	l.update()
}

// SetSpan sets the span of the request that the stream belongs to. A resumption adds an event to it.
func (s *Stream) SetSpan(span trace.Span) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.span = span
}

// The methods below are called with the mutex of the log held.

// add is Push without the lock.
func (s *Stream) add(data []byte, d Delivery) (reason string) {
	l, size := s.log, int64(len(data))
	switch {
	case s.dropped || s.finished() || (s.reader == nil && d == ReadNow):
		return "no_stream"
	case l.memory.waiting.reserve(size) != nil:
		return "slow_reader"
	case s.reader != nil:
		if waiting := len(s.entries) - s.written; waiting > 0 && (waiting >= maxQueuedMessages || l.queuedBytes+size > maxQueuedBytes) {
			l.update()
			return "slow_reader"
		}
	default:
		l.makeRoom(1, size)
		l.update()
		if l.over(1, size) {
			return "slow_reader"
		}
	}
	s.hasMessages = true
	s.touched = time.Now()
	s.append(data, false)
	s.wakeReader()
	l.update()
	return ""
}

// append adds an entry that waits for the reader.
func (s *Stream) append(data []byte, answer bool) {
	s.uncount()
	s.lastSeq++
	s.waitingBytes += int64(len(data))
	s.entries = append(s.entries, &entry{stream: s, seq: s.lastSeq, data: data, answer: answer})
	s.count()
}

// remove forgets the entry with index i.
func (s *Stream) remove(i int) {
	s.uncount()
	e := s.entries[i]
	if e.answer {
		s.lostSeq = e.seq
	}
	if i < s.written {
		s.written--
		s.writtenBytes -= int64(len(e.data))
		s.log.history.remove(e)
	} else {
		s.waitingBytes -= int64(len(e.data))
	}
	if i == 0 { // the common case moves nothing
		s.entries[0] = nil
		s.entries = s.entries[1:]
	} else {
		s.entries = slices.Delete(s.entries, i, i+1)
	}
	if len(s.entries) == 0 {
		s.entries = nil
	}
	s.count()
}

// seek gives the stream a new reader that gets the messages after seq.
func (s *Stream) seek(seq int64) {
	s.uncount()
	s.reader = newReader()
	s.written, s.writtenBytes, s.waitingBytes = 0, 0, 0
	for _, e := range s.entries {
		size := int64(len(e.data))
		if e.seq > seq {
			if e.written {
				s.log.history.remove(e)
			}
			s.waitingBytes += size
			continue
		}
		if !e.written {
			s.log.history.add(e)
		}
		s.written++
		s.writtenBytes += size
	}
	s.count()
}

// drop removes the stream from the log and forgets its messages.
func (s *Stream) drop() {
	l := s.log
	if s.Kind == KindGet && s.name != "" && !l.closed {
		for range len(s.entries) - s.written {
			l.Metrics.dropped("no_stream")
		}
	}
	s.uncount()
	for _, e := range s.entries[:s.written] {
		l.history.remove(e)
	}
	s.entries, s.written, s.writtenBytes, s.waitingBytes = nil, 0, 0, 0
	s.dropped = true
	delete(l.named, s.name)
	if i := slices.Index(l.gets, s); i >= 0 {
		l.gets = slices.Delete(l.gets, i, i+1)
	}
}

// uncount subtracts the entries of the stream from the sums of the log, and count adds them. Each change of
// entries or reader is between the two.
func (s *Stream) uncount() { s.addCounts(-1) }
func (s *Stream) count()   { s.addCounts(1) }

// addCounts adds the entries of the stream, sign times, to the sums of the log.
func (s *Stream) addCounts(sign int) {
	l, by := s.log, int64(sign)
	waiting, written := &l.memory.waiting, &l.memory.written
	waiting.bytes += by * s.waitingBytes
	waiting.messages += by * int64(len(s.entries)-s.written)
	written.bytes += by * s.writtenBytes
	written.messages += by * int64(s.written)
	l.keptBytes += by * s.writtenBytes
	l.keptEvents += sign * s.written
	if s.reader != nil {
		l.queuedBytes += by * s.waitingBytes
		return
	}
	l.keptBytes += by * s.waitingBytes
	l.keptEvents += sign * (len(s.entries) - s.written)
}

// wakeReader makes the reader, if there is one, look for messages.
func (s *Stream) wakeReader() {
	if s.reader == nil {
		return
	}
	select {
	case s.reader.wake <- struct{}{}:
	default:
	}
}

// finished reports whether all answers of a POST are there.
func (s *Stream) finished() bool { return s.Kind == KindPost && s.pending == 0 }

// expires reports whether the stream is kept for a client that may never resume it. A stream with
// answers to come does not expire: the duration of a request is bounded.
func (s *Stream) expires() bool { return s.reader == nil && (s.Kind == KindGet || s.pending == 0) }
