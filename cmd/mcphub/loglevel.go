package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func newLogLevelCommand() *cobra.Command {
	var c adminClient
	var limit time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log-level [SUBSYSTEM=LEVEL ...]",
		Short: "Show or change the log levels of a running hub",
		Long: `log-level shows the log levels of a running hub, or changes some of them until
it ends or, with --for, for a while. Levels are trace, debug, info, notice, warn
and error. The level of the subsystem default is that of all without one of their
own; the level default takes a subsystem's own one away. All is changed or
nothing.`,
		Example: `  mcphub log-level
  mcphub log-level session=debug upstream=trace --for 10m
  mcphub log-level default=warn session=default
  mcphub log-level --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := logLevelsOf(args)
			if err != nil {
				return usageError{err}
			}
			method := http.MethodPut
			switch {
			case len(args) > 0 && cmd.Flags().Changed("for"):
				if limit <= 0 {
					return usageError{errors.New("--for must be a positive duration, such as 10m")}
				}
				want["for"] = limit.String()
			case len(args) > 0:
			case cmd.Flags().Changed("for"):
				return usageError{errors.New("--for needs levels to set, such as session=debug")}
			default:
				method, want = http.MethodGet, nil
			}
			var list struct {
				Levels []admin.LogLevel `json:"levels"`
			}
			if err := c.send(cmd.Context(), method, "/api/v1/log-levels", want, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printLogLevels(cmd.OutOrStdout(), list.Levels)
		},
	}
	c.bind(cmd.Flags())
	cmd.Flags().DurationVar(&limit, "for", 0, "bring back what was set before after `duration`, 1s to 24h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// logLevelsOf reads arguments such as session=debug.
func logLevelsOf(args []string) (map[string]string, error) {
	levels := map[string]string{}
	for _, arg := range args {
		name, level, ok := strings.Cut(arg, "=")
		if !ok || name == "" || name == "for" {
			return nil, fmt.Errorf("%q is no level to set; want SUBSYSTEM=LEVEL, such as session=debug", arg)
		}
		if _, twice := levels[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		levels[name] = level
	}
	return levels, nil
}

func printLogLevels(w io.Writer, levels []admin.LogLevel) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBSYSTEM\tLEVEL\tOWN\tFOR\tTHEN")
	for _, l := range levels {
		own, left := "-", ""
		if l.Own {
			own = "own"
		}
		if !l.Until.IsZero() {
			left = time.Until(l.Until).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", plainText(l.Subsystem), plainText(l.Level), own, left, plainText(l.Then))
	}
	return t.Flush()
}
