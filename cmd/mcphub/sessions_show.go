package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSessionsShow(a *adminAddress) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show <sessionId>",
		Short:   "Show one session",
		Example: "  mcphub sessions show 23o4x7vdoh7jjsxyl3lz",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Session(cmd.Context(), public(args[0]))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s.Raw)
			}
			return printSession(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printSession(w io.Writer, s admin.Session) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"session", s.SessionID}, {"kind", kindOf(s)}, {"state", string(s.State)},
		{"client", s.ClientName + " " + s.ClientVersion}, {"protocol", s.ProtocolVersion},
		{"user agent", s.UserAgent}, {"address", s.IP}, {"cwd", s.Cwd}, {"project", s.Project},
		{"created", timeAndAge(s.CreatedAt)}, {"last activity", timeAndAge(s.LastAccessedAt)}, {"expires in", expiryOf(s)},
		{"in flight", strconv.Itoa(s.InFlight)}, {"requests", strconv.FormatInt(s.Requests, 10)},
		{"dirty", strconv.FormatBool(s.Dirty)}, {"log level", s.LogLevel},
		{"subscriptions", strings.Join(s.Subscriptions, ", ")}, {"servers", strings.Join(s.Upstreams, ", ")},
	} {
		if text := strings.TrimSpace(plainText(row[1])); text != "" {
			fmt.Fprintf(t, "%s\t%s\n", row[0], text)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Metadata)) {
		fmt.Fprintf(t, "metadata.%s\t%s\n", plainText(key), plainText(string(s.Metadata[key])))
	}
	return t.Flush()
}

// kindOf returns the kind of a session. A hub without derived sessions sends none.
func kindOf(s admin.Session) string { return cmp.Or(s.Kind, session.Protocol.String()) }

// expiryOf returns the time until a session expires.
func expiryOf(s admin.Session) string {
	if s.ExpiresAt == 0 {
		return "never"
	}
	return until(time.UnixMilli(s.ExpiresAt))
}

func timeAndAge(ms int64) string {
	return time.UnixMilli(ms).Format(time.RFC3339) + " (" + since(ms) + " ago)"
}
