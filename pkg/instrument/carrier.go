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

// metaCarrier takes the values of traceKeys, "" for what is not there.
type MetaCarrier [len(traceKeys)]string

var _ propagation.TextMapCarrier = (*MetaCarrier)(nil)

// Get implements [propagation.TextMapCarrier].
func (m *MetaCarrier) Get(key string) string {
	if i := slices.Index(traceKeys[:], key); i >= 0 {
		return m[i]
	}
	return ""
}

// Set implements [propagation.TextMapCarrier]. What no _meta has is dropped.
func (m *MetaCarrier) Set(key, value string) {
	if i := slices.Index(traceKeys[:], key); i >= 0 {
		m[i] = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (*MetaCarrier) Keys() []string { return traceKeys[:] }

// metaReader gives what somebody wrote into _meta.
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

// Set implements [propagation.TextMapCarrier]: nothing is written.
func (metaReader) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (metaReader) Keys() []string { return traceKeys[:] }

// HeaderCarrier is [propagation.HeaderCarrier], but finds what every call is asked
// for without making the canonical form of its name each time.
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
func (h HeaderCarrier) Values(key string) []string { return h[canonical(key)] }

// Set implements [propagation.TextMapCarrier].
func (h HeaderCarrier) Set(key, value string) { h[canonical(key)] = []string{value} }

// Keys implements [propagation.TextMapCarrier].
func (h HeaderCarrier) Keys() []string { return slices.Collect(maps.Keys(h)) }

func canonical(key string) string {
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
