package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// The values of cacheScope, specification 2026-07-28, server/utilities/caching.
const (
	scopePrivate = "private" // for the same authorization only
	scopePublic  = "public"
)

// toModern adds to a response of a legacy server or of the hub the members that a modern client expects.
func (x *router) toModern(method string, m jsonrpc.Message) jsonrpc.Message {
	if m.Error != nil {
		m.Error = toModernError(m.Error)
		return m
	}
	fields, err := jsonrpc.Fields(m.Result, "resultType", "ttlMs", "cacheScope", "_meta")
	if err != nil || (fields[0] != nil && string(fields[0]) != `"complete"`) {
		return m
	}
	edits := make([]jsonrpc.Edit, 0, 4)
	if fields[0] == nil {
		edits = append(edits, jsonrpc.Edit{Name: "resultType", Value: json.RawMessage(`"complete"`)})
		meta, err := jsonrpc.Rewrite(fields[3], jsonrpc.Edit{Name: protocol.MetaServerInfo, Value: x.serverInfo()})
		if err == nil {
			edits = append(edits, jsonrpc.Edit{Name: "_meta", Value: meta})
		}
	}
	if method == protocol.MethodToolsList {
		m.Result = protocol.WithoutTaskSupport(m.Result)
	}
	if kind, cached := cacheable[method]; cached {
		hint := x.cacheHint(kind)
		if fields[1] == nil {
			edits = append(edits, jsonrpc.Edit{Name: "ttlMs", Value: json.RawMessage(hint.ttl)})
		}
		if fields[2] == nil {
			edits = append(edits, jsonrpc.Edit{Name: "cacheScope", Value: jsonrpc.String(hint.scope)})
		}
	}
	if len(edits) == 0 {
		return m
	}
	if result, err := jsonrpc.Rewrite(m.Result, edits...); err == nil {
		m.Result = result
	}
	return m
}

// cacheable has the methods whose results say how long they may be cached, and the merged list that each
// returns; -1 for none.
var cacheable = map[string]catalog.Kind{
	protocol.MethodToolsList: catalog.Tools, protocol.MethodPromptsList: catalog.Prompts, protocol.MethodResourcesList: catalog.Resources,
	protocol.MethodResourcesTemplatesList: catalog.Templates, protocol.MethodResourcesRead: -1,
}

type cacheHint struct{ ttl, scope string }

// cacheHint returns the most restrictive hint of all servers. A legacy server gives none: its list may change at
// any time.
func (x *router) cacheHint(kind catalog.Kind) cacheHint {
	if kind < 0 || x.only != nil {
		return cacheHint{"0", scopePrivate}
	}
	ttl, private := x.catalog.Snapshot().Hints(kind)
	scope := scopePublic
	if private {
		scope = scopePrivate
	}
	return cacheHint{strconv.FormatInt(ttl, 10), scope}
}

// toModernError replaces an error code of the legacy protocol by the modern one.
func toModernError(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte("-320")) {
		return raw
	}
	code := json.RawMessage(strconv.Itoa(jsonrpc.CodeInvalidParams))
	edits := []jsonrpc.Edit{{Name: "code", Value: code}}
	switch jsonrpc.ParseError(raw).Code {
	case protocol.CodeResourceNotFound:
	case protocol.CodeURLElicitationRequired:
		edits = []jsonrpc.Edit{
			{Name: "code", Value: json.RawMessage(strconv.Itoa(jsonrpc.CodeInternal))},
			{Name: "message", Value: jsonrpc.String("the server wants the user to open a page first, in a way that protocol version " +
				protocol.ModernVersion + " does not have")},
		}
	default:
		return raw
	}
	out, err := jsonrpc.Rewrite(raw, edits...)
	if err != nil {
		return raw
	}
	return out
}
