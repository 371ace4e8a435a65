package gateway

import (
	"encoding/json"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// toModern adds to a response what a modern client expects of it, where a legacy
// server, or the hub, has not said it.
func (g *Gateway) toModern(method string, m jsonrpc.Message) jsonrpc.Message {
	if m.Error != nil {
		m.Error = protocol.ToModernError(m.Error)
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
		return cacheHint{"0", protocol.CacheScopePrivate}
	}
	ttl, private := g.cfg.Catalog.Snapshot().Hints(kind)
	scope := protocol.CacheScopePublic
	if private {
		scope = protocol.CacheScopePrivate
	}
	return cacheHint{strconv.FormatInt(ttl, 10), scope}
}
