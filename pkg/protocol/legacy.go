package protocol

import (
	"encoding/json"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// ToLegacy converts the response of a modern server to a request of method for a legacy client. It removes the
// members of a result that legacy clients do not know, and restores the legacy code of an unknown resource.
func ToLegacy(method string, response jsonrpc.Message) jsonrpc.Message {
	if response.Error != nil {
		if method == MethodResourcesRead {
			response.Error = legacyResourceNotFound(response.Error)
		}
		return response
	}
	edits := []jsonrpc.Edit{{Name: "resultType"}, {Name: "ttlMs"}, {Name: "cacheScope"}}
	if meta, found := withoutServerInfo(response.Result); found {
		edits = append(edits, jsonrpc.Edit{Name: "_meta", Value: meta})
	}
	if result, err := jsonrpc.Rewrite(response.Result, edits...); err == nil {
		response.Result = result
	}
	return response
}

// withoutServerInfo returns the _meta of a result without MetaServerInfo, which a legacy client has already
// received with the result of initialize; nil if _meta has no other member. found reports whether _meta had one.
func withoutServerInfo(result json.RawMessage) (meta json.RawMessage, found bool) {
	fields, err := jsonrpc.Fields(result, "_meta")
	if err != nil || fields[0] == nil {
		return nil, false
	}
	info, err := jsonrpc.Fields(fields[0], MetaServerInfo)
	if err != nil || info[0] == nil {
		return nil, false
	}
	meta, err = jsonrpc.Rewrite(fields[0], jsonrpc.Edit{Name: MetaServerInfo})
	if err != nil || string(meta) == "{}" {
		meta = nil
	}
	return meta, err == nil
}

// legacyResourceNotFound replaces the code of an error about an unknown resource by the code that it had up to
// specification 2025-11-25 (SEP-2164). Every other error is returned as it is.
func legacyResourceNotFound(raw json.RawMessage) json.RawMessage {
	e := jsonrpc.ParseError(raw)
	if uri, ok := jsonrpc.StringField(e.Data, "uri"); !ok || uri == "" || e.Code != jsonrpc.CodeInvalidParams {
		return raw
	}
	code := json.RawMessage(strconv.Itoa(CodeResourceNotFound))
	out, err := jsonrpc.Rewrite(raw, jsonrpc.Edit{Name: "code", Value: code})
	if err != nil {
		return raw
	}
	return out
}
