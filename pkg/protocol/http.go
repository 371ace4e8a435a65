package protocol

// The headers of Streamable HTTP in canonical form, specification 2025-11-25, basic/transports, streamable HTTP.
const (
	HeaderSessionID       = "Mcp-Session-Id"
	HeaderProtocolVersion = "Mcp-Protocol-Version"
	HeaderLastEventID     = "Last-Event-Id"
)

// The headers that mirror the body of a modern request in canonical form, so that intermediaries can route a
// request without parsing it (specification 2026-07-28, basic/transports/streamable-http, Request Metadata).
const (
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-" // followed by the Name of a ParamHeader
)

// The media types of messages.
const (
	TypeJSON        = "application/json"
	TypeEventStream = "text/event-stream"
)
