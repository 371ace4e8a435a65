// Package instrument measures what both hops of the hub have in common: the one between client and hub
// (downstream) and the one between hub and server (backend).
//
//	Spans         begins the spans of JSON-RPC messages
//	Operations    records durations in an OperationHistogram, with bounded labels
//	Messages      counts messages and follows each request until it ends (InFlight)
//	Tap           passes messages to whoever follows a session
//
// Besides it carries trace contexts in _meta and headers, says whose fault an outcome is (Fault), and
// redacts errors and URIs. Metrics live as long as the process and label sets of a tool as long as the tool is
// listed. The package starts no goroutine.
package instrument
