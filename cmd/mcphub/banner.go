package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// showBanner decides whether a person is there to read it.
func showBanner(choice string, stdout io.Writer) (bool, error) {
	switch choice {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		f, ok := stdout.(*os.File)
		return ok && term.IsTerminal(int(f.Fd())), nil
	}
	return false, fmt.Errorf("--banner must be auto, always or never, not %q", choice)
}

// printBanner says where the hub is and what to tell a client.
func printBanner(w io.Writer, endpoint, admin string) {
	fmt.Fprintf(w, `
  mcphub is running.

  MCP endpoint   %s
  admin page     %s
  metrics        %smetrics

  For your MCP client:

    {"mcpServers": {"mcphub": {"type": "http", "url": %q}}}

`, endpoint, admin, admin, endpoint)
}
