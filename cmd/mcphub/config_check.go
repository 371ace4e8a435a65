package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/config"
)

func newConfigCheck() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and list everything that is wrong with it",
		Long: `check lists everything that is wrong with the configuration file. It also warns
of what is allowed but probably not meant, and of programs that do not exist:
they may exist where the hub runs.`,
		Example: `  mcphub config check
  mcphub config check --config mcphub.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, file, err := s.load(cmd.Context(), os.LookupEnv)
			if err != nil {
				return err
			}
			if file == "" {
				return usageError{errors.New("there is no configuration file; name one with --config")}
			}
			problems, err := startProblems(cfg)
			if err != nil {
				return err
			}
			warnings := append(cfg.Warnings(), problems...)
			for _, w := range warnings {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: warning: %s\n", plainText(file), plainText(w))
			}
			text := plural(len(cfg.Servers), "server")
			if len(warnings) > 0 {
				text += ", " + plural(len(warnings), "warning")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, %s\n", plainText(file), text)
			return err
		},
	}
	s.bindFile(cmd.Flags())
	return cmd
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// startProblems returns a warning for each server whose child process cannot be started here.
func startProblems(cfg config.Config) (warnings []string, err error) {
	specs, _, err := specsOf(cfg, 0)
	for _, spec := range specs {
		if why := spec.StartProblem(); why != "" {
			warnings = append(warnings, fmt.Sprintf("mcpServers.%s: cannot be started here: %s", spec.Name, why))
		}
	}
	return warnings, err
}
