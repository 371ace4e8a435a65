package gateway

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

// newLog makes a log of its own.
func newLog(cfg Config) *streamLog {
	return newStreamLog(cfg.retention(newStreamMetrics(nil, func(string) {})), "ABCDEFGH", "2025-11-25")
}

// take writes all that waits on s to nobody, and returns it.
func (s *stream) take() (all []string) {
	for {
		e, _, _ := s.next(s.reader)
		if e == nil {
			return all
		}
		all = append(all, string(e.data))
		s.wrote(s.reader, e)
	}
}

// sums checks that the log counts what its streams hold.
func (l *streamLog) sums(t *testing.T, streams ...*stream) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var queued, kept int64
	keptN, written, chained := 0, 0, 0
	for e := l.written.first; e != nil; e = e.after {
		chained++
	}
	for _, s := range streams {
		for i, e := range s.entries {
			if i < s.old {
				written++
			}
			if i < s.old || s.reader == nil {
				keptN++
				kept += int64(len(e.data))
			} else {
				queued += int64(len(e.data))
			}
		}
	}
	if queued != l.queued || kept != l.kept || keptN != l.keptN || written != chained {
		t.Errorf("counted are %d bytes queued, %d bytes of %d events kept, %d written; there are %d, %d of %d, %d",
			l.queued, l.kept, l.keptN, chained, queued, kept, keptN, written)
	}
	if got := testutil.ToFloat64(l.metrics.logBytes); got != float64(kept) {
		t.Errorf("the metric says %v bytes are kept, there are %d", got, kept)
	}
}

func TestAStreamIsBoundedByItsMessages(t *testing.T) {
	l := newLog(Config{})
	s := l.post(1, "1")
	for i := range streamQueue {
		if reason := s.push([]byte("m"), orKept); reason != "" {
			t.Fatalf("message %d does not fit: %s", i, reason)
		}
	}
	if reason := s.push([]byte("m"), orKept); reason != "slow_reader" {
		t.Errorf("one more: %q", reason)
	}
	l.sums(t, s)
	if n := len(s.take()); n != streamQueue || s.push([]byte("m"), orKept) != "" {
		t.Errorf("%d messages were taken, or no other fits", n)
	}
	l.sums(t, s)
}

func TestTheStreamsOfASessionAreBoundedByTheirBytesTogether(t *testing.T) {
	l := newLog(Config{})
	one, two := l.post(1, "1"), l.post(1, "2")
	large := make([]byte, 2*maxQueued)
	for _, s := range []*stream{one, two} {
		if s.push(large, orKept) != "" {
			t.Error("a single large message does not fit")
		}
		select {
		case <-s.reader.wake:
		default:
			t.Error("the reader is not told")
		}
		if s.push([]byte("m"), orKept) != "slow_reader" {
			t.Error("a message fits although there are too many bytes")
		}
	}
	l.sums(t, one, two)
	for _, s := range []*stream{one, two} {
		if len(s.take()) != 1 || len(s.take()) != 0 {
			t.Error("not one message was taken")
		}
	}
	l.sums(t, one, two)
	half := large[:maxQueued/2]
	first, second := one.push(half, orKept), one.push(half, orKept)
	if first != "" || second != "" || one.push([]byte("m"), orKept) != "slow_reader" {
		t.Error("what fits exactly does not fit, or more does")
	}
}

// lostStream is a stream that has begun, and whose client is gone.
func (l *streamLog) lostStream(id jsonrpc.ID) *stream {
	s := l.post(1, id)
	s.begin()
	s.detach(s.reader)
	return s
}

func TestWhatWasWrittenIsKeptUpToABound(t *testing.T) {
	l := newLog(Config{ResumeEvents: 10, ResumeBytes: 1000})
	s, other := l.post(1, "1"), l.post(1, "2")
	s.begin()
	other.begin()
	for i := range 20 {
		s.push(fmt.Appendf(nil, "s%d", i), orKept)
		other.push(fmt.Appendf(nil, "o%d", i), orKept)
		s.take()
		other.take()
	}
	l.sums(t, s, other)
	if len(s.entries) != 5 || len(other.entries) != 5 || string(s.entries[0].data) != "s15" {
		t.Errorf("%d and %d events are kept, want the last ten of both", len(s.entries), len(other.entries))
	}
	s.push(make([]byte, 999), orKept)
	s.take()
	l.sums(t, s, other)
	if l.kept > 1000 || len(other.entries) != 0 || len(s.entries) != 1 {
		t.Errorf("%d bytes are kept", l.kept)
	}
	other.push(make([]byte, 1001), orKept) // more than may be kept pushes nothing out
	other.take()
	l.sums(t, s, other)
	if len(s.entries) != 1 || len(other.entries) != 0 {
		t.Errorf("%d and %d events are kept", len(s.entries), len(other.entries))
	}
}

func TestWhatComesForALostStreamIsBoundedButAnAnswerFits(t *testing.T) {
	l := newLog(Config{ResumeEvents: 4, ResumeBytes: 100})
	open, s := l.post(1, "0"), l.lostStream("1")
	open.begin()
	open.push(make([]byte, 90), orKept)
	open.take()
	for i := range 4 {
		if reason := s.push([]byte("m"), orKept); reason != "" {
			t.Errorf("message %d does not fit although what was written can go: %s", i, reason)
		}
	}
	if len(open.entries) != 0 {
		t.Error("what was written was not forgotten first")
	}
	if reason := s.push([]byte("m"), orKept); reason != "slow_reader" {
		t.Errorf("a message too many: %q", reason)
	}
	if reason := s.push([]byte("m"), readNow); reason != "no_stream" {
		t.Errorf("a message that does not wait: %q", reason)
	}
	s.answer(make([]byte, 200))
	l.sums(t, open, s)
	if len(s.entries) != 5 {
		t.Error("the answer does not fit")
	}
	late := l.lostStream("2")
	late.answer([]byte("a")) // takes the place of what nobody came back for
	l.sums(t, open, s, late)
	if !s.gone || len(late.entries) != 1 || l.named[s.name] != nil {
		t.Errorf("the finished stream is still there: %d entries", len(s.entries))
	}
	if _, _, became := l.resume(eventID{stream: late.name, seq: 0}); became != resumeReplayed {
		t.Errorf("the stream with the answer: %s", became)
	}
}

func TestAReaderThatLeavesMoreThanIsKeptLosesTheOldest(t *testing.T) {
	l := newLog(Config{ResumeEvents: 10, ResumeBytes: 1000})
	s := l.post(1, "1")
	s.begin()
	for i := range 50 {
		s.push(fmt.Appendf(nil, "%d", i), orKept)
	}
	s.detach(s.reader)
	l.sums(t, s)
	s.answer([]byte("a"))
	_, _, became := l.resume(eventID{stream: s.name})
	if got := strings.Join(s.take(), " "); became != resumeReplayed || !strings.HasSuffix(got, "47 48 49 a") {
		t.Errorf("%s: %q", became, got)
	}
}

// Whatever happens in whatever order, the sums are right and the bounds hold.
func FuzzStreamLog(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte("\x00\x02\x05\x03\x02\x04\x05\x06\x02\x02\x07"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		l := newLog(Config{ResumeEvents: 8, ResumeBytes: 400})
		var all []*stream
		for i, step := range steps[:min(len(steps), 300)] {
			if len(all) == 0 || step%8 == 0 {
				s := l.post(1, jsonrpc.ID(fmt.Sprint(i)))
				if step&8 != 0 {
					s = cmp.Or(l.listen(), s)
				}
				all = append(all, s)
			}
			s := all[int(step>>3)%len(all)]
			switch step % 8 {
			case 1:
				s.begin()
			case 2, 3:
				s.push(make([]byte, step), orKept)
			case 4:
				if s.kind == streamPost && s.pending > 0 {
					s.answer(make([]byte, 2*int(step)))
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
				l.resume(eventID{stream: s.name, seq: int64(step >> 6)})
			}
			l.sums(t, all...)
			if lost := len(l.gets) - l.attached(); lost > maxStreams {
				t.Fatalf("%d lost GET streams are kept", lost)
			}
		}
		l.close()
		for _, s := range all {
			if s.reader != nil {
				s.take()
				s.detach(s.reader)
			}
		}
		l.sums(t, all...)
		if l.kept != 0 || l.queued != 0 || len(l.named) != 0 || len(l.gets) != 0 || l.timer != nil {
			t.Fatalf("left are %d bytes, %d streams", l.kept+l.queued, len(l.named)+len(l.gets))
		}
	})
}

func TestWhatIsKeptIsForgottenWhenTheWindowIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(Config{ResumeWindow: time.Minute})
		open := l.post(1, "1")
		open.begin()
		open.push([]byte("m"), orKept)
		open.take()
		lost := l.lostStream("2")
		time.Sleep(30 * time.Second)
		lost.answer([]byte("a"))
		running := l.lostStream("3")
		synctest.Wait()
		l.sums(t, open, lost, running)
		time.Sleep(31 * time.Second) // 61s after the message, 31s after the answer
		synctest.Wait()
		l.sums(t, open, lost, running)
		if o, n := len(open.answers()), len(lost.answers()); o != 0 || n != 1 {
			t.Errorf("%d and %d events are kept", o, n)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		l.mu.Lock()
		if len(l.named) != 2 || l.kept != 0 || l.timer != nil {
			t.Errorf("%d streams and %d bytes are left, want the two whose calls run", len(l.named), l.kept)
		}
		l.mu.Unlock()
		if _, _, became := l.resume(eventID{stream: lost.name}); became != resumeUnknown {
			t.Errorf("the stream whose window is over: %s", became)
		}
		if _, _, became := l.resume(eventID{stream: running.name}); became != resumeReplayed {
			t.Errorf("the stream whose call runs: %s", became)
		}
		l.close()
	})
}

func TestEventIDs(t *testing.T) {
	for _, requests := range [][]jsonrpc.ID{nil, {"1"}, {`"a.b-c\u00e9é"`}, {"-1.5e3"}, {"1", `"x"`, "2"}} {
		name := streamName("ABCDEFGH", 12, requests)
		id, ok := parseEventID(name + ".34")
		if !ok || id.stream != name || id.seq != 34 || fmt.Sprint(id.requests) != fmt.Sprint(requests) {
			t.Errorf("%q: %q %+v %v", requests, name, id, ok)
		}
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("the name %q is not safe in a header", name)
		}
	}
	if name := streamName("ABCDEFGH", 1, []jsonrpc.ID{jsonrpc.ID(`"` + strings.Repeat("x", maxEventRequests) + `"`)}); name != "" {
		t.Errorf("a long id makes the name %q", name)
	}
	for _, bad := range []string{"", ".", "1", "ABCDEFGH", "ABCDEFGH-1", "ABCDEFGH-1.", "ABCDEFGH-1.-1", "ABCDEFGH-1.+1", "ABCDEFGH-1.1.1", "abcdefgh-1.1",
		"ABCDEFG-1.1", "ABCDEFGH-x.1", "ABCDEFGH-1.99999999999999999999", "ABCDEFGH-1-.1", "ABCDEFGH-1-*.1", "ABCDEFGH-1-bnVsbA.1", "ABCDEFGH-1-e30.1",
		"ABCDEFGH-1-W10.1", "ABCDEFGH-1-W1tdXQ.1", "ABCDEFGH-1-MR.1", "ABCDEFGH-1-" + strings.Repeat("MTEx", 100) + ".1"} {
		if id, ok := parseEventID(bad); ok {
			t.Errorf("%q is taken for %+v", bad, id)
		}
	}
}
