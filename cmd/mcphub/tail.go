package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSessionsTail(c *adminClient) *cobra.Command {
	var payload, failed, asJSON bool
	var method string
	cmd := &cobra.Command{
		Use:   "tail <sessionId>",
		Short: "Follow the messages of a session as they go by",
		Long: `tail shows each message of one session as it goes by, until the session ends or
you interrupt it: between the client and the hub (downstream) and between the hub
and its servers (backend), in and out as the hub sees it. A derived session, of a
client without sessions, can be followed as well.

With --payload it shows params, results and errors, too, if the configuration of
the hub has admin.payloads: true. What looks like a secret is taken out and what
is long is cut; but nobody can know every secret. The hub logs who follows.`,
		Example: `  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz
  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz --method tools/call --payload
  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz --errors
  mcphub sessions tail 23o4x7vdoh7jjsxyl3lz --json | jq 'select(.duration > 1)'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if payload {
				query.Set("payload", "true")
			}
			if failed {
				query.Set("errors", "true")
			}
			if method != "" {
				query.Set("method", method)
			}
			p := messagePrinter{w: cmd.OutOrStdout(), asJSON: asJSON, colour: isColourful(cmd.OutOrStdout())}
			return c.tail(cmd.Context(), sessionPath(args[0])+"/messages?"+query.Encode(), p)
		},
	}
	cmd.Flags().BoolVar(&payload, "payload", false, "show params, results and errors, redacted and cut")
	cmd.Flags().StringVar(&method, "method", "", "only messages of this `method`, and the responses to them")
	cmd.Flags().BoolVar(&failed, "errors", false, "only errors, failed tools, cancellations and answers to nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// isColourful reports whether w is a terminal whose user has nothing against colour.
func isColourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// maxEventLine bounds a line of the stream, in bytes.
const maxEventLine = 1 << 20

// tail prints the stream at path until it ends or ctx does.
func (c *adminClient) tail(ctx context.Context, path string, p messagePrinter) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base()+path, nil)
	if err != nil {
		return usageError{fmt.Errorf("%s is no address of a hub: %w", c.base(), err)}
	}
	response, err := http.DefaultClient.Do(request)
	switch {
	case ctx.Err() != nil:
		return nil // interrupted
	case err != nil:
		return fmt.Errorf("no hub answers at %s; is it running, and is --admin right? %w", c.base(), err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return problemOf(response)
	}
	if err := p.head(); err != nil {
		return err
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxEventLine)
	event := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if err := p.print(event, data); err != nil {
			return err
		}
		if event == "end" {
			return nil
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("the hub is gone, or has given up a reader that was too slow: %w", err)
	}
	return errors.New("the hub has closed the stream")
}

// messagePrinter prints what comes on the stream.
type messagePrinter struct {
	w              io.Writer
	asJSON, colour bool
}

const messageLine = "%-12s  %-22s %-3s  %-12s  %-30s  %-8s  %9s  %9s  %-20s  %s"

func (p messagePrinter) head() error {
	if p.asJSON {
		return nil
	}
	_, err := fmt.Fprintf(p.w, messageLine+"\n", "TIME", "HOP", "DIR", "KIND", "METHOD", "ID", "BYTES", "TOOK", "OUTCOME", "TRACE")
	return err
}

func (p messagePrinter) print(event, data string) error {
	var v struct {
		session.Message
		Count  int64  // of event lost
		Reason string // of event end
	}
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return fmt.Errorf("the hub's answer cannot be read: %w", err)
	}
	var err error
	switch {
	case event == "message" && p.asJSON:
		_, err = fmt.Fprintln(p.w, data)
	case event == "message":
		err = p.message(v.Message)
	case event == "lost" && p.asJSON:
		_, err = fmt.Fprintf(p.w, "{\"event\":\"lost\",\"count\":%d}\n", v.Count)
	case event == "lost":
		_, err = fmt.Fprintf(p.w, "%d messages were lost: they came faster than they could be shown\n", v.Count)
	case event == "end" && p.asJSON:
		_, err = fmt.Fprintf(p.w, "{\"event\":\"end\",\"reason\":%q}\n", v.Reason)
	case event == "end" && v.Reason == string(session.Shutdown):
		_, err = fmt.Fprintln(p.w, "the hub stops; the session may go on after its restart")
	case event == "end":
		_, err = fmt.Fprintf(p.w, "the session has ended: %s\n", plainText(v.Reason))
	}
	return err
}

// message prints one message as a line, and what it carries as another.
func (p messagePrinter) message(m session.Message) error {
	took := ""
	if m.Seconds != nil {
		took = time.Duration(*m.Seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
	}
	outcome := m.Outcome
	if m.Fault != "" && m.Fault != "none" {
		outcome += " (" + m.Fault + ")"
	}
	line := fmt.Sprintf(messageLine, m.Time.Local().Format("15:04:05.000"), plainText(strings.TrimSpace(m.Hop+" "+m.Server)), m.Direction, m.Kind,
		plainText(strings.TrimSpace(m.Method+" "+m.Target)), plainText(cmp.Or(string(m.ID), "-")), strconv.Itoa(m.Size), took,
		plainText(outcome), m.TraceID)
	line = strings.TrimRight(line, " ")
	if m.Payload != nil {
		line += "\n    " + plainText(string(m.Payload))
		if m.PayloadCut {
			line += "  [cut]"
		}
	}
	switch {
	case p.colour && m.Failed():
		line = "\x1b[31m" + line + "\x1b[0m"
	case p.colour && m.Kind == "notification":
		line = "\x1b[2m" + line + "\x1b[0m"
	}
	_, err := fmt.Fprintln(p.w, line)
	return err
}
