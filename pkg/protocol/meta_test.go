package protocol

import (
	"strings"
	"testing"
)

func TestRequestMetaListsDistinctMembers(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, member := range RequestMeta() {
		if seen[member] || !strings.HasPrefix(member, "io.modelcontextprotocol/") {
			t.Errorf("%q is a duplicate or has another prefix", member)
		}
		seen[member] = true
	}
	if len(seen) != 4 || seen[MetaServerInfo] || seen[MetaSubscriptionID] {
		t.Errorf("the members are %v", seen)
	}
}
