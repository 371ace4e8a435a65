package transport

// Kind is a kind of transport. Whatever depends on the transport of a server asks its Kind, so that another transport
// has to answer these questions and nothing else.
type Kind string

// The kinds.
const (
	Stdio          Kind = "stdio"
	StreamableHTTP Kind = "http"
	HTTPSSE        Kind = "sse" // HTTP+SSE of 2024-11-05
)

// KindOf returns the kind of a server that is reached at url, or is a child process if url is empty. sse says that url is
// the stream of HTTP+SSE.
func KindOf(url string, sse bool) Kind {
	switch {
	case url == "":
		return Stdio
	case sse:
		return HTTPSSE
	}
	return StreamableHTTP
}

// IsProcess reports whether the server is a child process of the hub. It has one protocol era for its whole life, the
// end of the process is noticed without pings, and by default all clients share it.
func (k Kind) IsProcess() bool { return k == Stdio }

// HasHeaders reports whether each message to the server is an HTTP request with headers of its own.
func (k Kind) HasHeaders() bool { return k == StreamableHTTP || k == HTTPSSE }

// HasStreams reports whether each request to a modern server has a stream of its own, which the hub cancels by closing
// it. Otherwise all messages share one stream, and the end of a request must be said on it.
func (k Kind) HasStreams() bool { return k == StreamableHTTP }

// HasSessions reports whether a server can give the connection a session id, with which a later connection resumes the
// session.
func (k Kind) HasSessions() bool { return k == StreamableHTTP }

// Network returns the values of network.transport and network.protocol.name of the semantic conventions. The latter may be
// empty.
func (k Kind) Network() (transport, protocol string) {
	if k == Stdio {
		return "pipe", ""
	}
	return "tcp", "http"
}
