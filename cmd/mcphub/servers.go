package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func newServersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "servers",
		Short: "Look at the servers of a running hub, and have their lists read again",
		Args:  cobra.NoArgs,
		RunE:  needsSubcommand,
		Long: `servers talks to the admin listener of a running hub, by default on
127.0.0.1:7789.`,
	}
	var a adminAddress
	a.bind(cmd.PersistentFlags())
	cmd.AddCommand(newServersList(&a), newServersRefresh(&a))
	return cmd
}

func newServersList(a *adminAddress) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the servers, and what is wrong with them",
		Example: `  mcphub servers list
  mcphub servers list --json | jq '.upstreams[] | select(.warnings != [])'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			list, err := c.Upstreams(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printServers(cmd.OutOrStdout(), list.Upstreams)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newServersRefresh(a *adminAddress) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "refresh <name> ...",
		Short: "Have the tools, prompts and resources of servers read again",
		Long: `refresh reads the lists of servers again and shows what they have now. Clients
are notified of what has changed. The hub does this by itself when a server
reports a change, and after refreshInterval.`,
		Example: `  mcphub servers refresh files
  mcphub servers refresh files docs --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			var refreshed []admin.Upstream
			var failed error
			for _, name := range args { // the others are read though one fails
				u, err := c.RefreshUpstream(cmd.Context(), name)
				if failed = errors.Join(failed, err); err != nil {
					continue
				}
				if refreshed = append(refreshed, u); asJSON {
					failed = errors.Join(failed, printJSONLine(cmd.OutOrStdout(), u))
				}
			}
			if !asJSON && len(refreshed) > 0 {
				failed = errors.Join(failed, printServers(cmd.OutOrStdout(), refreshed))
			}
			return failed
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

func printServers(w io.Writer, servers []admin.Upstream) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVER\tSTATE\tFOR\tTOOLS\tPROMPTS\tRESOURCES\tTEMPLATES\tWARNINGS")
	for _, s := range servers {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", plainText(s.Name), plainText(string(s.State)),
			time.Since(s.Since).Round(time.Second), s.Tools, s.Prompts, s.Resources, s.Templates, len(s.Warnings))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range servers {
		if s.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", plainText(s.Name), plainText(s.Error))
		}
		for _, one := range s.Warnings {
			fmt.Fprintf(w, "%s: %s: %s: %s\n", plainText(s.Name), plainText(string(one.Kind)), plainText(one.Subject), plainText(one.Message))
		}
	}
	return nil
}
