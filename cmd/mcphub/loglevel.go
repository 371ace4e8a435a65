package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func newLogLevelCommand() *cobra.Command {
	var a adminAddress
	var limit time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log-level [SUBSYSTEM=LEVEL ...]",
		Short: "Show or change the log levels of a running hub",
		Long: `log-level shows the log levels of a running hub, or changes some of them: until
the hub ends or, with --for, for a while. Levels are trace, debug, info, notice,
warn and error. The level of the subsystem default applies to all subsystems
without one of their own. The level default removes a subsystem's own level. On
an error nothing is changed.`,
		Example: `  mcphub log-level
  mcphub log-level session=debug upstream=trace --for 10m
  mcphub log-level default=warn session=default
  mcphub log-level --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			levels, err := parseLogLevels(args)
			if err != nil {
				return usageError{err}
			}
			switch forSet := cmd.Flags().Changed("for"); {
			case forSet && len(args) == 0:
				return usageError{errors.New("--for needs levels to set, such as session=debug")}
			case forSet && limit <= 0:
				return usageError{errors.New("--for must be a positive duration, such as 10m")}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var list admin.LogLevelList
			if len(args) > 0 {
				list, err = c.SetLogLevels(cmd.Context(), levels, limit)
			} else {
				list, err = c.LogLevels(cmd.Context())
			}
			switch {
			case err != nil:
				return err
			case asJSON:
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printLogLevels(cmd.OutOrStdout(), list.Levels)
		},
	}
	a.bind(cmd.Flags())
	cmd.Flags().DurationVar(&limit, "for", 0, "restore the levels from before after `duration`, 1s to 24h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// parseLogLevels parses arguments such as session=debug.
func parseLogLevels(args []string) (map[string]string, error) {
	levels := map[string]string{}
	for _, arg := range args {
		name, level, ok := strings.Cut(arg, "=")
		if !ok || name == "" || name == "for" {
			return nil, fmt.Errorf("%q is not a level to set; want SUBSYSTEM=LEVEL, such as session=debug", arg)
		}
		if _, twice := levels[name]; twice {
			return nil, fmt.Errorf("%s is set twice; name each subsystem once", name)
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
			left = until(l.Until)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", plainText(l.Subsystem), plainText(l.Level), own, left, plainText(l.Then))
	}
	return t.Flush()
}
