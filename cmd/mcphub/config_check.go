package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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
			warnings := append(cfg.Warnings(), missingPrograms(cfg)...)
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

// missingPrograms returns a warning for each server whose child process cannot be started here. It shows no value of
// the configuration: a value can be a secret.
func missingPrograms(cfg config.Config) (warnings []string) {
	for _, s := range cfg.Servers {
		if s.Disabled || s.Command == "" {
			continue
		}
		at := "mcpServers." + s.Name
		if info, err := os.Stat(s.Cwd); s.Cwd != "" && (err != nil || !info.IsDir()) {
			warnings = append(warnings, at+".cwd: there is no such directory")
			continue // a program is looked up from there
		}
		if wrong := missingProgram(s.Command, s.Cwd); wrong != "" {
			warnings = append(warnings, at+".command: "+wrong)
		}
	}
	return warnings
}

// missingProgram says why the command cannot be started in the directory dir, "" if it can. It looks where the hub
// looks: a name without a slash in PATH, a relative path in dir.
func missingProgram(command, dir string) string {
	if command == "mcphub" { // the running program
		return ""
	}
	named := filepath.Base(command) == command
	if !named && !filepath.IsAbs(command) {
		if command = filepath.Join(dir, command); !filepath.IsAbs(command) {
			command = "./" + command // so that it is not looked up in PATH
		}
	}
	_, err := exec.LookPath(command)
	info, stat := os.Stat(command)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, exec.ErrDot):
		return "is only in the current directory, where programs are not looked up; write ./ before it"
	case strings.ContainsAny(command, " \t"):
		return "there is no program of this name; arguments belong into args, one by one"
	case named:
		return "is not in PATH; expected the name or path of a program"
	case stat != nil:
		return "there is no such file; expected the name or path of a program"
	case info.IsDir():
		return "is a directory; expected the name or path of a program"
	}
	return "is not executable; run chmod +x, or name its interpreter as command and the file in args"
}
