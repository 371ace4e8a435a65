// Package hostile runs a hub with little memory and few file descriptors under attack, beside clients who mean well.
package hostile

import (
	"os"
	"testing"
)

// TestMain is also the main function of the servers.
func TestMain(m *testing.M) {
	if mode := os.Getenv("HOSTILE_SERVER"); mode != "" {
		serve(mode)
		return
	}
	os.Exit(m.Run())
}
