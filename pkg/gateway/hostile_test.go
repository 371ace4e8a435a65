package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// A server in Go finds a progress token under _META, too, where the hub does not
// look for one. It is not to be the token of somebody else's call.
func TestNobodyHasASharedServerReportOnTheCallOfAnother(t *testing.T) {
	r := start(t, setup{specs: []upstream.Spec{stdio(t, "one")}})
	ann, bob := r.connect(), r.connect()
	s := ann.open(http.MethodPost, request("1", "tools/call", `{"name":"one__gated","arguments":{"steps":1},"_meta":{"progressToken":"ann"}}`))
	until(t, "ann's call is under way", func() bool { return bob.state("one").Seen["tools/call"] > 1 })
	for n := range 40 {
		bob.call("1", "tools/call", fmt.Sprintf(`{"name":"one__work","arguments":{"steps":1,"bob":1},"_meta":{},"_META":{"progressToken":%d}}`, n))
	}
	bob.tool("one__gate", `{"steps":2}`)
	if m := s.message(); m.Method != "notifications/progress" || strings.Contains(string(m.Params), "bob") {
		t.Errorf("ann hears %s %s", m.Method, m.Params)
	}
	if m := s.message(); m.Result == nil {
		t.Errorf("ann hears %s %s", m.Method, m.Params)
	}
}
