package main

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/config"
)

// basic are the variables that every child gets from the hub: what programs
// need to find themselves.
var basic = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_ALL", "TZ", "TMPDIR"}

// wellKnown are variables that change what programs do, besides those that are
// inherited by default: somebody who has set one may wonder why it has no effect.
var wellKnown = []string{
	"PYTHON*", "VIRTUAL_ENV", "CONDA_*", "PIP_*", "PIPX_*", "POETRY_*", "NODE_*", "NVM_*", "PNPM_*", "YARN_*", "BUN_*",
	"DENO_*", "VOLTA_*", "ASDF_*", "MISE_*", "JAVA_*", "GO*", "CARGO_*", "RUSTUP_*", "LD_LIBRARY_PATH", "LC_*",
	"DOCKER_*", "KUBECONFIG", "AWS_*", "AZURE_*", "GOOGLE_*", "CLOUDSDK_*", "GITHUB_*", "GH_*", "GITLAB_*", "OPENAI_*",
	"ANTHROPIC_*", "HF_*", "OLLAMA_*", "DATABASE_URL", "PG*", "GIT_*", "SSH_AUTH_SOCK", "PLAYWRIGHT_*", "PUPPETEER_*",
	"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS",
}

// childEnvironment is what the children of one server get from the environment
// of the hub, and what they do not get.
type childEnvironment struct {
	variables []string // all of the environment, NAME=VALUE
	secrets   []string // in inherited variables
	withheld  []string // names of those that are well known
}

// environmentOf makes the environment of the children of s. Inherit are the names
// that it inherits, and hub is the environment of the hub.
func environmentOf(s config.Server, inherit, hub []string) (e childEnvironment) {
	known := slices.Concat(config.Default().InheritEnv, wellKnown)
	for _, variable := range slices.Sorted(slices.Values(hub)) {
		name, value, _ := strings.Cut(variable, "=")
		_, configured := s.Env[name]
		switch {
		case configured:
		case slices.Contains(basic, name):
			e.variables = append(e.variables, variable)
		case inherits(inherit, name):
			e.variables = append(e.variables, variable)
			e.secrets = append(e.secrets, secretsIn(name, value)...)
		case matches(known, name):
			e.withheld = append(e.withheld, name)
		}
	}
	for name, value := range s.Env {
		e.variables = append(e.variables, name+"="+value.Reveal())
	}
	return e
}

// inherits reports whether a variable is inherited. A name that ends with * does
// not stand for names of credentials: these have to be named in full.
func inherits(patterns []string, name string) bool {
	return slices.Contains(patterns, name) || !isCredential(name) && matches(patterns, name)
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, all := strings.CutSuffix(pattern, "*")
		return pattern == name || all && strings.HasPrefix(name, prefix)
	})
}

// logWithheld says once which well-known variables of the hub at least one of its
// servers does not get.
func logWithheld(log *slog.Logger, cfg config.Config, hub []string) {
	var names []string
	for _, s := range cfg.Servers {
		if s.Command != "" && !s.Disabled {
			names = append(names, environmentOf(s, inheritedBy(cfg, s), hub).withheld...)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 0 {
		log.Info("servers do not get these variables of the hub's environment; name in inheritEnv, or in env of a server, "+
			"what they need", "variables", names[:min(len(names), maxWithheld)], "count", len(names))
	}
}

const maxWithheld = 40 // names in one record

// inheritedBy returns the names of the variables that the children of s inherit.
func inheritedBy(cfg config.Config, s config.Server) []string {
	if s.InheritEnv != nil {
		return s.InheritEnv
	}
	return cfg.InheritEnv
}
