package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestSecretsNeverPrintThemselves(t *testing.T) {
	c := mustParse(t, "mcpServers: {a: {command: x, env: {K: canary}}, b: {url: 'http://h/', headers: {K: canary}}}")
	var printed bytes.Buffer
	for _, v := range []any{c, &c, c.Servers, c.Servers[0].Env, c.Servers[1].Headers["K"], []any{c.Servers[0].Env["K"]}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3v"} {
			fmt.Fprintf(&printed, verb, v)
		}
		if err := json.NewEncoder(&printed).Encode(v); err != nil {
			t.Fatal(err)
		}
		if err := yaml.NewEncoder(&printed).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&printed, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("x", "v", v)
	}
	for _, canary := range []string{"canary", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%X", "canary"), "can"} {
		if strings.Contains(printed.String(), canary) {
			t.Errorf("%s is in\n%s", canary, printed.String())
		}
	}
	if !strings.Contains(printed.String(), "***") {
		t.Error("nothing stands for the secret")
	}
	if c.Servers[0].Env["K"].Reveal() != "canary" {
		t.Error("Reveal does not reveal")
	}
}

func TestEmptySecretPrintsAsEmpty(t *testing.T) {
	if got := fmt.Sprintf("%v|%q|%#v", Secret(""), Secret(""), Secret("")); got != `|""|""` {
		t.Error(got)
	}
	if b, err := json.Marshal(Secret("")); string(b) != `""` || err != nil {
		t.Error(string(b), err)
	}
}
