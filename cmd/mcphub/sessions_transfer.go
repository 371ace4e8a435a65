package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// transferHelp ends the help of export and import.
const transferHelp = `
The hub must not be running: it locks its directory. The records hold all that
the sessions need to go on, the hashes of their secrets included, so protect the
file as you protect the directory.`

func bindDataDir(cmd *cobra.Command, s *settings) {
	s.bind(cmd.Flags(), "dataDir")
}

// openSessions opens the session store of a stopped hub. If mustExist is set,
// it returns an error for a missing directory instead of making it.
func openSessions(ctx context.Context, s settings, mustExist bool) (*persist.Dir, error) {
	cfg, _, err := s.load(ctx, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.DataDir, "sessions")
	if _, err := os.Stat(dir); mustExist && err != nil {
		return nil, fmt.Errorf("there are no sessions in %s; name the hub's directory with --data-dir: %w", cfg.DataDir, err)
	}
	return openStore(cfg.DataDir, slog.New(slog.DiscardHandler))
}
