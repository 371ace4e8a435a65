package conformance

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		os.Exit(driver(os.Args[1:]))
	}
	os.Exit(m.Run())
}
