// Package sse reads and writes event streams (text/event-stream,
// https://html.spec.whatwg.org/multipage/server-sent-events.html).
//
// A Reader belongs to one stream, for example the body of a response, and a Writer belongs to one HTTP response. Each
// must be used by one goroutine at a time. Neither starts a goroutine.
package sse
