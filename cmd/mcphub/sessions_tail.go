package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSessionsTail(a *adminAddress) *cobra.Command {
	var query admin.MessageQuery
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tail <sessionId>",
		Short: "Follow the messages of a session",
		Long: `tail shows each message of one session when the hub relays it, until the session
ends or you interrupt it: between the client and the hub (downstream) and between
the hub and its servers (backend). The directions in and out are those of the hub.
The session of a client without sessions, a derived session, works as well.

With --payload it also shows params, results and errors, if the configuration of
the hub has admin.payloads: true. The hub redacts values that look like secrets
and cuts long ones, but it cannot recognise every secret. It logs who follows.`,
		Example: `  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz
  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz --method tools/call --payload
  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz --errors
  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz --json | jq 'select(.duration > 1)'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			p := messagePrinter{w: cmd.OutOrStdout(), asJSON: asJSON, colour: useColour(cmd.OutOrStdout())}
			return p.follow(cmd.Context(), c, public(args[0]), query)
		},
	}
	cmd.Flags().BoolVar(&query.Payload, "payload", false, "show params, results and errors, redacted and cut")
	cmd.Flags().StringVar(&query.Method, "method", "", "only messages of this `method`, and the responses to them")
	cmd.Flags().BoolVar(&query.Errors, "errors", false,
		"only errors, failed tools, cancellations and responses without a request")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// useColour reports whether w is a terminal and NO_COLOR is not set
// (no-color.org).
func useColour(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// messagePrinter prints messages of a session, one a line.
type messagePrinter struct {
	w              io.Writer
	asJSON, colour bool
}

// follow prints the messages that query selects until the session or ctx ends.
func (p messagePrinter) follow(ctx context.Context, c *admin.Client, id string, query admin.MessageQuery) error {
	messages, err := c.Messages(ctx, id, query)
	switch {
	case ctx.Err() != nil:
		return nil // interrupted
	case err != nil:
		return err
	}
	if err := p.printHead(); err != nil {
		return err
	}
	for item, err := range messages {
		if err == nil {
			err = p.print(item)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const messageLine = "%-12s  %-22s %-3s  %-12s  %-30s  %-8s  %9s  %9s  %-20s  %s"

func (p messagePrinter) printHead() error {
	if p.asJSON {
		return nil
	}
	_, err := fmt.Fprintf(p.w, messageLine+"\n",
		"TIME", "HOP", "DIR", "KIND", "METHOD", "ID", "BYTES", "TOOK", "OUTCOME", "TRACE")
	return err
}

// endOfTail is the last line of tail --json.
type endOfTail struct {
	Event  string         `json:"event"`
	Reason session.Reason `json:"reason"`
}

// print prints one item of the stream.
func (p messagePrinter) print(item admin.StreamedMessage) error {
	text := ""
	switch {
	case item.Lost > 0 && p.asJSON:
		text = fmt.Sprintf(`{"event":"lost","count":%d}`, item.Lost)
	case item.Lost > 0:
		text = fmt.Sprintf("%d messages were lost: they came faster than they could be shown", item.Lost)
	case item.End != "" && p.asJSON:
		return printJSONLine(p.w, endOfTail{"end", item.End})
	case item.End == session.Shutdown:
		text = "the hub stops; the session may go on after its restart"
	case item.End == admin.Displaced:
		text = "this stream was ended for a newer one: only some can be open at once"
	case item.End != "":
		text = "the session has ended: " + plainText(string(item.End))
	case p.asJSON:
		return printRawJSON(p.w, item.Raw)
	default:
		text = p.format(item.Message)
	}
	_, err := fmt.Fprintln(p.w, text)
	return err
}

// format returns the line for a message, and a second one for its payload.
func (p messagePrinter) format(m session.Message) string {
	took := ""
	if m.Seconds != nil {
		took = time.Duration(*m.Seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
	}
	outcome := m.Outcome
	if m.Fault != "" && m.Fault != "none" {
		outcome += " (" + m.Fault + ")"
	}
	text := fmt.Sprintf(messageLine,
		m.Time.Local().Format("15:04:05.000"), plainText(strings.TrimSpace(m.Hop+" "+m.Server)), plainText(m.Direction), plainText(m.Kind),
		plainText(strings.TrimSpace(m.Method+" "+m.Target)), plainText(cmp.Or(string(m.ID), "-")), strconv.Itoa(m.Size), took,
		plainText(outcome), plainText(m.TraceID))
	text = strings.TrimRight(text, " ")
	if m.Payload != nil {
		text += "\n    " + plainText(string(m.Payload))
		if m.PayloadCut {
			text += "  [cut]"
		}
	}
	return p.coloured(m, text)
}

// coloured returns text in red for a failure, and dim for a notification.
func (p messagePrinter) coloured(m session.Message, text string) string {
	switch {
	case p.colour && m.Failed():
		return "\x1b[31m" + text + "\x1b[0m"
	case p.colour && m.Kind == "notification":
		return "\x1b[2m" + text + "\x1b[0m"
	}
	return text
}
