package config

import (
	"fmt"
	"maps"
	"slices"
)

// Warnings returns what in a valid c is probably not what its writer wants, each as key path and text.
func (c *Config) Warnings() []string {
	var running []Server
	for _, s := range c.Servers {
		if !s.Disabled {
			running = append(running, s)
		}
	}
	var all []string
	if c.Naming == "bare" && len(running) > 1 {
		all = append(all, fmt.Sprintf("naming: bare hides names: of what several of the %d servers offer under one name, clients see only that "+
			"of the server which comes first; prefix or conflict hides nothing", len(running)))
	}
	for i, s := range running {
		at := join("mcpServers", s.Name)
		for _, first := range running[:i] {
			if sameProgram(s, first) {
				all = append(all, fmt.Sprintf("%s: is the same server as %s: resources of both have the same URI, and clients see only those of %s",
					at, first.Name, first.Name))
				break
			}
		}
		if s.OnInvalidTool == "drop" && c.Naming == "bare" && len(running) == 1 {
			all = append(all, join(at, "onInvalidTool")+": drop has no effect: with naming: bare and one server the hub is transparent")
		}
	}
	return all
}

// sameProgram reports whether two servers are reached in the same way. Their environments and headers may make them
// differ all the same, so it reports false then.
func sameProgram(a, b Server) bool {
	return a.URL == b.URL && a.Command == b.Command && a.Cwd == b.Cwd && slices.Equal(a.Args, b.Args) &&
		maps.Equal(a.Env, b.Env) && maps.Equal(a.Headers, b.Headers)
}
