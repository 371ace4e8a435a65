package protocol

// The headers of Streamable HTTP in canonical form, specification 2025-11-25,
// basic/transports, streamable HTTP. Those that mirror the body of a modern request are in headers.go.
const (
	HeaderSessionID       = "Mcp-Session-Id"
	HeaderProtocolVersion = "Mcp-Protocol-Version"
	HeaderLastEventID     = "Last-Event-Id"
)

// The media types of messages.
const (
	TypeJSON        = "application/json"
	TypeEventStream = "text/event-stream"
)
