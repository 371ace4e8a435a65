package stream

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// newLog makes a log with its own metrics.
func newLog(r Retention) *Log {
	r.Metrics = NewMetrics(nil, func(string) {})
	r.Events, r.Bytes, r.Window = cmp.Or(r.Events, 1024), cmp.Or(r.Bytes, 1<<20), cmp.Or(r.Window, 5*time.Minute)
	return NewLog(&r, nil, "ABCDEFGH", "2025-11-25")
}

// take marks all waiting messages of s as written, and returns them.
func (s *Stream) take() (all []string) {
	for {
		e, _, _ := s.next(s.reader)
		if e == nil {
			return all
		}
		all = append(all, string(e.data))
		s.wrote(s.reader, e)
	}
}

// sums checks that the sums of the log match its streams.
func (l *Log) sums(t *testing.T, streams ...*Stream) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var queued, kept int64
	keptN, written, chained := 0, 0, 0
	for e := l.history.first; e != nil; e = e.next {
		chained++
	}
	for _, s := range streams {
		for i, e := range s.entries {
			if i < s.written {
				written++
			}
			if i < s.written || s.reader == nil {
				keptN++
				kept += int64(len(e.data))
			} else {
				queued += int64(len(e.data))
			}
		}
	}
	if queued != l.queuedBytes || kept != l.keptBytes || keptN != l.keptEvents || written != chained {
		t.Errorf("the sums are %d bytes queued, %d bytes of %d events kept, %d written; want %d, %d of %d, %d",
			l.queuedBytes, l.keptBytes, l.keptEvents, chained, queued, kept, keptN, written)
	}
	if got := testutil.ToFloat64(l.Metrics.logBytes); got != float64(kept) {
		t.Errorf("the metric has %v kept bytes, want %d", got, kept)
	}
}

func TestStreamIsLimitedByItsMessages(t *testing.T) {
	l := newLog(Retention{})
	s := l.NewPost(1, "1")
	for i := range maxQueuedMessages {
		if reason := s.Push([]byte("m"), MayWait); reason != "" {
			t.Fatalf("message %d does not fit: %s", i, reason)
		}
	}
	if reason := s.Push([]byte("m"), MayWait); reason != "slow_reader" {
		t.Errorf("one more: %q", reason)
	}
	l.sums(t, s)
	if n := len(s.take()); n != maxQueuedMessages || s.Push([]byte("m"), MayWait) != "" {
		t.Errorf("%d messages were written, or no other fits", n)
	}
	l.sums(t, s)
}

func TestStreamsOfASessionAreLimitedByTheirBytesTogether(t *testing.T) {
	l := newLog(Retention{})
	one, two := l.NewPost(1, "1"), l.NewPost(1, "2")
	large := make([]byte, 2*maxQueuedBytes)
	for _, s := range []*Stream{one, two} {
		if s.Push(large, MayWait) != "" {
			t.Error("a single large message does not fit")
		}
		select {
		case <-s.reader.wake:
		default:
			t.Error("the reader was not woken")
		}
		if s.Push([]byte("m"), MayWait) != "slow_reader" {
			t.Error("a message fits although there are too many bytes")
		}
	}
	l.sums(t, one, two)
	for _, s := range []*Stream{one, two} {
		if len(s.take()) != 1 || len(s.take()) != 0 {
			t.Error("the number of written messages is not one")
		}
	}
	l.sums(t, one, two)
	half := large[:maxQueuedBytes/2]
	first, second := one.Push(half, MayWait), one.Push(half, MayWait)
	if first != "" || second != "" || one.Push([]byte("m"), MayWait) != "slow_reader" {
		t.Error("the limit is not exact")
	}
}

// lostStream makes a stream that has begun and has lost its reader.
func (l *Log) lostStream(id jsonrpc.ID) *Stream {
	s := l.NewPost(1, id)
	s.begin()
	s.detach(s.reader)
	return s
}

func TestWrittenMessagesAreKeptUpToALimit(t *testing.T) {
	l := newLog(Retention{Events: 10, Bytes: 1000})
	s, other := l.NewPost(1, "1"), l.NewPost(1, "2")
	s.begin()
	other.begin()
	for i := range 20 {
		s.Push(fmt.Appendf(nil, "s%d", i), MayWait)
		other.Push(fmt.Appendf(nil, "o%d", i), MayWait)
		s.take()
		other.take()
	}
	l.sums(t, s, other)
	if len(s.entries) != 5 || len(other.entries) != 5 || string(s.entries[0].data) != "s15" {
		t.Errorf("%d and %d events are kept, want the last ten of both", len(s.entries), len(other.entries))
	}
	s.Push(make([]byte, 999), MayWait)
	s.take()
	l.sums(t, s, other)
	if l.keptBytes > 1000 || len(other.entries) != 0 || len(s.entries) != 1 {
		t.Errorf("%d bytes are kept", l.keptBytes)
	}
	other.Push(make([]byte, 1001), MayWait) // a message beyond the limit displaces no other
	other.take()
	l.sums(t, s, other)
	if len(s.entries) != 1 || len(other.entries) != 0 {
		t.Errorf("%d and %d events are kept", len(s.entries), len(other.entries))
	}
}

func TestMessagesOfALostStreamAreLimitedButAnAnswerFits(t *testing.T) {
	l := newLog(Retention{Events: 4, Bytes: 100})
	open, s := l.NewPost(1, "0"), l.lostStream("1")
	open.begin()
	open.Push(make([]byte, 90), MayWait)
	open.take()
	for i := range 4 {
		if reason := s.Push([]byte("m"), MayWait); reason != "" {
			t.Errorf("message %d does not fit although written messages can be forgotten: %s", i, reason)
		}
	}
	if len(open.entries) != 0 {
		t.Error("the written messages were not forgotten first")
	}
	if reason := s.Push([]byte("m"), MayWait); reason != "slow_reader" {
		t.Errorf("a message beyond the limit: %q", reason)
	}
	if reason := s.Push([]byte("m"), ReadNow); reason != "no_stream" {
		t.Errorf("a message that must not wait: %q", reason)
	}
	s.Answer(make([]byte, 200))
	l.sums(t, open, s)
	if len(s.entries) != 5 {
		t.Error("the answer does not fit")
	}
	late := l.lostStream("2")
	late.Answer([]byte("a")) // displaces the finished stream that was not resumed
	l.sums(t, open, s, late)
	if !s.dropped || len(late.entries) != 1 || l.named[s.name] != nil {
		t.Errorf("the finished stream was not dropped: %d entries", len(s.entries))
	}
	if _, _, became := l.Resume(EventID{Stream: late.name, seq: 0}); became != Replayed {
		t.Errorf("the stream with the answer: %s", became)
	}
}

func TestReaderThatLeavesMoreThanIsKeptLosesTheOldest(t *testing.T) {
	l := newLog(Retention{Events: 10, Bytes: 1000})
	s := l.NewPost(1, "1")
	s.begin()
	for i := range 50 {
		s.Push(fmt.Appendf(nil, "%d", i), MayWait)
	}
	s.detach(s.reader)
	l.sums(t, s)
	s.Answer([]byte("a"))
	_, _, became := l.Resume(EventID{Stream: s.name})
	if got := strings.Join(s.take(), " "); became != Replayed || !strings.HasSuffix(got, "47 48 49 a") {
		t.Errorf("%s: %q", became, got)
	}
}

func TestGETStreamWithoutAKnownEventIDIsNotKept(t *testing.T) {
	l := newLog(Retention{})
	l.primes = false // as for clients of older versions
	known, unknown := l.NewGet(), l.NewGet()
	for _, s := range []*Stream{known, unknown} {
		if id := s.begin(); id != "" {
			t.Errorf("an older client gets the event without message %s", id)
		}
	}
	known.Push([]byte("m"), MayWait)
	known.take()
	known.detach(known.reader)
	unknown.detach(unknown.reader)
	l.sums(t, known, unknown)
	if len(l.gets) != 1 || l.gets[0] != known || len(l.named) != 1 {
		t.Errorf("%d GET streams are kept, want the one whose event id the client knows", len(l.gets))
	}
	l.Close()
}

// FuzzStreamLog checks that the sums are right and the limits hold after any sequence of steps.
func FuzzStreamLog(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte("\x00\x02\x05\x03\x02\x04\x05\x06\x02\x02\x07"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		l := newLog(Retention{Events: 8, Bytes: 400})
		var all []*Stream
		for i, step := range steps[:min(len(steps), 300)] {
			if len(all) == 0 || step%8 == 0 {
				s := l.NewPost(1, jsonrpc.ID(fmt.Sprint(i)))
				if step&8 != 0 {
					s = cmp.Or(l.NewGet(), s)
				}
				all = append(all, s)
			}
			s := all[int(step>>3)%len(all)]
			switch step % 8 {
			case 1:
				s.begin()
			case 2, 3:
				s.Push(make([]byte, step), MayWait)
			case 4:
				if s.Kind == KindPost && s.pending > 0 {
					s.Answer(make([]byte, 2*int(step)))
				}
			case 5:
				if s.reader != nil {
					s.take()
				}
			case 6:
				if s.reader != nil {
					s.detach(s.reader)
				}
			case 7:
				l.Resume(EventID{Stream: s.name, seq: int64(step >> 6)})
			}
			l.sums(t, all...)
			if lost := len(l.gets) - l.attached(); lost > MaxStreams {
				t.Fatalf("%d lost GET streams are kept", lost)
			}
		}
		l.Close()
		for _, s := range all {
			if s.reader != nil {
				s.take()
				s.detach(s.reader)
			}
		}
		l.sums(t, all...)
		if l.keptBytes != 0 || l.queuedBytes != 0 || len(l.named) != 0 || len(l.gets) != 0 || l.timer != nil {
			t.Fatalf("%d bytes and %d streams are left", l.keptBytes+l.queuedBytes, len(l.named)+len(l.gets))
		}
	})
}

func TestKeptMessagesAreForgottenAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(Retention{Window: time.Minute})
		open := l.NewPost(1, "1")
		open.begin()
		open.Push([]byte("m"), MayWait)
		open.take()
		lost := l.lostStream("2")
		time.Sleep(30 * time.Second)
		lost.Answer([]byte("a"))
		running := l.lostStream("3")
		synctest.Wait()
		l.sums(t, open, lost, running)
		time.Sleep(31 * time.Second) // 61s after the message, 31s after the answer
		synctest.Wait()
		l.sums(t, open, lost, running)
		if o, n := len(open.Messages()), len(lost.Messages()); o != 0 || n != 1 {
			t.Errorf("%d and %d events are kept", o, n)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		l.mu.Lock()
		if len(l.named) != 2 || l.keptBytes != 0 || l.timer != nil {
			t.Errorf("%d streams and %d bytes are left, want the two whose calls run", len(l.named), l.keptBytes)
		}
		l.mu.Unlock()
		if _, _, became := l.Resume(EventID{Stream: lost.name}); became != Unknown {
			t.Errorf("the stream whose window is over: %s", became)
		}
		if _, _, became := l.Resume(EventID{Stream: running.name}); became != Replayed {
			t.Errorf("the stream whose call runs: %s", became)
		}
		l.Close()
	})
}
