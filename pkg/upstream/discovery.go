package upstream

import (
	"encoding/json"
	"slices"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// offersModern reports whether the data of the error "unsupported protocol version" names the modern version.
func offersModern(data json.RawMessage) bool {
	var d struct {
		Supported []string `json:"supported"`
	}
	return json.Unmarshal(data, &d) == nil && slices.Contains(d.Supported, protocol.ModernVersion)
}

// parseDiscovery reads the result of server/discover. It returns nil for that of a server that speaks legacy versions
// only.
func parseDiscovery(result json.RawMessage) *Initialized {
	var d struct {
		SupportedVersions []string        `json:"supportedVersions"`
		Capabilities      json.RawMessage `json:"capabilities"`
		Instructions      string          `json:"instructions"`
		Meta              struct {
			ServerInfo json.RawMessage `json:"io.modelcontextprotocol/serverInfo"`
		} `json:"_meta"`
	}
	if json.Unmarshal(result, &d) != nil || !slices.Contains(d.SupportedVersions, protocol.ModernVersion) {
		return nil
	}
	if len(d.Capabilities) == 0 || d.Capabilities[0] != '{' {
		d.Capabilities = json.RawMessage(`{}`)
	}
	return &Initialized{ProtocolVersion: protocol.ModernVersion, Capabilities: d.Capabilities, ServerInfo: d.Meta.ServerInfo,
		Instructions: d.Instructions, dual: slices.ContainsFunc(d.SupportedVersions, protocol.IsLegacyVersion)}
}

// mayRefuseDiscovery reports whether a modern server may refuse server/discover with this error: it must know the
// method, but may find a fault in the request.
func mayRefuseDiscovery(response jsonrpc.Message) bool {
	switch jsonrpc.ParseError(response.Error).Code {
	case protocol.CodeHeaderMismatch, protocol.CodeMissingCapability, protocol.CodeUnsupportedVersion, jsonrpc.CodeInternal:
		return true
	}
	return false
}
