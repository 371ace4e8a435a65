package upstream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/instrument/instrumenttest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The protocol forbids such requests, but a server that waits for an answer must not wait for ever.
func TestRequestsOfAModernServerAreAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	s := newModernScript(t)
	s.on["tools/call"] = func(w http.ResponseWriter, _ *http.Request, m jsonrpc.Message) {
		startStream(w)
		writeEvent(w, "", `{"jsonrpc":"2.0","id":"ask","method":"roots/list"}`)
		writeEvent(w, "", `{"jsonrpc":"2.0","id":"alive","method":"ping"}`)
		writeEvent(w, "", `{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{"resultType":"complete","content":[]}}`)
	}
	e := newEnv(t, s.spec())
	tool(t, e.connect(t, nil), "echo", "")
	hubtest.Eventually(t, "both are answered", func() bool {
		asked, alive := s.sent("POST", `"id":"ask"`), s.sent("POST", `"id":"alive"`)
		return len(asked) == 1 && strings.Contains(asked[0].body, `"error":{"code":-32601,"message":"in protocol version 2026-07-28 a server`) &&
			len(alive) == 1 && strings.Contains(alive[0].body, `"result":{}`)
	})
	if n := instrumenttest.Value(t, e.reg, "mcphub_unmatched_responses_total", "reason", "question"); n != 1 {
		t.Errorf("%v are counted", n)
	}
}
