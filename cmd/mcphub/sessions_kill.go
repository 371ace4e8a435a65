package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func newSessionsKill(a *adminAddress) *cobra.Command {
	var f sessionFilter
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "kill [<sessionId> ...]",
		Short: "End sessions, by id or by filter",
		Long: `kill ends sessions: it closes their streams, cancels their calls and ends their
sessions at the servers. Their clients have to initialize again. The next request
of a client makes a derived session again. kill asks for confirmation; --yes
skips the question.`,
		Example: `  mcphub sessions kill 23o4x7vdoh7jjsxyl3lz
  mcphub sessions kill --overdue --yes
  mcphub sessions kill --client inspector --idle-longer-than 1h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if (len(args) == 0) == f.empty() {
				return usageError{errors.New("name sessions or give a filter, but not both; see mcphub sessions list")}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			ids, err := f.idsToKill(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), "No session matches.")
				return err
			}
			if !yes {
				question := fmt.Sprintf("End %d sessions?", len(ids))
				if err := confirm(interruptible(cmd.Context(), cmd.InOrStdin()), cmd.ErrOrStderr(), question); err != nil {
					return err
				}
			}
			return killAll(cmd.Context(), c, cmd.OutOrStdout(), ids, asJSON)
		},
	}
	f.bind(cmd.Flags())
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// idsToKill returns the ids in args or, if there are none, those of the
// sessions that match the filter.
func (f *sessionFilter) idsToKill(ctx context.Context, c *admin.Client, args []string) (ids []string, err error) {
	if len(args) > 0 {
		for _, arg := range args {
			ids = append(ids, public(arg))
		}
		return ids, nil
	}
	list, err := c.AllSessions(ctx, f.kind)
	if err != nil {
		return nil, err
	}
	for _, s := range f.apply(list.Sessions, time.Now()) {
		ids = append(ids, s.SessionID)
	}
	return ids, nil
}

// killResult is what kill --json prints for each session.
type killResult struct {
	Ended     bool   `json:"ended"`
	Error     string `json:"error,omitempty"`
	SessionID string `json:"sessionId"`
}

// killAll ends the sessions and prints a line for each. It goes on after a
// failure and returns all errors.
func killAll(ctx context.Context, c *admin.Client, w io.Writer, ids []string, asJSON bool) error {
	var failed error
	for i, id := range ids {
		err := c.EndSession(ctx, id)
		if err != nil && ctx.Err() != nil {
			return errors.Join(failed, fmt.Errorf("%w; %d of %d sessions were not ended", errInterrupted, len(ids)-i, len(ids)))
		}
		result := killResult{SessionID: id, Ended: err == nil}
		if err != nil {
			result.Error = withoutOperation(err)
		}
		failed = errors.Join(failed, err, result.print(w, asJSON))
	}
	return failed
}

// withoutOperation returns the text of an error of the client without what was
// attempted: the line says so already.
func withoutOperation(err error) string {
	if call, ok := errors.AsType[*admin.Error](err); ok {
		return call.Err.Error()
	}
	return err.Error()
}

func (r killResult) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSONLine(w, r)
	}
	text := r.Error
	if r.Ended {
		text = "ended"
	}
	_, err := fmt.Fprintf(w, "%s  %s\n", plainText(r.SessionID), plainText(text))
	return err
}

// confirm asks the question. It returns an error unless the answer is y or yes.
func confirm(in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s [y/N] ", question)
	line, err := bufio.NewReader(in).ReadString('\n')
	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(out)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("no session was ended; answer y, or use --yes")
}
