package main

import (
	"slices"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/config"
)

func TestEnvironmentPasswordsInItAndArgumentsInCommandAreSecrets(t *testing.T) {
	t.Parallel()
	got := secretsOf(config.Server{Command: "server --token k1", Env: map[string]config.Secret{"DB": "mysql://u:k2@host/db"}})
	for _, want := range []string{"k1", "mysql://u:k2@host/db", "k2"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not one of %q", want, got)
		}
	}
}

func TestCredentialsInArgumentsAreSecrets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want []string }{
		{[]string{"-y", "pkg", "--api-key=k1", "--token", "k2", "-password", "k3", "--port", "80", "--auth-token"}, []string{"k1", "k2", "k3"}},
		{[]string{"run", "-e", "GITHUB_TOKEN=k1", "--env=API_KEY=k2", "-e", "MODE=fast", "TOKEN=k=3"}, []string{"k1", "k2", "k=3"}},
		{[]string{"mcp-remote", "https://host/mcp", "--header", "X-Team: k1", "-H", "Authorization: Bearer k2"},
			[]string{"k1", "Bearer k2", "k2"}},
		{[]string{"Authorization:Bearer k1"}, []string{"Bearer k1", "k1"}},
		{[]string{"https://u:p%40ss@host/x?key=a%2Fb&n=1"}, []string{"p@ss", "p%40ss", "a/b", "a%2Fb"}},
		{[]string{"--url=postgres://u:k1@host/db"}, []string{"k1"}},
		{[]string{"host=db user=u password=k1"}, []string{"k1"}},
		{[]string{"Server=db;Password=k1;Pooling=true"}, []string{"k1"}},
		{[]string{"-c", `API_KEY="k1" exec server --db-pwd='k2' "https://u:k3@host"`}, []string{"k1", "k2", "k3"}},
	} {
		got := secretsInArgs(test.args)
		for _, want := range test.want {
			if !slices.Contains(got, want) {
				t.Errorf("%q: %q is not one of %q", test.args, want, got)
			}
		}
	}
}

func TestOtherArgumentsAreNoSecrets(t *testing.T) {
	t.Parallel()
	args := []string{"-y", "@scope/server", "--port", "80", "--mode=fast", "/home/me", "https://host/path", "C:/apps", "localhost:8080",
		"-e", "GITHUB_TOKEN", "--log", "level: info"}
	if got := secretsInArgs(args); got != nil {
		t.Errorf("%q", got)
	}
}
