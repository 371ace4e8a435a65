package peers

import (
	"strconv"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// Everything starts go-sdk's conformance server, which is not ours. It keeps
// sessions and speaks the revisions up to 2025-11-25.
func Everything(t testing.TB) (url string) {
	t.Helper()
	return everythingServer(t, false)
}

// StatelessEverything starts the same server without sessions: it speaks
// 2026-07-28, and the older revisions as far as they need no session.
func StatelessEverything(t testing.TB) (url string) {
	t.Helper()
	return everythingServer(t, true)
}

func everythingServer(t testing.TB, stateless bool) (url string) {
	t.Helper()
	address := hubtest.FreeAddress(t)
	hubtest.StartProcess(t, hubtest.Program(t, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"),
		"-http="+address, "-stateless="+strconv.FormatBool(stateless))
	hubtest.Eventually(t, "everything-server listens", func() bool {
		status, _ := hubtest.Get(t, "http://"+address+"/mcp")
		return status != 0
	})
	return "http://" + address + "/mcp"
}

// BareConfig is the configuration of a hub with this one server, whose names
// stay as they are.
func BareConfig(url string) string {
	return "naming: bare\nmcpServers: {everything: {url: \"" + url + "\"}}\n"
}
