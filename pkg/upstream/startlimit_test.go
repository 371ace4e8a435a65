package upstream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

func TestAttemptToStartAChildMayTakeLongerTheFirstTimeAndAfterOneThatWasTooShort(t *testing.T) {
	t.Parallel()
	limits := startLimits{spec: Spec{Command: "npx"}}
	check := func(when string, want time.Duration, key string) {
		t.Helper()
		if got := limits.next(); got.Duration != want || !strings.Contains(got.key, key) {
			t.Errorf("%s an attempt may take %s, want %s (%s)", when, got, want, key)
		}
	}
	check("at first", 2*time.Minute, "startTimeout")
	limits.tooShort(limits.next())
	check("after one that was too short", 4*time.Minute, "startTimeout")
	limits.tooShort(limits.next())
	check("after two", maxStartLimit, "startTimeout")
	limits.tooShort(limits.next())
	check("after three", 5*time.Minute, "startTimeout")
	limits.enough(3 * time.Second)
	check("after a success", 30*time.Second, "connectTimeout")
	first := limits.next()
	limits.tooShort(first)
	limits.tooShort(first) // of another client at the same time
	check("after two at once that were too short", time.Minute, "connectTimeout, made longer")
	limits.enough(40 * time.Second)
	check("after a success that took 40s", 80*time.Second, "connectTimeout, made longer")
}

func TestConfiguredTimesToStartAreNotMadeShorter(t *testing.T) {
	t.Parallel()
	limits := startLimits{spec: Spec{Command: "x", ConnectTimeout: 10 * time.Minute, StartTimeout: time.Minute}}
	limits.tooShort(limits.next())
	if got := limits.next(); got.Duration != 10*time.Minute {
		t.Errorf("an attempt may take %s", got)
	}
}

// Nothing is begun anew when an attempt to reach a server by HTTP ends.
func TestAttemptToReachAServerByHTTPMayTakeConnectTimeout(t *testing.T) {
	t.Parallel()
	limits := startLimits{spec: Spec{URL: "http://x", StartTimeout: time.Hour}}
	limits.tooShort(limits.next())
	if got := limits.next().String(); got != "30s (connectTimeout)" {
		t.Errorf("an attempt may take %s", got)
	}
}

func TestChildThatNeedsLongerThanAnyTimeoutOfItsFirstAttemptsComesUp(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script", "CHILD_DELAY=1500ms")
	spec.ConnectTimeout, spec.StartTimeout = time.Second, time.Second
	r := run(t, []Spec{spec}).settled(t)
	if got := r.Server("child").Status().Error; !strings.Contains(got, "did not become ready in time: it had 1s (startTimeout") {
		t.Errorf("the error is %q", got)
	}
	hubtest.Eventually(t, "it is up", func() bool { return r.Server("child").Status().State == Up })
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "error"); n < 1 {
		t.Errorf("%v attempts failed", n)
	}
}

func TestCallToAServerThatIsStartingIsToldSoAndSinceWhen(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "script", "CHILD_DELAY=3s")
	spec.startWait = 50 * time.Millisecond
	r := run(t, []Spec{spec})
	_, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("echo", ""))
	if !errors.Is(err, ErrDown) || !strings.HasPrefix(err.Error(), `server "child" is still starting, since `) ||
		!strings.Contains(err.Error(), "ago), and may take 2m0s (startTimeout for the first start, then connectTimeout)") {
		t.Errorf("error %v", err)
	}
}

func TestCallToASessionsChildThatIsStartingIsToldSoAndTheStartGoesOn(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "gate")
	spec := childSpec(t, "script", "CHILD_GATE="+gate)
	spec.Isolation = PerSession
	open := func() {
		t.Helper()
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open()
	spec.startWait = 50 * time.Millisecond
	r := run(t, []Spec{spec}).settled(t)
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	l := r.link(t, "child", LinkConfig{})
	if _, err := l.Call(t.Context(), toolCall("echo", "")); err == nil || !strings.Contains(err.Error(), "is still starting, since ") {
		t.Errorf("error %v", err)
	}
	open()
	hubtest.Eventually(t, "a call succeeds", func() bool {
		_, err := l.Call(t.Context(), toolCall("echo", ""))
		return err == nil
	})
	if n := instrumenttest.Value(t, r.reg, "mcphub_backend_connects_total", "outcome", "ok"); n != 2 {
		t.Errorf("%v processes were started, want that of the hub and that of the session", n)
	}
}

// It does not hear the question for its era, and refuses initialize.
func TestModernChildThatStartsSlowlyIsFoundToBeModern(t *testing.T) {
	t.Parallel()
	for _, era := range []protocol.Era{protocol.AnyEra, protocol.Modern} {
		spec := childSpec(t, "modern only", "CHILD_DELAY=300ms")
		spec.Era, spec.probeWait = era, 50*time.Millisecond
		c := newEnv(t, spec).connect(t, nil)
		if !isModern(c) {
			t.Errorf("era %q: it is taken for a legacy server", era)
		}
	}
}

func TestTimeoutOfTheListsNamesItsKey(t *testing.T) {
	t.Parallel()
	err := Spec{ConnectTimeout: time.Second}.connectTimedOut()
	if !errors.Is(err, transport.ErrConnectTimeout) || err.Error() != "did not become ready in time: it had 1s (connectTimeout)" {
		t.Errorf("error %v", err)
	}
}
