package protocol

import (
	"slices"
	"testing"
)

func TestSupportedVersionsAreTheModernAndTheLegacyOnesNewestFirst(t *testing.T) {
	t.Parallel()
	want := []string{"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}
	if got := SupportedVersions(); !slices.Equal(got, want) {
		t.Errorf("supported are %q, want %q", got, want)
	}
	if got := LegacyVersions(); !slices.Equal(got, want[1:]) {
		t.Errorf("legacy are %q, want %q", got, want[1:])
	}
	if ModernVersion != want[0] || LatestLegacyVersion != want[1] || !slices.Contains(want, BatchVersion) {
		t.Errorf("the versions are %q, %q and %q", ModernVersion, LatestLegacyVersion, BatchVersion)
	}
}

func TestVersionsBelongToOneEra(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		version                   string
		supported, legacy, modern bool
	}{
		{"2026-07-28", true, false, true},
		{"2025-11-25", true, true, false},
		{"2024-11-05", true, true, false},
		{"2099-01-01", false, false, true}, // of a later specification
		{"2024-01-01", false, false, false},
		{"", false, false, false},
	} {
		if s, l, m := IsVersion(tt.version), IsLegacyVersion(tt.version), IsModernVersion(tt.version); s != tt.supported ||
			l != tt.legacy || m != tt.modern {
			t.Errorf("%q: supported %t, legacy %t, modern %t", tt.version, s, l, m)
		}
	}
}

func TestNegotiateLegacyVersionReturnsALegacyVersion(t *testing.T) {
	t.Parallel()
	for requested, want := range map[string]string{
		"2025-06-18": "2025-06-18", "2024-11-05": "2024-11-05",
		"2026-07-28": LatestLegacyVersion, "2099-01-01": LatestLegacyVersion, "1.0": LatestLegacyVersion,
		"": "2025-03-26", // which the specification assumes where a version is missing
	} {
		if got := NegotiateLegacyVersion(requested); got != want {
			t.Errorf("%q: %q, want %q", requested, got, want)
		}
	}
}
