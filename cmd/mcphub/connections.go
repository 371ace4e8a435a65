package main

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// connections limits the connections of one listener. One that is too many takes the place of the one that can be spared
// most easily; if none can, it is refused. Its methods may be called concurrently.
type connections struct {
	limit      int // connections at the same time
	descriptor int // a connection with this file descriptor leaves too few for servers, children and the disk; 0: none does

	active  prometheus.Gauge
	refused prometheus.Counter
	spared  map[use]prometheus.Counter

	mu   sync.Mutex
	open map[net.Conn]*connection
	by   map[use]*list.List // of *connection, the oldest first
}

// connectionPlan says how many connections the listeners accept.
type connectionPlan struct {
	clients, operators                   int
	clientDescriptor, operatorDescriptor int // see connections.descriptor
}

// planConnections divides the file descriptors; 0: their number has no limit. A quarter is for servers, children and the
// disk, of which operators may take half: they must get in when clients have taken all of theirs.
func planConnections(clients, descriptors int) connectionPlan {
	p := connectionPlan{clients: clients}
	if descriptors > 0 {
		reserve := min(max(descriptors/4, 64), 8192, descriptors/2)
		p.clientDescriptor, p.operatorDescriptor = descriptors-reserve, descriptors-reserve/2
		p.clients = min(p.clients, p.clientDescriptor)
	}
	p.operators = min(max(p.clients/8, 16), 256)
	return p
}

// use is what a connection is used for. Those that can be spared come first.
type use string

const (
	unused    use = "unused"  // it has not sent a request yet
	idle      use = "idle"    // it has, and may send another
	sending   use = "sending" // it has not sent the body of its request yet
	streaming use = "stream"  // it reads a stream, which it can resume
	working   use = ""        // its request is being answered: it cannot be spared
)

// spares are the uses in the order in which connections are spared, and how old a connection must be.
var spares = [...]struct {
	use use
	age time.Duration
}{{unused, 0}, {idle, 0}, {sending, time.Second}, {streaming, 10 * time.Second}}

// connection is an open connection.
type connection struct {
	conn  net.Conn
	use   use
	since time.Time
	place *list.Element // in connections.by; nil: it is working
}

// newConnections makes the connections of the listener of that name.
func newConnections(name string, limit, descriptor int, r prometheus.Registerer) *connections {
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, r))
	c := &connections{limit: limit, descriptor: descriptor, open: map[net.Conn]*connection{}, by: map[use]*list.List{},
		spared: map[use]prometheus.Counter{}}
	c.active = f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_connections_active", Help: "Open TCP connections of clients."})
	f.NewGauge(prometheus.GaugeOpts{Name: "mcphub_connections_limit",
		Help: "TCP connections of clients that are accepted at the same time."}).Set(float64(limit))
	c.refused = f.NewCounter(prometheus.CounterOpts{Name: "mcphub_connections_refused_total",
		Help: "TCP connections that were refused because none could be spared for them."})
	closed := f.NewCounterVec(prometheus.CounterOpts{Name: "mcphub_connections_spared_total",
		Help: "TCP connections that were closed for new ones, by what they were used for."}, []string{"use"})
	for _, s := range spares {
		c.by[s.use], c.spared[s.use] = list.New(), closed.WithLabelValues(string(s.use))
	}
	return c
}

// limitedListener accepts the connections that there is room for.
type limitedListener struct {
	net.Listener
	all *connections
}

// Accept implements net.Listener.
func (l limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if isOutOfDescriptors(err) && l.all.spare() {
			continue
		}
		if err != nil || l.all.add(conn) {
			return conn, err
		}
		refuseConnection(conn)
	}
}

// isOutOfDescriptors reports whether err is that the process or the system has no file descriptor left.
func isOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// refuseConnection tells a client to come again later. Many will not see it, because the hub does not read their request.
func refuseConnection(conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	const text = "the hub has too many connections; try again later\n"
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"+
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	_ = conn.Close()
}

// add adds a connection. It reports false if there is no room for it.
func (c *connections) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := len(c.open) >= c.limit || (c.descriptor > 0 && descriptorOf(conn) >= c.descriptor)
	if full && !c.spareOne() {
		c.refused.Inc()
		return false
	}
	n := &connection{conn: conn}
	c.open[conn] = n
	c.active.Inc()
	c.move(n, unused)
	return true
}

// spare closes the connection that can be spared most easily. It reports whether there was one.
func (c *connections) spare() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spareOne()
}

// spareOne is spare with mu held.
func (c *connections) spareOne() bool {
	for _, s := range spares {
		oldest := c.by[s.use].Front()
		if oldest == nil {
			continue
		}
		n := oldest.Value.(*connection) //nolint:forcetypeassert // the lists have no other values
		if time.Since(n.since) < s.age {
			continue
		}
		c.spared[s.use].Inc()
		c.remove(n)
		_ = n.conn.Close() // the goroutine that serves it sees that
		return true
	}
	return false
}

// move makes n the newest of those with that use. The caller holds mu.
func (c *connections) move(n *connection, to use) {
	if n.place != nil {
		c.by[n.use].Remove(n.place)
		n.place = nil
	}
	n.use, n.since = to, time.Now()
	if to != working {
		n.place = c.by[to].PushBack(n)
	}
}

// remove forgets n. The caller holds mu.
func (c *connections) remove(n *connection) {
	c.move(n, working)
	if c.open[n.conn] == n {
		delete(c.open, n.conn)
		c.active.Dec()
	}
}

// changed follows the state of a connection. It is meant for http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.open[conn]
	if n == nil {
		return // it was spared
	}
	switch state {
	case http.StateNew:
	case http.StateActive:
		c.move(n, working)
	case http.StateIdle:
		c.move(n, idle)
	default:
		c.remove(n)
	}
}

// using changes the use of a connection while its request is being answered.
func (c *connections) using(conn net.Conn, to use) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.open[conn]; n != nil {
		c.move(n, to)
	}
}

// connKey is the key of the connection in the context of a request.
type connKey struct{}

// serve makes server and listener have the connections.
func (c *connections) serve(server *http.Server, listener net.Listener) net.Listener {
	server.ConnState = c.changed
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	server.Handler = c.follow(server.Handler)
	return limitedListener{listener, c}
}

// follow notes what the requests of next use their connections for.
func (c *connections) follow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		switch {
		case conn == nil:
		case r.Method == http.MethodGet:
			c.using(conn, streaming)
		case r.ContentLength != 0:
			c.using(conn, sending)
			r.Body = &followedBody{r.Body, func() { c.using(conn, working) }}
		}
		next.ServeHTTP(w, r)
	})
}

// followedBody calls ended at the end of a body.
type followedBody struct {
	io.ReadCloser
	ended func()
}

// Read implements io.Reader.
func (b *followedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended()
	}
	return n, err
}
