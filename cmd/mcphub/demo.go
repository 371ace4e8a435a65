package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newDemoCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "demo-server",
		Short: "Run a small MCP server on stdin and stdout, to try a hub with",
		Long: `demo-server is a small MCP server over stdio. It shows a tool, a resource, a
prompt, progress, cancellation, logging and an error of each kind, and needs
nothing: no account, no network, no files.

It answers on stdout and ends when stdin is closed.`,
		Example: `  # as an upstream, in the configuration file of the hub
  mcpServers:
    demo: {command: mcphub, args: [demo-server]}

  # by hand
  echo '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' | mcphub demo-server`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
				fmt.Fprintln(cmd.ErrOrStderr(), "Speaking MCP on stdin and stdout: one JSON-RPC message a line. Ctrl-D ends it.")
			}
			return runDemo(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), version)
		},
	}
}

// runDemo serves one client, one JSON-RPC message a line, until in is closed or
// ctx ends. It answers all requests that came before the end of in, and cancels
// calls that are still running.
func runDemo(ctx context.Context, in io.Reader, out io.Writer, version string) error {
	served := make(chan error, 1)
	go func() { served <- newDemoConn(version).serve(ctx, in, out) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-served:
		return err
	case <-time.After(time.Second): // a write blocks: nobody reads out
		return nil
	}
}
