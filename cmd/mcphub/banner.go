package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// showBanner reports whether to print the banner, for a value of --banner. The
// value auto means: if stdout is a terminal.
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

// printBanner prints the addresses of the hub and the configuration for a
// client. empty says why the hub has no servers, "" if it has some.
func printBanner(w io.Writer, endpoint, admin, empty string) {
	text := fmt.Sprintf(`
  mcphub is running.

  MCP endpoint   %s
  admin page     %s
  metrics        %smetrics

  For your MCP client:

    {"mcpServers": {"mcphub": {"type": "http", "url": %q}}}

`, endpoint, admin, admin, endpoint)
	if empty != "" {
		text += fmt.Sprintf("  %s:\n\n    %s\n    %s\n\n", empty, firstLines[0], firstLines[1])
	}
	printWithin(w, outputTime, text)
}
