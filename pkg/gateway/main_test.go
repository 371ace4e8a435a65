package gateway

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childVariable makes the test binary a server that speaks over stdio, a
// parrot or a child.
const childVariable = "MCPHUB_TEST_SERVER"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		switch name {
		case parrotName:
			serveParrot(os.Stdin, os.Stdout)
		case webParrotName:
			serveWebParrot(os.Stdin, os.Stdout)
		default:
			serveStdio(name, os.Stdin, os.Stdout)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
