// Package instrument measures the messages and operations of both hops of the hub: the hop between client and hub
// (downstream) and the hop between hub and server (backend).
//
//	Spans                begins the spans of JSON-RPC messages
//	OperationHistogram   durations of operations, with traces as exemplars
//	Operations           records operations of all peers of a hop with bounded labels; a Recorder for each peer
//	Messages             counts messages, and follows each request until it ends (InFlight)
//	Tap                  passes messages to the observers of sessions
//
// It also propagates trace contexts in _meta and in headers, names the party that caused a failure (Fault), bounds the
// values of labels, and redacts errors and URIs.
//
// Metrics live as long as the process. The series of a tool live as long as the tool is listed, the series of a peer
// until its Recorder is closed. The package starts no goroutine and has no global state: a registerer, tracer or
// propagator comes from the caller.
package instrument
