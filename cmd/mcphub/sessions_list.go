package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func newSessionsList(a *adminAddress) *cobra.Command {
	var f sessionFilter
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sessions",
		Example: `  mcphub sessions list
  mcphub sessions list --client claude --idle-longer-than 10m
  mcphub sessions list --overdue --json
  mcphub sessions list --kind derived`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			list, err := c.AllSessions(cmd.Context(), f.kind)
			if err != nil {
				return err
			}
			sessions := f.apply(list.Sessions, time.Now())
			if asJSON {
				return printSessionsJSON(cmd.OutOrStdout(), sessions, list.Restoring)
			}
			return printSessions(cmd.OutOrStdout(), sessions, list.Restoring)
		},
	}
	f.bind(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printSessionsJSON prints the sessions as the hub sent them: it may be of a
// later version and send more than this one knows.
func printSessionsJSON(w io.Writer, sessions []admin.Session, restoring int) error {
	list := struct {
		Count     int               `json:"count"`
		Restoring int               `json:"restoring"`
		Sessions  []json.RawMessage `json:"sessions"`
	}{len(sessions), restoring, make([]json.RawMessage, len(sessions))}
	for i, s := range sessions {
		list.Sessions[i] = s.Raw
	}
	return printJSON(w, list)
}

func printSessions(w io.Writer, sessions []admin.Session, restoring int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SESSION\tKIND\tCLIENT\tPROTOCOL\tSTATE\tAGE\tIDLE\tEXPIRES IN\tIN FLIGHT\tREQUESTS")
	for _, s := range sessions {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n",
			plainText(s.SessionID), plainText(kindOf(s)), plainText(s.ClientName+" "+s.ClientVersion), plainText(s.ProtocolVersion),
			plainText(string(s.State)),
			since(s.CreatedAt), since(s.LastAccessedAt), expiryOf(s), s.InFlight, s.Requests)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if restoring > 0 {
		fmt.Fprintf(w, "%d more are being restored\n", restoring)
	}
	return nil
}
