package protocol

import "github.com/mark3labs/mcp-go/mcp"

// The members of params._meta of a modern request, specification 2026-07-28, basic, _meta.
const (
	MetaProtocolVersion    = mcp.MetaKeyProtocolVersion
	MetaClientCapabilities = mcp.MetaKeyClientCapabilities
	MetaClientInfo         = mcp.MetaKeyClientInfo
	MetaLogLevel           = mcp.MetaKeyLogLevel
)

// The members of _meta in the messages of a modern server.
const (
	MetaServerInfo     = mcp.MetaKeyServerInfo
	MetaSubscriptionID = mcp.MetaKeySubscriptionID // of a notification on a stream of subscriptions/listen
)

// RequestMeta returns the members of params._meta that only modern servers know.
func RequestMeta() []string {
	return []string{MetaProtocolVersion, MetaClientCapabilities, MetaClientInfo, MetaLogLevel}
}
