// Package peers holds MCP servers and clients of other people's SDKs that tests
// put behind a hub and before it: a server and a client of go-sdk that do
// everything a hub has to relay, in both eras and over every transport, and
// go-sdk's own conformance server.
//
// A test program that uses a child process of this package calls Main in its
// TestMain, because the program is its own child.
package peers
