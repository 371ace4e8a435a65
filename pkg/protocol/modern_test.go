package protocol

import (
	"encoding/json"
	"testing"
)

func TestModernCapabilitiesOmitTasksAndListChangedOfRoots(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``:   `{}`,
		`[]`: `{}`,
		`{`:  `{}`,
		`{}`: `{}`,
		`{"roots":{"listChanged":true},"sampling":{ "tools":{}}}`:              `{"roots":{},"sampling":{ "tools":{}}}`,
		`{"tasks":{"list":{}},"elicitation":{}}`:                               `{"elicitation":{}}`,
		`{"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{"z":1.50}}}`: `{"extensions":{"x/y":{"z":1.50}}}`,
	} {
		if got := string(ModernCapabilities(json.RawMessage(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestToModernErrorReplacesOnlyCodesThatTheModernProtocolLacks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{`{"code":-32002,"message":"x","data":{"uri":"a:b"}}`, `{"code":-32602,"message":"x","data":{"uri":"a:b"}}`},
		{`{"code":-32042,"message":"x","data":{"n":1.50}}`, `{"code":-32603,"message":"the server wants the user to open a page first, ` +
			`in a way that protocol version 2026-07-28 does not have","data":{"n":1.50}}`},
		{`{"code":-32001,"message":"x"}`, `{"code":-32001,"message":"x"}`},
		{`{"code":-32601,"message":"x"}`, `{"code":-32601,"message":"x"}`},
		{`{"code":1,"message":"-32002"}`, `{"code":1,"message":"-32002"}`},
		{`"-32002"`, `"-32002"`},
	} {
		if got := string(ToModernError(json.RawMessage(tt.in))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}
