package protocol

import (
	"encoding/json"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestToLegacyRemovesModernMembersOfResults(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"tools":[ ],"resultType":"complete","ttlMs":1,"cacheScope":"public"}`:       `{"tools":[ ]}`,
		`{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x"}},"n":1.50}`:      `{"n":1.50}`,
		`{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x"}, "a": 1},"n":1}`: `{"_meta":{ "a": 1},"n":1}`,
		`{"_meta":{ "a":1},"content":[]}`:                                             `{"_meta":{ "a":1},"content":[]}`,
		`{"structuredContent":{"resultType":"complete"}}`:                             `{"structuredContent":{"resultType":"complete"}}`,
	} {
		got := ToLegacy(MethodToolsCall, jsonrpc.NewResult("1", json.RawMessage(in)))
		if string(got.Result) != want {
			t.Errorf("%s: %s, want %s", in, got.Result, want)
		}
	}
}

func TestToLegacyRestoresTheCodeOfAnUnknownResource(t *testing.T) {
	t.Parallel()
	const unknown = `{"code":-32602,"message":"x","data":{"uri":"a:b"}}`
	for _, tt := range []struct{ method, in, want string }{
		{MethodResourcesRead, unknown, `{"code":-32002,"message":"x","data":{"uri":"a:b"}}`},
		{MethodToolsCall, unknown, unknown},
		{MethodResourcesRead, `{"code":-32602,"message":"x"}`, `{"code":-32602,"message":"x"}`},
		{MethodResourcesRead, `{"code":-32602,"message":"x","data":{"uri":""}}`, `{"code":-32602,"message":"x","data":{"uri":""}}`},
		{MethodResourcesRead, `{"code":-32603,"message":"x","data":{"uri":"a:b"}}`, `{"code":-32603,"message":"x","data":{"uri":"a:b"}}`},
	} {
		got := ToLegacy(tt.method, jsonrpc.Message{ID: "1", Error: json.RawMessage(tt.in)})
		if string(got.Error) != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.method, tt.in, got.Error, tt.want)
		}
	}
}
