package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newSessionsEvents(c *adminClient) *cobra.Command {
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "events [<sessionId>]",
		Short: "Show what happened to a session and why, or follow all",
		Long: `events shows what happened to a session: created, initialised, streams opened and
closed, restored, servers initialised again, flushes failed, ended and why. With
--follow it goes on with what happens from now on, of all sessions if none is
named.`,
		Example: `  mcphub sessions events 23o4x7vdoh7jjsxyl3lz
  mcphub sessions events --follow --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) == 1 {
				id = public(args[0])
			} else if !follow {
				return usageError{errors.New("name a session, or use --follow")}
			}
			if id != "" {
				var list struct{ Events []sessionEvent }
				if err := c.get(cmd.Context(), sessionPath(id)+"/events", &list); err != nil {
					return err
				}
				for _, ev := range list.Events {
					if err := ev.print(cmd.OutOrStdout(), asJSON); err != nil {
						return err
					}
				}
			}
			if !follow {
				return nil
			}
			return c.follow(cmd.Context(), id, cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new events until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// sessionEvent is an event as the API describes it.
type sessionEvent struct {
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	SessionID string    `json:"sessionId"`
	Type      string    `json:"type"`
	Detail    string    `json:"detail,omitempty"`
}

func (e sessionEvent) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	_, err := fmt.Fprintf(w, "%s  %s  %-22s %s\n", e.Time.Local().Format("2006-01-02 15:04:05.000"), e.SessionID, e.Type, plainText(e.Detail))
	return err
}

// follow prints events as they happen until ctx ends.
func (c *adminClient) follow(ctx context.Context, id string, w io.Writer, asJSON bool) error {
	path := "/api/v1/events"
	if id != "" {
		path += "?session=" + url.QueryEscape(id)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base()+path, nil)
	if err != nil {
		return usageError{err}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no hub answers at %s: %w", c.base(), err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the hub answers %s", response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var ev sessionEvent
		if err := json.Unmarshal([]byte(data), &ev); err != nil {
			return fmt.Errorf("the hub's answer cannot be read: %w", err)
		}
		if ev.Type == "" { // a note that some were lost
			continue
		}
		if err := ev.print(w, asJSON); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("the hub has closed the stream")
}
