package peers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// childVariable makes the test program a Server on stdin and stdout. Its value is
// the name and the revisions of the server.
const childVariable = "MCPHUB_TEST_PEER"

// logVariable names the file to which such a server writes its messages.
const logVariable = "MCPHUB_TEST_PEER_LOG"

// Main runs the tests of a program, or the server if the program is a child that
// Child describes. TestMain passes the result to os.Exit.
func Main(m *testing.M) int {
	about := os.Getenv(childVariable)
	if about == "" {
		return m.Run()
	}
	words := strings.Fields(about)
	if err := serveChild(NewServer(words[0], words[1:]...)); err != nil {
		fmt.Fprintln(os.Stderr, "test server:", err)
		return 1
	}
	return 0
}

func serveChild(s *Server) error {
	var transport mcp.Transport = &mcp.StdioTransport{}
	if name := os.Getenv(logVariable); name != "" {
		log, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		transport = &mcp.LoggingTransport{Transport: transport, Writer: log}
	}
	return s.Run(context.Background(), transport)
}

// Child returns the members of a configuration that make a server a child
// process: the program of the test as NewServer(name, revisions...). The child
// writes its messages to the file log unless that is empty.
func Child(t testing.TB, log, name string, revisions ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	about := strings.Join(append([]string{name}, revisions...), " ")
	// With the race detector, the child would end a second later.
	env := fmt.Sprintf("%s: %q, GORACE: \"atexit_sleep_ms=0\"", childVariable, about)
	if log != "" {
		env += fmt.Sprintf(", %s: %q", logVariable, log)
	}
	return fmt.Sprintf("command: %q, env: {%s}", self, env)
}
