package hubtest

import (
	"testing"
	"time"
)

// patience is how long the kit waits for what other processes do.
const patience = 20 * time.Second

// Eventually waits until ok returns true, and fails the test after 20 s. It is
// for conditions that other processes or goroutines bring about. what completes
// the sentence "waited in vain until".
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(pause)
	}
}
