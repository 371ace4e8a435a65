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
	Legacy Era = "legacy" // up to 2025-11-25: initialize handshake, sessions, requests from servers
	Modern Era = "modern" // from 2026-07-28: no handshake and no session; each request is self-contained
)

// The protocol versions that have a role of their own.
const (
	// ModernVersion is the protocol version that the hub uses with modern peers.
	ModernVersion = mcp.LATEST_PROTOCOL_VERSION

	// LatestLegacyVersion is the version that the hub offers to legacy servers.
	LatestLegacyVersion = mcp.LATEST_LEGACY_PROTOCOL_VERSION

	// BatchVersion is the only version that has JSON-RPC batches.
	BatchVersion = "2025-03-26"
)

// SupportedVersions returns the supported versions of both eras, the newest first.
func SupportedVersions() []string { return append([]string{ModernVersion}, LegacyVersions()...) }

// LegacyVersions returns the supported versions of the legacy era, the newest first.
func LegacyVersions() []string {
	return slices.DeleteFunc(slices.Clone(mcp.ValidProtocolVersions), mcp.IsModernProtocol)
}

// IsVersion reports whether the hub supports version, of either era.
func IsVersion(version string) bool { return mcp.IsValidProtocolVersion(version) }

// IsLegacyVersion reports whether version is one of LegacyVersions.
func IsLegacyVersion(version string) bool {
	return slices.Contains(mcp.ValidProtocolVersions, version) && !mcp.IsModernProtocol(version)
}

// IsModernVersion reports whether version belongs to the modern era. The hub need not support it.
func IsModernVersion(version string) bool { return mcp.IsModernProtocol(version) }

// NegotiateLegacyVersion returns the version to use with a legacy client that requested
// a version, specification 2025-11-25, basic/lifecycle, version negotiation.
func NegotiateLegacyVersion(requested string) string { return mcp.NegotiateLegacyVersion(requested) }
