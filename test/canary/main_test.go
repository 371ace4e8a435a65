package canary

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(childVariable); file != "" {
		os.Exit(serveChild(file))
	}
	os.Exit(m.Run())
}
