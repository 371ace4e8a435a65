package transport

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Transport is one connection to a server. Its methods may be called concurrently.
type Transport interface {
	// Start makes the connection. It is called once, before any other method but Close. After an error the caller
	// must still call Close. Messages may reach the Handler, which may call Send, before Start returns.
	Start(ctx context.Context) error

	// Call sends the request message and returns its response. Other messages of the server go to the Handler.
	Call(ctx context.Context, call *Call, message []byte) (jsonrpc.Message, error)

	// Send sends a notification or a response. Header is added to the request if that goes by Streamable HTTP.
	Send(ctx context.Context, message []byte, header http.Header) error

	// SetVersion sets the protocol version that was negotiated. It is called before any request but those of the
	// negotiation.
	SetVersion(version string)

	// Listen opens the stream for messages that belong to no request, if the transport has one of its own.
	Listen(ctx context.Context)

	// SessionID returns the id of the server's session, or "" if there is none.
	SessionID() string

	// Abandon gives the connection up because of reason, as if it had been lost. Calls under way may still end.
	Abandon(reason error)

	// Close closes the connection and waits for its goroutines. It takes a few seconds at most. With endSession it
	// ends the session at the server, too.
	Close(endSession bool)

	// Done is closed when the connection is lost or closed. Err then returns the reason.
	Done() <-chan struct{}
	Err() error
}

// Call is a request under way.
type Call struct {
	ID     jsonrpc.ID
	Header http.Header // of a modern request by HTTP. Nil marks a legacy one: it may adopt a session, and its stream can be resumed

	// Tentative is a request that the server may answer with 404 although it knows the session. The caller finds out.
	Tentative bool

	// Reply has room for one reply. Handler.Deliver and Handler.Fail put it here on transports that have one stream for
	// the responses to all requests.
	Reply chan Reply

	// Memory holds the memory of the response until the caller is done with it; nil: no limit.
	Memory *budget.Hold

	Answer Answer // set before Transport.Call returns
}

// Answer is what a transport knows of the answer to a request besides the response.
type Answer struct {
	Status   int  // of HTTP; 0: none, or the response did not come as the body of an answer of its own
	Preceded bool // by messages on the stream of the request: the server was at work on it
}

// Reply is the response to a call, or why there is none that can be read.
type Reply struct {
	Message jsonrpc.Message
	Err     error
}

// Keep reserves memory for the response m. If there is none, it returns an error response instead.
func (c *Call) Keep(m jsonrpc.Message) jsonrpc.Message {
	if err := c.Memory.Grow(int64(len(m.Result) + len(m.Error))); err != nil {
		c.Answer.Status = 0 // the error is not of the server
		return dropped(m.ID, err)
	}
	return m
}

// dropped is the response to a call whose response was dropped.
func dropped(id jsonrpc.ID, reason error) jsonrpc.Message {
	return jsonrpc.NewError(id, jsonrpc.Errorf(jsonrpc.CodeInternal, "the server answered, but its answer was dropped: %v", reason))
}

// replyOr returns the response if it has arrived, and err if not.
func (c *Call) replyOr(err error) (jsonrpc.Message, error) {
	select {
	case r := <-c.Reply:
		return r.Message, r.Err
	default:
		return jsonrpc.Message{}, err
	}
}

// Handler takes what arrives outside of Transport.Call: requests, notifications and, on transports with one stream for
// everything, responses. Its methods may be called concurrently and must not block.
type Handler interface {
	// Receive takes a request or a notification. ID is that of the Call on whose response stream it arrived, or ""
	// if it arrived elsewhere. M is valid only during the call of Receive.
	Receive(id jsonrpc.ID, m jsonrpc.Message)

	// Deliver takes a response and puts it into Call.Reply of the call with its id.
	Deliver(m jsonrpc.Message)

	// Fail takes what is known of a message that cannot be read. It ends the call whose response that is, or refuses the
	// request that it is. It reports false if there is no such call, or if it may be one of several.
	Fail(u *jsonrpc.Unreadable) bool

	// Lost is called once, when the connection is lost or closed.
	Lost(reason error)
}

// Sessions are functions that count sessions at the server.
type Sessions struct {
	// GivingBack is called when the server has given a session that the hub does not use and gives back. It returns what
	// is called afterwards, with whether the session is gone.
	GivingBack func() (done func(isGone bool))
	// NotEnded is called when the session of the connection could not be ended.
	NotEnded func()
}

// Config is what a Transport needs. Either Command or URL is set.
type Config struct {
	Handler    Handler
	Log        *slog.Logger
	Output     *slog.Logger // for what a child process prints to stderr
	MaxMessage int64        // bytes of one message

	// Memory is the account for what is read from the server; nil: no limit. A server of its Own client is not read while
	// the client is over its share. Otherwise it is always read, and what there is no memory for is dropped.
	Memory *budget.Account
	Own    bool

	// Context has the values for log records of background work. The GET stream ends with it.
	Context context.Context //nolint:containedctx // it outlives the call of New

	// Repaired is called with what was repaired in a message. Unreadable is called for each that cannot be read; told:
	// somebody was waiting for it, and was told. Both must be set.
	Repaired   func(jsonrpc.Repairs)
	Unreadable func(told bool)

	// Mask takes secrets out of a text of the server; nil: leaves it as it is.
	Mask func(text string) string

	// A child process.
	Command      string
	Args         []string
	Env          []string // the whole environment, KEY=VALUE
	Dir          string
	WriteTimeout time.Duration // for a child that reads nothing
	Graces       *Graces       // nil: those of the constants

	LastLines *LastLines // gets what the child says besides messages; nil: nothing does

	// Starting is called before the process is started, the function it returns with its id, or with 0 if it could not
	// be started, and the function which that one returns when the process has been waited for. It may be nil.
	Starting func() (started func(pid int) (ended func()))

	// HTTP.
	URL       string
	SSE       bool // URL is the stream of HTTP+SSE, not Streamable HTTP
	Headers   map[string]string
	SessionID string // of a session to resume; Streamable HTTP only
	Clients   *HTTPClients

	// InjectTrace adds the trace context of ctx to the headers of an HTTP request.
	InjectTrace func(ctx context.Context, header http.Header)
	// HTTPVersion is called with the HTTP version of a response; ctx is that of the request. Streamable HTTP only.
	HTTPVersion func(ctx context.Context, major, minor int)
	// Unmatched is called when a response arrives on a stream that belongs to another request, or to none. It and
	// CheckSession must be set for Streamable HTTP.
	Unmatched func()
	// Sessions is called about sessions at the server. Streamable HTTP only; its functions may be nil.
	Sessions Sessions
	// StreamAsked is called after each request for the GET stream, if it is set. Streamable HTTP only.
	StreamAsked func(opened bool)
	// CheckSession gives the connection up if the server has forgotten the session. It is called when the server answered 404 to the GET
	// stream: that may mean that the session is gone or that there is no such stream.
	CheckSession func(ctx context.Context)
}

// masked returns a text of the server without secrets.
func (c *Config) masked(text string) string {
	if c.Mask == nil {
		return text
	}
	return c.Mask(text)
}
