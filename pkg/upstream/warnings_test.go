package upstream

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
)

func TestAWarningKeepsItsBeginAndIsLoggedWhenItComesChangesAndGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, Spec{Name: "s", Command: "x"})
		begin := time.Now()
		e.Warn(WarnHidden, []Warning{{Subject: "b", Message: "taken by x"}, {Subject: "a", Message: "taken by x"}})
		time.Sleep(time.Minute)
		e.Warn(WarnHidden, []Warning{{Subject: "a", Message: "taken by x"}, {Subject: "c", Message: "taken by y"}})
		e.Warn(WarnHidden, []Warning{{Subject: "a", Message: "taken by z"}, {Subject: "c", Message: "taken by y"}})
		got := e.Server.Status().Warnings
		if len(got) != 2 || got[0] != (Warning{Kind: WarnHidden, Subject: "a", Message: "taken by z", Since: begin}) ||
			got[1] != (Warning{Kind: WarnHidden, Subject: "c", Message: "taken by y", Since: begin.Add(time.Minute)}) {
			t.Errorf("the warnings are %+v", got)
		}
		e.Warn(WarnHidden, nil)
		if got := e.Server.Status().Warnings; len(got) != 0 {
			t.Errorf("the warnings are %+v", got)
		}
		if come, gone := fmt.Sprint(e.log.attr("warning about the server", "subject")), e.log.attr("a warning about the server is over",
			"subject"); come != "[a b c a]" || len(gone) != 3 || gone[0] != "b" {
			t.Errorf("logged that %s came and %s went", come, gone)
		}
	})
}

func TestWarningsAreBoundedAndAllAreCounted(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Spec{Name: "s", Command: "x", Secrets: []string{"a secret value"}})
	if n := instrumenttest.Value(t, e.reg, "mcphub_backend_warnings", "mcphub_backend", "s", "kind", "hidden"); n != 0 {
		t.Errorf("%v are counted at the start", n)
	}
	var many []Warning
	for i := range 250 {
		many = append(many, Warning{Subject: fmt.Sprintf("%03d", i), Message: "a secret value" + strings.Repeat("ä", 5000)})
	}
	e.Warn(WarnHidden, many)
	got := e.Server.Status().Warnings
	if len(got) != maxWarnings+1 || got[maxWarnings].Message != "and 150 more" {
		t.Errorf("there are %d warnings, the last is %+v", len(got), got[len(got)-1])
	}
	if text := got[0].Message; len(text) > 1100 || !utf8.ValidString(text) || !strings.HasPrefix(text, "***ä") {
		t.Errorf("a message has %d bytes: %.40s", len(text), text)
	}
	if n := instrumenttest.Value(t, e.reg, "mcphub_backend_warnings", "mcphub_backend", "s", "kind", "hidden"); n != 250 {
		t.Errorf("%v are counted", n)
	}
	if n := strings.Count(e.log.text(), slog.LevelWarn.String()+" "); n != maxWarningLogs+1 {
		t.Errorf("%d records are logged", n)
	}
}

func TestOneWarningIsAddedAndRemovedBesideOthers(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Spec{Name: "s", Command: "x"})
	w := e.Server.warnings
	w.put(Warning{Kind: WarnListFailed, Subject: "prompts/list", Message: "refused"})
	w.put(Warning{Kind: WarnListFailed, Subject: "tools/list", Message: "refused"})
	w.put(Warning{Kind: WarnListFailed, Subject: "tools/list", Message: "lost"})
	w.remove(WarnListFailed, "prompts/list")
	w.remove(WarnListFailed, "resources/list")
	if got := w.all(); len(got) != 1 || got[0].Subject != "tools/list" || got[0].Message != "lost" {
		t.Errorf("the warnings are %+v", got)
	}
}
