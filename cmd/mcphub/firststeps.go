package main

import (
	"context"
	"log/slog"

	"github.com/mcphub-go/mcphub/pkg/config"
)

// firstLines are a configuration to begin with: the hub's own demo server.
var firstLines = [2]string{"mcpServers:", "  demo: {command: mcphub, args: [demo-server]}"}

// emptyHub says why the hub has no server to offer; "" if it has one. file is the name of its configuration file, ""
// if there is none.
func emptyHub(cfg config.Config, file string) string {
	for _, s := range cfg.Servers {
		if !s.Disabled {
			return ""
		}
	}
	switch {
	case file == "":
		return "0 servers: there is no configuration file; write these two lines to mcphub.yaml here, and start the hub again"
	case len(cfg.Servers) == 0:
		return "0 servers: the configuration file has none; write two lines such as these into it, and start the hub again"
	}
	return "0 servers: all servers in the configuration file are disabled"
}

// logEmptyHub logs why the hub has no server to offer, if it has none.
func logEmptyHub(ctx context.Context, log *slog.Logger, empty string) {
	if empty != "" {
		log.WarnContext(ctx, empty, "line1", firstLines[0], "line2", firstLines[1])
	}
}
