package routing

import (
	"encoding/json"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// ToModern adds to a response of a legacy server or of the hub the members that a modern client expects.
func (x *Router) ToModern(method string, m jsonrpc.Message) jsonrpc.Message {
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
func (x *Router) cacheHint(kind catalog.Kind) cacheHint {
	if kind < 0 || x.Only != nil {
		return cacheHint{"0", protocol.CacheScopePrivate}
	}
	ttl, private := x.catalog.Snapshot().Hints(kind)
	scope := protocol.CacheScopePublic
	if private {
		scope = protocol.CacheScopePrivate
	}
	return cacheHint{strconv.FormatInt(ttl, 10), scope}
}
