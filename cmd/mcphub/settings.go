package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mcphub-go/mcphub/pkg/config"
)

// settings are the flags that override the configuration file.
type settings struct {
	file, listen, adminListen, dataDir, logLevel, logFormat, traceParent string
}

func (s *settings) bindFile(flags *pflag.FlagSet) {
	flags.StringVarP(&s.file, "config", "c", "", "configuration `file`, YAML or JSON (env MCPHUB_CONFIG; default mcphub.yaml here or in ~/.mcp-hub-lite)")
}

func (s *settings) bind(flags *pflag.FlagSet) {
	s.bindFile(flags)
	flags.StringVar(&s.listen, "listen", "", "`address` of the MCP endpoint (env MCPHUB_LISTEN; default 127.0.0.1:7788)")
	flags.StringVar(&s.adminListen, "admin-listen", "", "`address` of page, API and metrics (env MCPHUB_ADMIN_LISTEN; default 127.0.0.1:7789)")
	flags.StringVar(&s.dataDir, "data-dir", "", "`directory` that holds sessions/ (env MCPHUB_DATA_DIR; default ~/.mcp-hub-lite)")
	flags.StringVar(&s.logLevel, "log-level", "", "trace, debug, info, notice, warn or error (env MCPHUB_LOG_LEVEL; default info)")
	flags.StringVar(&s.logFormat, "log-format", "", "auto, tint or json (env MCPHUB_LOG_FORMAT; default auto)")
	flags.StringVar(&s.traceParent, "trace-parent", "", "remote, link or ignore: what becomes of the trace context of clients (env MCPHUB_TRACE_PARENT; default remote)")
}

// load returns the configuration that file, environment and flags make, and
// the file it came from; "" if there is none.
func (s *settings) load(lookup func(string) (string, bool)) (config.Config, string, error) {
	file, err := s.find(lookup)
	if err != nil {
		return config.Config{}, "", usageError{err}
	}
	cfg := config.Default()
	if file != "" {
		if cfg, err = config.Load(file, lookup); err != nil {
			return cfg, file, usageError{err}
		}
	}
	if err := cfg.ApplyEnv(lookup); err != nil {
		return cfg, file, usageError{err}
	}
	if err := cfg.ApplyFlags(s.flag); err != nil {
		return cfg, file, usageError{err}
	}
	if err := cfg.Finish(); err != nil {
		return cfg, file, usageError{err}
	}
	return cfg, file, nil
}

// flag returns the value of a flag that overrides a key of the file.
func (s *settings) flag(name string) (value string, ok bool) {
	value, ok = map[string]string{
		"--listen": s.listen, "--admin-listen": s.adminListen, "--data-dir": s.dataDir,
		"--log-level": s.logLevel, "--log-format": s.logFormat, "--trace-parent": s.traceParent,
	}[name]
	return value, ok
}

// find looks for the configuration file: the flag, the environment, then the
// usual places.
func (s *settings) find(lookup func(string) (string, bool)) (string, error) {
	if s.file != "" {
		return s.file, nil
	}
	if file, _ := lookup("MCPHUB_CONFIG"); file != "" {
		return file, nil
	}
	places := []string{"mcphub.yaml", "mcphub.yml", "mcphub.json"}
	if home, err := os.UserHomeDir(); err == nil {
		places = append(places, filepath.Join(home, ".mcp-hub-lite", "mcphub.yaml"))
	}
	for _, place := range places {
		if _, err := os.Stat(place); err == nil {
			return place, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work with the configuration file", Args: cobra.NoArgs, RunE: needsSubcommand}
	var s settings
	check := &cobra.Command{
		Use:   "check",
		Short: "Say whether the configuration can be used, and what is wrong with it",
		Example: `  mcphub config check
  mcphub config check --config mcphub.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, file, err := s.load(os.LookupEnv)
			if err != nil {
				return err
			}
			if file == "" {
				return usageError{errors.New("there is no configuration file; name one with --config")}
			}
			servers := "servers"
			if len(cfg.Servers) == 1 {
				servers = "server"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, %d %s\n", file, len(cfg.Servers), servers)
			return err
		},
	}
	s.bindFile(check.Flags())
	cmd.AddCommand(check)
	return cmd
}
