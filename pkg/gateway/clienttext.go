package gateway

import (
	"net/http"
	"strings"
)

// The limits, in bytes, of what a client declares about itself. These texts are part of the record of its session,
// whose size stores limit.
const (
	maxField        = 256     // of each text, for example its name
	maxPath         = 4 << 10 // of its working directory
	maxCapabilities = 8 << 10 // of its capabilities
)

// header returns the value of the first of these headers that the request has.
func header(r *http.Request, names ...string) string {
	for _, name := range names {
		if v := r.Header.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// clip returns the part of s that a record keeps, as valid UTF-8.
func clip(s string) string { return clipTo(s, maxField) }

// clipPath is clip for a working directory.
func clipPath(s string) string { return clipTo(s, maxPath) }

// clipTo returns the first limit bytes of s, as valid UTF-8.
func clipTo(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}
