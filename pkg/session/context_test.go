package session_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// idsOf records the session in the context of each log record, by message.
type idsOf struct {
	slog.Handler
	mu  sync.Mutex
	ids map[string]string
}

func (h *idsOf) Enabled(context.Context, slog.Level) bool { return true }

func (h *idsOf) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids[r.Message] = session.IDFrom(ctx)
	return nil
}

func TestBatchIsLoggedWithoutSessionEvenIfASessionWaitsForIt(t *testing.T) {
	log := &idsOf{Handler: slog.DiscardHandler, ids: map[string]string{}}
	m := session.New(&persist.Memory{}, session.Config{Logger: slog.New(log)})
	if err := m.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Create(session.WithID(t.Context(), "abc"), session.Session{}); err != nil {
		t.Fatal(err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	for msg, want := range map[string]string{"sessions flushed": "", "session created": "abc"} {
		if got, ok := log.ids[msg]; !ok || got != want {
			t.Errorf("%q belongs to %q, want %q", msg, got, want)
		}
	}
}

func TestIDFromIsEmptyForContextWithoutSession(t *testing.T) {
	if id := session.IDFrom(t.Context()); id != "" {
		t.Errorf("it belongs to %q", id)
	}
}
