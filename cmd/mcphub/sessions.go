package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newSessionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Look at the client sessions of a running hub, and end them",
		Args:  cobra.NoArgs,
		RunE:  needsSubcommand,
		Long: `sessions talks to the admin listener of a running hub, by default on
127.0.0.1:7789. A session is named by the public half of its id, the part before
the dot. The public half does not give access to the session.`,
	}
	var a adminAddress
	a.bind(cmd.PersistentFlags())
	cmd.AddCommand(newSessionsList(&a), newSessionsShow(&a), newSessionsEvents(&a), newSessionsTail(&a),
		newSessionsKill(&a), newSessionsExport(), newSessionsImport())
	return cmd
}

// public returns the public half of a session id. Users may paste a whole
// Mcp-Session-Id header, whose other half is secret.
func public(id string) string {
	id, _, _ = strings.Cut(id, ".")
	return id
}
