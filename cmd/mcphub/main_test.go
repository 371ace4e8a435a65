package main

import (
	"os"
	"testing"

	"github.com/mcphub-go/mcphub/test/peers"
)

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		os.Exit(driver(os.Args[1:]))
	}
	if file := os.Getenv(canaryVariable); file != "" {
		os.Exit(serveCanary(file))
	}
	os.Exit(peers.Main(m))
}
