package instrument

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"go.opentelemetry.io/otel/propagation"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// traceKeys are the members of _meta that carry a trace context (SEP-414).
var traceKeys = [...]string{"traceparent", "tracestate", "baggage"}

// MetaCarrier holds the values of traceKeys, in their order; "" for a key that is not set. It injects a trace context
// into _meta without a map. The zero MetaCarrier is empty and ready to use.
type MetaCarrier [len(traceKeys)]string

var _ propagation.TextMapCarrier = (*MetaCarrier)(nil)

// Get implements [propagation.TextMapCarrier].
func (m *MetaCarrier) Get(key string) string {
	if i := slices.Index(traceKeys[:], key); i >= 0 {
		return m[i]
	}
	return ""
}

// Set implements [propagation.TextMapCarrier]. Other keys than traceKeys are dropped.
func (m *MetaCarrier) Set(key, value string) {
	if i := slices.Index(traceKeys[:], key); i >= 0 {
		m[i] = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (*MetaCarrier) Keys() []string { return traceKeys[:] }

// metaReader extracts the trace context of a received _meta. It is read-only.
type metaReader json.RawMessage

var _ propagation.TextMapCarrier = metaReader{}

// Get implements [propagation.TextMapCarrier].
func (m metaReader) Get(key string) string {
	if !slices.Contains(traceKeys[:], key) {
		return ""
	}
	v, _ := jsonrpc.StringField(json.RawMessage(m), key)
	return v
}

// Set implements [propagation.TextMapCarrier]. It does nothing.
func (metaReader) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (metaReader) Keys() []string { return traceKeys[:] }

// HeaderCarrier is [propagation.HeaderCarrier] without the allocation of a canonical name for the keys that every
// call reads and writes.
type HeaderCarrier http.Header

var _ propagation.ValuesGetter = HeaderCarrier{}

// Get implements [propagation.TextMapCarrier].
func (h HeaderCarrier) Get(key string) string {
	if v := h.Values(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Values implements [propagation.ValuesGetter].
func (h HeaderCarrier) Values(key string) []string { return h[canonicalKey(key)] }

// Set implements [propagation.TextMapCarrier].
func (h HeaderCarrier) Set(key, value string) { h[canonicalKey(key)] = []string{value} }

// Keys implements [propagation.TextMapCarrier].
func (h HeaderCarrier) Keys() []string { return slices.Collect(maps.Keys(h)) }

// canonicalKey is [http.CanonicalHeaderKey] without an allocation for traceKeys.
func canonicalKey(key string) string {
	switch key {
	case "traceparent":
		return "Traceparent"
	case "tracestate":
		return "Tracestate"
	case "baggage":
		return "Baggage"
	}
	return http.CanonicalHeaderKey(key)
}
