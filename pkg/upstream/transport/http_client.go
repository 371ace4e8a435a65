package transport

import (
	"net/http"
	"time"
)

// HTTPClients are the HTTP clients that all connections to one server share.
type HTTPClients struct {
	requests *http.Client
	// noBody is for messages that are answered without a body. net/http makes their TCP connection available again
	// before it returns the response, and a deadline that passes in between ends the next request on the connection.
	// So that must not be a call.
	noBody *http.Client
}

// NewHTTPClients makes the clients of one server.
func NewHTTPClients() *HTTPClients { return &HTTPClients{newHTTPClient(), newHTTPClient()} }

// CloseIdle closes the TCP connections that are not in use.
func (c *HTTPClients) CloseIdle() {
	c.requests.CloseIdleConnections()
	c.noBody.CloseIdleConnections()
}

// newHTTPClient makes a client that follows redirects within the origin only, see followRedirect.
func newHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 64
	t.IdleConnTimeout = 4 * time.Second // shorter than that of servers: Node.js closes after 5 s, perhaps during a request
	return &http.Client{Transport: t, CheckRedirect: followRedirect}
}
