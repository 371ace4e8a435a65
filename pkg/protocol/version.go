package protocol

import (
	"slices"

	"github.com/mark3labs/mcp-go/mcp"
)

// Era is a family of protocol versions, specification 2026-07-28, basic/versioning.
type Era string

// The eras.
const (
	AnyEra Era = ""       // not known yet
	Legacy Era = "legacy" // up to 2025-11-25: a handshake, sessions, requests of servers
	Modern Era = "modern" // from 2026-07-28: every request stands alone
)

const (
	// ModernVersion is the protocol version that the hub uses with modern peers.
	ModernVersion = mcp.LATEST_PROTOCOL_VERSION

	// LatestLegacyVersion is the version that the hub offers to legacy servers.
	LatestLegacyVersion = mcp.LATEST_LEGACY_PROTOCOL_VERSION

	// BatchVersion is the only version that has JSON-RPC batches.
	BatchVersion = "2025-03-26"
)

// The error codes of specification 2026-07-28. Only modern peers use them.
const (
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// The error codes of the legacy protocol.
const (
	// CodeSessionNotFound is the code that the SDKs give an unknown session. It comes with the HTTP status
	// 404, which makes a client initialize again.
	CodeSessionNotFound = -32001

	// CodeResourceNotFound is from specification 2025-11-25, server/resources, error handling.
	CodeResourceNotFound = -32002

	// CodeURLElicitationRequired says that the user has to open a page first, specification 2025-11-25,
	// client/elicitation.
	CodeURLElicitationRequired = -32042
)

// LegacyVersions returns the supported versions that have a handshake and sessions, the
// newest first.
func LegacyVersions() []string {
	return slices.DeleteFunc(slices.Clone(mcp.ValidProtocolVersions), mcp.IsModernProtocol)
}

// IsLegacyVersion reports whether version is one of LegacyVersions.
func IsLegacyVersion(version string) bool {
	return slices.Contains(mcp.ValidProtocolVersions, version) && !mcp.IsModernProtocol(version)
}

// SupportedVersions returns the supported versions of both eras, the newest first.
func SupportedVersions() []string { return append([]string{ModernVersion}, LegacyVersions()...) }

// IsVersion reports whether the hub supports version, of whichever era.
func IsVersion(version string) bool { return mcp.IsValidProtocolVersion(version) }

// IsModernVersion reports whether version is of the modern era.
func IsModernVersion(version string) bool { return mcp.IsModernProtocol(version) }

// NegotiateLegacyVersion returns the version to use with a legacy client that asked for
// requested, specification 2025-11-25, basic/lifecycle, version negotiation.
func NegotiateLegacyVersion(requested string) string { return mcp.NegotiateLegacyVersion(requested) }
