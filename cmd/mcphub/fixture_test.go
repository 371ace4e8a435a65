package main

import (
	"strconv"
	"testing"
)

// everything starts go-sdk's conformance server, which is not ours. It keeps
// sessions and speaks the revisions up to 2025-11-25.
func everything(t *testing.T) (url string) {
	t.Helper()
	return everythingServer(t, false)
}

// statelessEverything starts the same server without sessions: it speaks
// 2026-07-28, and the older revisions as far as they need no session.
func statelessEverything(t *testing.T) (url string) {
	t.Helper()
	return everythingServer(t, true)
}

func everythingServer(t *testing.T, stateless bool) (url string) {
	t.Helper()
	address := freeAddress(t)
	start(t, built(t, "everything-server", "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"),
		"-http="+address, "-stateless="+strconv.FormatBool(stateless))
	eventually(t, "everything-server listens", func() bool {
		status, _ := get(t, "http://"+address+"/mcp")
		return status != 0
	})
	return "http://" + address + "/mcp"
}

// bareConfig is the configuration of a hub with this one server, whose names
// stay as they are.
func bareConfig(url string) string {
	return "naming: bare\nmcpServers: {everything: {url: \"" + url + "\"}}\n"
}
