package protocol

// The error codes of specification 2026-07-28. Only modern peers use them.
const (
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// The error codes of the legacy protocol.
const (
	// CodeSessionNotFound is the code that the SDKs send for an unknown session. It comes with the HTTP status
	// 404, which makes a client initialize again.
	CodeSessionNotFound = -32001

	// CodeResourceNotFound is from specification 2025-11-25, server/resources, error handling.
	CodeResourceNotFound = -32002

	// CodeURLElicitationRequired asks the client to have the user open a URL before it repeats the request,
	// specification 2025-11-25, client/elicitation.
	CodeURLElicitationRequired = -32042
)
