package main

import (
	"log/slog"
	"path/filepath"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

// openStore opens the store of the sessions in the data directory.
func openStore(dataDir string, log *slog.Logger) (*persist.Dir, error) {
	if err := persist.Guard(dataDir, log); err != nil {
		return nil, err
	}
	return persist.OpenDir(filepath.Join(dataDir, "sessions"), persist.DirConfig{Logger: log})
}
