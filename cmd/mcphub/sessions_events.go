package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSessionsEvents(a *adminAddress) *cobra.Command {
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "events [<sessionId>]",
		Short: "Show the events of a session, or follow those of all",
		Long: `events shows the last events of a session: created, initialised, streams opened
and closed, restored, servers initialised again, flushes failed, and ended with
its reason. With --follow it goes on with new events: those of the session or, if
none is named, of all sessions.`,
		Example: `  mcphub sessions events 23o4x7vdoh7jjsxyl3lz
  mcphub sessions events --follow --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !follow {
				return usageError{errors.New("name a session, or use --follow")}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			p := eventPrinter{w: cmd.OutOrStdout(), asJSON: asJSON}
			id := ""
			if len(args) == 1 {
				id = public(args[0])
				if err := p.printLast(cmd.Context(), c, id); err != nil {
					return err
				}
			}
			if !follow {
				return nil
			}
			return p.follow(cmd.Context(), c, id)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new events until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// eventPrinter prints events of sessions, one a line.
type eventPrinter struct {
	w      io.Writer
	asJSON bool
}

func (p eventPrinter) print(e session.Event) error {
	if p.asJSON {
		return printJSONLine(p.w, e)
	}
	_, err := fmt.Fprintf(p.w, "%s  %s  %-22s %s\n",
		e.Time.Local().Format("2006-01-02 15:04:05.000"), plainText(e.SessionID), plainText(string(e.Type)), plainText(e.Detail))
	return err
}

// printLast prints the last events of a session.
func (p eventPrinter) printLast(ctx context.Context, c *admin.Client, id string) error {
	list, err := c.SessionEvents(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range list.Events {
		if err := p.print(e); err != nil {
			return err
		}
	}
	return nil
}

// follow prints new events of the session, or of all if id is "", until ctx
// ends. It does not report lost events.
func (p eventPrinter) follow(ctx context.Context, c *admin.Client, id string) error {
	events, err := c.Events(ctx, id)
	switch {
	case ctx.Err() != nil:
		return nil // interrupted
	case err != nil:
		return err
	}
	for item, err := range events {
		if err == nil && item.Lost == 0 {
			err = p.print(item.Event)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
