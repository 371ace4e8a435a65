// Package transport moves whole JSON-RPC messages between the hub and one MCP server.
//
// A Transport is one connection. There are three implementations:
//
//	stdio           a child process, one message a line
//	streamableHTTP  requests by POST, answers as JSON or as event streams
//	httpSSE         HTTP+SSE of 2024-11-05: one event stream for all answers, requests by POST
//
// A transport knows neither clients nor their sessions. Messages that arrive outside of a response go to its Handler.
// Everything else that it needs comes by Config.
//
// A Transport lives from Start until its connection is lost or Close is called. Its goroutines read from the server
// and write to it: stdio has four and waits for the process in a fifth, httpSSE has one for its stream and one for the
// POST of each call, streamableHTTP has one for the GET stream and one for each response body that is being drained.
// Close waits for all of them.
//
// A file uses only files below it:
//
//	new.go                                        picks an implementation
//	stdio.go         http_call.go    http_sse.go  the implementations
//	                 http_listen.go               the GET stream, and when to ask for it again
//	process*.go      http_stream.go               a child process; reading and resuming event streams
//	                 http_session.go              sessions at the server
//	                 http.go                      a session over Streamable HTTP
//	                 http_message.go, http_errors.go
//	http_redirect.go                              which redirects are followed
//	lifetime.go                                   what the implementations have in common
//	receive.go                                    reads messages, and what is not quite one
//	transport.go                                  Transport, Call, Handler, Config
//	starterror.go, lastlines.go                   why a child does not start
//	kind.go, http_client.go, backoff.go, graces.go, errors.go
package transport

// New makes the transport that cfg describes. It starts nothing.
func New(cfg Config) Transport {
	switch KindOf(cfg.URL, cfg.SSE) {
	case Stdio:
		return newStdio(cfg)
	case HTTPSSE:
		return newHTTPSSE(cfg)
	default:
		return newStreamableHTTP(cfg)
	}
}
