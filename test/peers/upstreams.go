package peers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// Upstream is a Server and the way in which a hub reaches it.
type Upstream struct {
	Name      string // in the configuration
	Transport string // as documents name it
	Revision  string // that the hub has to speak with it

	entry func(testing.TB) string // starts it and returns its entry in the configuration
}

// Upstreams returns one server of each kind: every transport in both eras, where
// the transport exists in both.
func Upstreams() []Upstream {
	return []Upstream{
		{"child", "stdio", hubtest.LegacyVersion, child("child", "", hubtest.LegacyVersion)},
		{"newchild", "stdio", hubtest.ModernVersion, child("newchild", ", era: modern")}, // it speaks both
		{"http", "Streamable HTTP", hubtest.LegacyVersion, func(t testing.TB) string {
			t.Helper()
			return fmt.Sprintf("{url: %q}", NewServer("http", hubtest.LegacyVersion).OverHTTP(t, false))
		}},
		{"newhttp", "Streamable HTTP", hubtest.ModernVersion, func(t testing.TB) string {
			t.Helper()
			return fmt.Sprintf("{url: %q}", NewServer("newhttp").OverHTTP(t, true))
		}},
		{"sse", "HTTP+SSE", hubtest.LegacyVersion, func(t testing.TB) string {
			t.Helper()
			return fmt.Sprintf("{url: %q, type: sse}", NewServer("sse", hubtest.LegacyVersion).OverSSE(t))
		}},
	}
}

// SharedDualChild returns a child of both eras that all clients share. The hub has
// to speak the legacy one with it.
func SharedDualChild() Upstream {
	return Upstream{"dualchild", "stdio", hubtest.LegacyVersion, child("dualchild", "")}
}

// child returns the entry of a child: its command, and more keys.
func child(name, more string, revisions ...string) func(testing.TB) string {
	return func(t testing.TB) string { t.Helper(); return "{" + Child(t, "", name, revisions...) + more + "}" }
}

// StartHub starts a hub in front of the servers and waits until all are up.
func StartHub(t testing.TB, naming string, upstreams []Upstream) *hubtest.Hub {
	t.Helper()
	var config strings.Builder
	fmt.Fprintf(&config, "naming: %s\nmcpServers:\n", naming)
	for _, u := range upstreams {
		fmt.Fprintf(&config, "  %s: %s\n", u.Name, u.entry(t))
	}
	hub := hubtest.StartHub(t, hubtest.Options{Config: config.String()})
	hub.AwaitServers(len(upstreams))
	return hub
}

// Era returns the name of the era of a revision.
func Era(revision string) string {
	if revision >= hubtest.ModernVersion {
		return "modern"
	}
	return "legacy"
}
