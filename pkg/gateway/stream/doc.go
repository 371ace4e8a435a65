// Package stream keeps the resumable event streams of one client session and writes them to HTTP
// responses.
//
//	Log ── Stream ── Reader ── HTTP response
//
// A Log lives as long as its session and owns the session's Streams. A Stream is a sequence of messages to the
// client: that of a GET, or the responses to one POST. It outlives the connection that it is written to: a client that lost the connection
// resumes the stream with Last-Event-ID, specification 2025-11-25, basic/transports, resumability. A Sender writes a Stream to a
// response, on the goroutine of the HTTP handler. The only goroutine of the package is the timer of a Log, which forgets what
// is older than the window; Log.Close stops it.
package stream
