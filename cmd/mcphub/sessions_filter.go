package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// sessionFilter holds the flags that select sessions. A session must match all
// that are set.
type sessionFilter struct {
	kind    string
	client  string
	idle    time.Duration
	overdue bool
}

func (f *sessionFilter) bind(flags *pflag.FlagSet) {
	flags.StringVar(&f.kind, "kind", "", "sessions of one `kind`: protocol, or derived from requests without a session")
	flags.StringVar(&f.client, "client", "", "sessions of clients whose name contains `text`")
	flags.DurationVar(&f.idle, "idle-longer-than", 0, "sessions with nothing in flight for `duration`, such as 10m")
	flags.BoolVar(&f.overdue, "overdue", false, "sessions that should have ended by now")
}

// check rejects values that would select all sessions by mistake.
func (f *sessionFilter) check() error {
	if f.idle < 0 {
		return usageError{errors.New("--idle-longer-than must be a positive duration, such as 10m")}
	}
	if f.kind != "" {
		if err := new(session.Kind).UnmarshalText([]byte(f.kind)); err != nil {
			return usageError{fmt.Errorf("--kind: %w", err)}
		}
	}
	return nil
}

func (f *sessionFilter) empty() bool { return *f == sessionFilter{} }

// apply returns the sessions that match at the time now.
func (f *sessionFilter) apply(all []admin.Session, now time.Time) []admin.Session {
	out := []admin.Session{}
	for _, s := range all {
		if f.matches(s, now) {
			out = append(out, s)
		}
	}
	return out
}

func (f *sessionFilter) matches(s admin.Session, now time.Time) bool {
	switch {
	// The hub filters by kind, but one without kinds sends all sessions, and kill would end them all.
	case f.kind != "" && kindOf(s) != f.kind:
		return false
	case f.client != "" && !strings.Contains(strings.ToLower(s.ClientName), strings.ToLower(f.client)):
		return false
	case f.idle > 0 && (s.InFlight > 0 || now.Sub(time.UnixMilli(s.LastAccessedAt)) <= f.idle):
		return false
	case f.overdue && (s.ExpiresAt == 0 || !now.After(time.UnixMilli(s.ExpiresAt))):
		return false
	}
	return true
}
