package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/config"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func TestChildrenInheritProxiesAuthoritiesAndCachesButNoCredentials(t *testing.T) {
	t.Parallel()
	hub := []string{
		"PATH=/bin", "HTTP_PROXY=http://proxy:3128", "https_proxy=http://u:proxy-p%40ss@proxy", "NODE_EXTRA_CA_CERTS=/ca", "UV_CACHE_DIR=/uv",
		"npm_config_registry=http://r/", "npm_config_//r/:_authToken=t", "UV_PUBLISH_TOKEN=t", "XDG_CACHE_HOME=/c", "DOCKER_HOST=d",
		"PYTHONPATH=/p", "AWS_PROFILE=a", "OWN=1", "HOMEWORK=1", "LANG=hub",
	}
	s := config.Server{Command: "x", Env: map[string]config.Secret{"LANG": "own", "AWS_PROFILE": "b"}}
	got := environmentOf(s, config.Default().InheritEnv, hub)
	want := []string{"AWS_PROFILE=b", "DOCKER_HOST=d", "HTTP_PROXY=http://proxy:3128", "LANG=own", "NODE_EXTRA_CA_CERTS=/ca", "PATH=/bin",
		"UV_CACHE_DIR=/uv", "XDG_CACHE_HOME=/c", "https_proxy=http://u:proxy-p%40ss@proxy", "npm_config_registry=http://r/"}
	if vars := slices.Sorted(slices.Values(got.variables)); !slices.Equal(vars, want) {
		t.Errorf("the variables are %q", vars)
	}
	if want := []string{"proxy-p@ss", "proxy-p%40ss"}; !slices.Equal(got.secrets, want) {
		t.Errorf("the secrets are %q", got.secrets)
	}
	if want := []string{"PYTHONPATH", "UV_PUBLISH_TOKEN", "npm_config_//r/:_authToken"}; !slices.Equal(got.withheld, want) {
		t.Errorf("withheld are %q", got.withheld)
	}
}

func TestInheritEnvReplacesTheDefaults(t *testing.T) {
	t.Parallel()
	hub := []string{"PATH=/bin", "HTTP_PROXY=p", "MY_A=1", "MY_TOKEN=2", "GH_TOKEN=token-of-github"}
	cfg := config.Config{InheritEnv: []string{"MY_*", "GH_TOKEN"}}
	for _, test := range []struct {
		server []string
		want   []string
	}{
		{nil, []string{"GH_TOKEN=token-of-github", "MY_A=1", "PATH=/bin"}},
		{[]string{}, []string{"PATH=/bin"}},
		{[]string{"MY_TOKEN"}, []string{"MY_TOKEN=2", "PATH=/bin"}},
	} {
		s := config.Server{Command: "x", InheritEnv: test.server}
		if got := environmentOf(s, inheritedBy(cfg, s), hub).variables; !slices.Equal(got, test.want) {
			t.Errorf("inheritEnv %q: %q, want %q", test.server, got, test.want)
		}
	}
	if got := environmentOf(config.Server{}, cfg.InheritEnv, hub).secrets; !slices.Equal(got, []string{"token-of-github"}) {
		t.Errorf("the secrets are %q", got)
	}
}

func TestWithheldVariablesAreLoggedOnceAndWithoutValues(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	server := func(name string, inherit ...string) config.Server {
		return config.Server{Name: name, Command: "x", InheritEnv: inherit}
	}
	cfg := config.Config{Servers: []config.Server{
		server("a"), server("b", "NODE_OPTIONS"), server("c", "PYTHONPATH"), {Name: "d", URL: "http://x"},
	}}
	hub := []string{"NODE_OPTIONS=secret", "PYTHONPATH=secret", "HTTPS_PROXY=secret", "OWN=secret"}
	logWithheld(slog.New(slog.NewTextHandler(&log, nil)), cfg, hub)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "[HTTPS_PROXY NODE_OPTIONS PYTHONPATH]") ||
		strings.Contains(got, "secret") || strings.Contains(got, "OWN") {
		t.Errorf("the log is %s", got)
	}
	log.Reset()
	logWithheld(slog.New(slog.NewTextHandler(&log, nil)), config.Config{Servers: cfg.Servers[3:]}, []string{"NODE_OPTIONS=x"})
	if log.Len() != 0 {
		t.Errorf("a hub without children logs %s", &log)
	}
}

func TestChildOfAHubGetsInheritedVariablesAndNoOthers(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://u:password-of-proxy@127.0.0.1:1")
	t.Setenv("HUB_SECRET", "hunter2")
	out := filepath.Join(t.TempDir(), "env")
	script := `env > ` + out + `.new; mv ` + out + `.new ` + out + `; echo "$HTTPS_PROXY" >&2; sleep 1`
	hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {a: {command: sh, args: [-c, '` + script + `']}}`})
	var text string
	hubtest.Eventually(t, "the child has written its environment", func() bool {
		b, err := os.ReadFile(out)
		text = string(b)
		return err == nil
	})
	if !strings.Contains(text, "HTTPS_PROXY=http://u:password-of-proxy@") || strings.Contains(text, "hunter2") ||
		!strings.Contains(text, "MCPHUB_CHILD=") {
		t.Errorf("the environment is\n%s", text)
	}
	hubtest.Eventually(t, "its line is logged", func() bool { return len(hub.Logged("server stderr")) > 0 })
	if strings.Contains(hub.Log.String(), "password-of-proxy") {
		t.Error("the password of the proxy is logged")
	}
}
