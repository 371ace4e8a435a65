// Package sse reads and writes event streams (text/event-stream,
// https://html.spec.whatwg.org/multipage/server-sent-events.html). A Reader belongs to one response body
// and a Writer to one HTTP response, and each is used by one goroutine. Neither starts any.
package sse
