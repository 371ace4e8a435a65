package routing

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// Capabilities returns the capabilities of all servers together, as far as the hub forwards them.
func (x *Router) Capabilities() json.RawMessage {
	if x.Only != nil {
		if init, ok := x.Only.Initialized(); ok {
			return x.transparentCapabilities(init)
		}
	}
	// Tools, prompts and resources are always offered: a server that is down now may have some later.
	caps := map[string]json.RawMessage{
		"tools":   json.RawMessage(`{"listChanged":true}`),
		"prompts": json.RawMessage(`{"listChanged":true}`),
	}
	subscribe := false
	for _, s := range x.Pool.Servers() {
		init, _ := s.Initialized()
		fields, err := jsonrpc.Fields(init.Capabilities, "logging", "completions", "resources")
		if err != nil {
			continue
		}
		for i, name := range []string{"logging", "completions"} {
			if fields[i] != nil {
				caps[name] = json.RawMessage(`{}`)
			}
		}
		if sub, err := jsonrpc.Fields(fields[2], "subscribe"); err == nil && string(sub[0]) == "true" {
			subscribe = true
		}
	}
	if tasks := x.taskCapability(); tasks != nil {
		caps["tasks"] = tasks
	}
	caps["resources"] = json.RawMessage(`{"subscribe":` + strconv.FormatBool(subscribe) + `,"listChanged":true}`)
	b, _ := json.Marshal(caps)
	return b
}

// transparentCapabilities returns the capabilities of the only server. Tasks are removed if all
// clients share its connection, because the server could not tell their tasks apart.
func (x *Router) transparentCapabilities(init upstream.Initialized) json.RawMessage {
	if !KeepsTasks(x.Only) {
		if caps, err := jsonrpc.Rewrite(init.Capabilities, jsonrpc.Edit{Name: "tasks"}); err == nil {
			return caps
		}
	}
	if len(init.Capabilities) == 0 {
		return json.RawMessage(`{}`)
	}
	return init.Capabilities
}

// instructions joins the instructions of the servers.
func (x *Router) instructions() string {
	var parts []string
	for _, s := range x.Pool.Servers() {
		init, _ := s.Initialized()
		switch {
		case init.Instructions == "":
		case x.Only != nil:
			return init.Instructions
		default:
			parts = append(parts, "# "+s.Name()+"\n\n"+init.Instructions)
		}
	}
	return strings.Join(parts, "\n\n")
}

// KeepsTasks reports whether clients can have tasks of specification 2025-11-25,
// basic/utilities/tasks, at server. Such tasks belong to a session, so the server must have a session of its own for each client.
func KeepsTasks(server *upstream.Server) bool {
	if !server.Isolated() || server.Modern() {
		return false
	}
	init, _ := server.Initialized()
	has, err := jsonrpc.Fields(init.Capabilities, "tasks")
	return err == nil && has[0] != nil
}

// ListsTasks reports whether server supports tasks/list.
func ListsTasks(server *upstream.Server) bool {
	init, _ := server.Initialized()
	return KeepsTasks(server) && protocol.Declares(init.Capabilities, "tasks", "list")
}

// taskCapability returns the tasks capability of all servers together, or nil if none keeps tasks.
func (x *Router) taskCapability() json.RawMessage {
	var lists, cancels, calls bool
	for _, server := range x.Pool.Servers() {
		if !KeepsTasks(server) {
			continue
		}
		init, _ := server.Initialized()
		lists = lists || protocol.Declares(init.Capabilities, "tasks", "list")
		cancels = cancels || protocol.Declares(init.Capabilities, "tasks", "cancel")
		calls = calls || protocol.Declares(init.Capabilities, "tasks", "requests", "tools", "call")
	}
	var parts []string
	for _, part := range []struct {
		has  bool
		text string
	}{{lists, `"list":{}`}, {cancels, `"cancel":{}`}, {calls, `"requests":{"tools":{"call":{}}}`}} {
		if part.has {
			parts = append(parts, part.text)
		}
	}
	if parts == nil {
		return nil
	}
	return json.RawMessage("{" + strings.Join(parts, ",") + "}")
}

// serverInfo returns the serverInfo of the hub.
func (x *Router) serverInfo() json.RawMessage {
	b, _ := json.Marshal(map[string]string{"name": "mcphub", "title": "mcphub", "version": x.version})
	return b
}

// InitializeResult returns the result of initialize.
func (x *Router) InitializeResult(version string) json.RawMessage {
	result := struct {
		ProtocolVersion string          `json:"protocolVersion"`
		Capabilities    json.RawMessage `json:"capabilities"`
		ServerInfo      json.RawMessage `json:"serverInfo"`
		Instructions    string          `json:"instructions,omitempty"`
	}{version, x.Capabilities(), x.serverInfo(), x.instructions()}
	b, err := json.Marshal(result)
	if err != nil { // capabilities that are not JSON are refused when a server connects
		panic(err)
	}
	return b
}

// DiscoverResult returns the result of server/discover.
func (x *Router) DiscoverResult() json.RawMessage {
	capabilities := x.Capabilities()
	if out, err := jsonrpc.Rewrite(capabilities, jsonrpc.Edit{Name: "tasks"}); err == nil {
		capabilities = out
	}
	result := struct {
		ResultType        string                     `json:"resultType"`
		SupportedVersions []string                   `json:"supportedVersions"`
		Capabilities      json.RawMessage            `json:"capabilities"`
		Instructions      string                     `json:"instructions,omitempty"`
		Meta              map[string]json.RawMessage `json:"_meta"`
		TTL               int64                      `json:"ttlMs"`
		CacheScope        string                     `json:"cacheScope"`
	}{"complete", protocol.SupportedVersions(), capabilities, x.instructions(),
		map[string]json.RawMessage{protocol.MetaServerInfo: x.serverInfo()}, 0, protocol.CacheScopePrivate}
	b, err := json.Marshal(result)
	if err != nil { // capabilities that are not JSON are refused when a server connects
		panic(err)
	}
	return b
}
