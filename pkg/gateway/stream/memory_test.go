package stream

import (
	"errors"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/budget"
)

// limited makes a log with little memory for what waits and for what was written.
func limited(waiting, written int64) (l *Log, account *budget.Account, history *budget.Budget) {
	history = budget.New(written)
	l = newLog(Retention{Memory: history})
	account = budget.New(waiting).Account()
	l.memory.waiting.account, l.memory.written.account = account, history.Account()
	return l, account, history
}

func TestMessagesTakeMemoryOfTheSessionUntilTheyAreWritten(t *testing.T) {
	l, account, history := limited(64<<10, 1<<20)
	s := l.NewPost(1, "1")
	s.begin()
	pushed := 0
	for s.Push(make([]byte, 1<<10), MayWait) == "" {
		pushed++
	}
	if used := account.Used(); pushed < 10 || pushed > 20 || used < int64(pushed)<<10 {
		t.Errorf("%d messages of 1 KiB fit into a share of 64 KiB, and take %d bytes", pushed, used)
	}
	if n := len(s.take()); n != pushed || account.Used() != 0 || history.Used() < int64(pushed)<<10 {
		t.Errorf("%d messages were written; %d bytes wait, %d are kept", n, account.Used(), history.Used())
	}
	if reason := s.Push(make([]byte, 1<<10), MayWait); reason != "" {
		t.Errorf("after that a message does not fit: %s", reason)
	}
	l.Close()
	s.detach(s.reader)
	if account.Used() != 0 || history.Used() != 0 {
		t.Errorf("%d and %d bytes are used at the end", account.Used(), history.Used())
	}
}

func TestAnAnswerNeedsRoomAndAShortOneFitsNevertheless(t *testing.T) {
	l, account, _ := limited(64<<10, 1<<20)
	s := l.NewPost(2, "1", "2")
	if err := s.Reserve(10 << 10); err != nil {
		t.Fatal(err)
	}
	s.Answer(make([]byte, 10<<10))
	if err := s.Reserve(30 << 10); !errors.Is(err, budget.ErrShare) {
		t.Errorf("an answer beyond the share: %v", err)
	}
	s.Answer(make([]byte, 100))
	if n := len(s.Messages()); n != 2 || account.Used() < 10<<10 {
		t.Errorf("%d answers wait, and take %d bytes", n, account.Used())
	}
	if err := s.Reserve(100); err != nil { // for an answer that does not come
		t.Error(err)
	}
	s.detach(s.reader)
	if account.Used() != 0 {
		t.Errorf("%d bytes are used at the end", account.Used())
	}
}

func TestWrittenMessagesOfALogMakeRoomForItsNewer(t *testing.T) {
	l, _, history := limited(1<<30, 64<<10)
	other := history.Account()
	s := l.NewGet()
	s.begin()
	for range 100 {
		if reason := s.Push(make([]byte, 1<<10), MayWait); reason != "" {
			t.Fatal(reason)
		}
		s.take()
	}
	if used := history.Used(); used < 10<<10 || used > 22<<10 || len(s.entries) < 10 {
		t.Errorf("%d messages are kept, %d bytes", len(s.entries), used)
	}
	l.sums(t, s)
	other.Force(64 << 10) // nothing is free
	if reason := s.Push(make([]byte, 1<<10), MayWait); reason != "" {
		t.Fatal(reason)
	}
	if n := len(s.take()); n != 1 || len(s.entries) != 0 || history.Used() != 64<<10 {
		t.Errorf("%d messages were written, %d are kept", n, len(s.entries))
	}
	l.sums(t, s)
}
