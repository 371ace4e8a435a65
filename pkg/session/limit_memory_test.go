package session_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestRecordsOfAllSessionsAreBounded(t *testing.T) {
	for _, policy := range []session.LimitPolicy{session.Refuse, session.Evict} {
		t.Run(string(policy), func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			m := session.New(new(persist.Memory), session.Config{Registerer: reg, MaxRecordBytes: 200 << 10, AtLimit: policy})
			large := session.Session{Capabilities: json.RawMessage(`{"x":"` + strings.Repeat("x", 7<<10) + `"}`)}
			var err error
			made := 0
			for made < 1000 && err == nil && (policy == session.Refuse || made < 30) {
				if _, _, err = m.Create(t.Context(), large); err == nil {
					made++
				}
			}
			if n := len(ids(m)); n < 20 || n > 23 {
				t.Errorf("there are %d sessions of 9 KiB", n)
			}
			if policy == session.Evict {
				if got := limited(t, reg, "memory", "evicted"); err != nil || got < 7 {
					t.Errorf("%v, %v evictions", err, got)
				}
				return
			}
			le, ok := errors.AsType[*session.LimitError](err)
			if !ok || le.Scope != "memory" || le.OfClient() || !strings.Contains(le.Error(), "limits.memory") {
				t.Errorf("error %v", err)
			}
			if got := limited(t, reg, "memory", "refused"); got != 1 {
				t.Errorf("%v refusals were counted", got)
			}
			for _, id := range ids(m) {
				_, err := m.End(t.Context(), id, session.Admin)
				check(t, err)
			}
			small, _ := create(t, m)
			if !m.HasRoom(190 << 10) {
				t.Error("ended sessions still take memory")
			}
			check(t, m.Update(t.Context(), small.ID, func(s *session.Session) { s.Subscriptions = []string{strings.Repeat("x", 150<<10)} }))
			if m.HasRoom(60<<10) || !m.HasRoom(30<<10) {
				t.Error("the subscriptions of a session are not counted")
			}
			check(t, m.Update(t.Context(), small.ID, func(s *session.Session) { s.Subscriptions = nil }))
			if !m.HasRoom(190 << 10) {
				t.Error("subscriptions that have ended still take memory")
			}
		})
	}
}
