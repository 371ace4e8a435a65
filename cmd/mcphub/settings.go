package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mcphub-go/mcphub/pkg/config"
)

// settings are the flags that select and override the configuration file.
type settings struct {
	file string             // --config
	keys map[string]*string // value of each flag that sets a configuration key, such as --listen
}

func (s *settings) bindFile(flags *pflag.FlagSet) {
	usage := fmt.Sprintf("configuration `file`, YAML or JSON (env MCPHUB_CONFIG; default mcphub.yaml here or in %s)",
		config.Default().DataDir)
	flags.StringVarP(&s.file, "config", "c", "", usage)
}

// bind adds --config and the flags of the named configuration keys; without names, those of all keys that have one.
func (s *settings) bind(flags *pflag.FlagSet, names ...string) {
	s.bindFile(flags)
	s.keys = map[string]*string{}
	for _, k := range config.Keys() {
		if k.Flag == "" || len(names) > 0 && !slices.Contains(names, k.Name) {
			continue
		}
		usage := fmt.Sprintf("%s (env %s; default %s)", k.Usage, k.Variable, k.Default)
		s.keys[k.Flag] = flags.String(strings.TrimPrefix(k.Flag, "--"), "", usage)
	}
}

// load returns the configuration of file, environment and flags, and the name of the file; "" if there is none.
func (s *settings) load(ctx context.Context, lookup func(string) (string, bool)) (config.Config, string, error) {
	file, err := s.find(lookup)
	if err != nil {
		return config.Config{}, "", usageError{err}
	}
	cfg := config.Default()
	if file != "" {
		// The file may be a pipe that nobody writes to.
		cfg, err = untilDone(ctx, func() (config.Config, error) { return config.Load(file, lookup) })
		switch {
		case errors.Is(err, errInterrupted):
			return cfg, file, fmt.Errorf("%w while reading the configuration from %s", err, file)
		case err != nil:
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

// flag returns the value of a flag that sets a configuration key.
func (s *settings) flag(name string) (value string, ok bool) {
	if p := s.keys[name]; p != nil {
		return *p, true
	}
	return "", false
}

// find returns the name of the configuration file: that of the flag, else that of the environment, else the first of the
// usual files that exists; "" if there is none.
func (s *settings) find(lookup func(string) (string, bool)) (string, error) {
	if s.file != "" {
		return s.file, nil
	}
	if file, _ := lookup("MCPHUB_CONFIG"); file != "" {
		return file, nil
	}
	places := []string{"mcphub.yaml", "mcphub.yml", "mcphub.json"}
	if home, err := os.UserHomeDir(); err == nil {
		dir := strings.Replace(config.Default().DataDir, "~", home, 1)
		places = append(places, filepath.Join(dir, "mcphub.yaml"))
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
	cmd.AddCommand(newConfigCheck())
	return cmd
}
