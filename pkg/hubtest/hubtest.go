// Package hubtest runs mcphub in tests: the real program on free ports, with
// scripted MCP servers behind it, scripted MCP clients before it, and a
// collector for what it exports. The tests of mcphub use it, and so can the
// tests of any MCP server that is to work behind a hub:
//
//	func TestMyServerBehindAHub(t *testing.T) {
//		url := hubtest.Serve(t, myserver.Handler())
//		hub := hubtest.StartHub(t, hubtest.Options{Config: `mcpServers: {mine: {url: "` + url + `"}}`})
//		client := hubtest.Connect(t, hub.URL())
//		answer := client.Request("tools/call", `{"name":"mine__greet","arguments":{}}`)
//		...
//	}
//
// Every function that starts something takes a testing.TB, and what it starts
// ends with that test. A failure of the kit itself, such as a program that does
// not build or a server that does not answer, fails the test at once.
//
// Hub and Process are programs of their own, so a test can kill them, restart
// them and read what they wrote. LegacyClient, ModernClient and Script write
// their messages by hand: the test sees every byte that was sent. "Legacy" are
// the revisions of MCP up to 2025-11-25, which have a handshake and sessions;
// "modern" is 2026-07-28, in which each request stands alone.
package hubtest

// The revisions of MCP that clients and scripts speak unless they are told
// otherwise.
const (
	LegacyVersion = "2025-11-25"
	ModernVersion = "2026-07-28"
)
