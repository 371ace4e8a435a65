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

// toModern adds to a response what a modern client expects of it, where a legacy
// server, or the hub, has not said it.
func (g *Gateway) toModern(method string, m jsonrpc.Message) jsonrpc.Message {
	if m.Error != nil {
		m.Error = g.toModernError(m.Error)
		return m
	}
	fields, err := jsonrpc.Fields(m.Result, "resultType", "ttlMs", "cacheScope", "_meta")
	if err != nil || (fields[0] != nil && string(fields[0]) != `"complete"`) {
		return m
	}
	edits := make([]jsonrpc.Edit, 0, 4)
	if fields[0] == nil {
		edits = append(edits, jsonrpc.Edit{Name: "resultType", Value: json.RawMessage(`"complete"`)})
		meta, err := jsonrpc.Rewrite(fields[3], jsonrpc.Edit{Name: protocol.MetaServerInfo, Value: g.serverInfo()})
		if err == nil {
			edits = append(edits, jsonrpc.Edit{Name: "_meta", Value: meta})
		}
	}
	if method == protocol.MethodToolsList {
		m.Result = protocol.WithoutTaskSupport(m.Result)
	}
	if kind, cached := cacheable[method]; cached {
		hint := g.hint(kind)
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

// cacheable are the methods whose results say how long they may be kept, and
// the merged list that they are.
var cacheable = map[string]catalog.Kind{
	protocol.MethodToolsList: catalog.Tools, protocol.MethodPromptsList: catalog.Prompts, protocol.MethodResourcesList: catalog.Resources,
	protocol.MethodResourcesTemplatesList: catalog.Templates, protocol.MethodResourcesRead: -1,
}

type cacheHint struct{ ttl, scope string }

// hint is the careful one of all servers. A legacy server gives none: what it
// says may have changed at once.
func (g *Gateway) hint(kind catalog.Kind) cacheHint {
	if kind < 0 || g.only != nil {
		return cacheHint{"0", scopePrivate}
	}
	ttl, private := g.cfg.Catalog.Snapshot().Hints(kind)
	scope := scopePublic
	if private {
		scope = scopePrivate
	}
	return cacheHint{strconv.FormatInt(ttl, 10), scope}
}

// toModernError gives an error the code that the modern protocol has for it, and
// none that it does not know.
func (g *Gateway) toModernError(raw json.RawMessage) json.RawMessage {
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
