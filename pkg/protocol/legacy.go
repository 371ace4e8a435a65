package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// toLegacy takes out of a response what legacy clients do not know.
func ToLegacy(method string, response jsonrpc.Message) jsonrpc.Message {
	if response.Error != nil {
		if method == MethodResourcesRead {
			response.Error = legacyResourceNotFound(response.Error)
		}
		return response
	}
	edits := []jsonrpc.Edit{{Name: "resultType"}, {Name: "ttlMs"}, {Name: "cacheScope"}}
	if meta, has := withoutServerInfo(response.Result); has {
		edits = append(edits, jsonrpc.Edit{Name: "_meta", Value: meta})
	}
	if result, err := jsonrpc.Rewrite(response.Result, edits...); err == nil {
		response.Result = result
	}
	return response
}

// withoutServerInfo returns the _meta of a result without what a legacy client
// was told by initialize; nil if nothing else is in it. It reports whether there
// was such a thing.
func withoutServerInfo(result json.RawMessage) (json.RawMessage, bool) {
	fields, err := jsonrpc.Fields(result, "_meta")
	if err != nil || fields[0] == nil {
		return nil, false
	}
	info, err := jsonrpc.Fields(fields[0], MetaServerInfo)
	if err != nil || info[0] == nil {
		return nil, false
	}
	meta, err := jsonrpc.Rewrite(fields[0], jsonrpc.Edit{Name: MetaServerInfo})
	if err != nil || string(meta) == "{}" {
		meta = nil
	}
	return meta, err == nil
}

// resourceNotFound gives the error the code that it had up to 2025-11-25
// (SEP-2164).
func legacyResourceNotFound(raw json.RawMessage) json.RawMessage {
	e := jsonrpc.ParseError(raw)
	if uri, ok := jsonrpc.StringField(e.Data, "uri"); !ok || uri == "" || e.Code != jsonrpc.CodeInvalidParams {
		return raw
	}
	out, err := jsonrpc.Rewrite(raw, jsonrpc.Edit{Name: "code", Value: json.RawMessage(strconv.Itoa(CodeResourceNotFound))})
	if err != nil {
		return raw
	}
	return out
}

// isToolError reports whether result has isError: true. Results are long, so
// they are parsed only if the word occurs.
func IsToolError(result json.RawMessage) bool {
	if !bytes.Contains(result, []byte(`"isError"`)) {
		return false
	}
	is, err := jsonrpc.Field(result, "isError")
	return err == nil && string(is) == "true"
}
