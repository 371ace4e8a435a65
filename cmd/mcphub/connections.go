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
	"sync/atomic"
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
	servers                              int // connections of single clients to servers; 0: no limit
	clientDescriptor, operatorDescriptor int // see connections.descriptor
}

// The file descriptors that are kept.
const (
	minReserve     = 64   // for servers, children, operators and the disk
	maxReserve     = 8192 // the same
	diskReserve    = 24   // for the disk, listeners and shared servers
	serverConnSize = 5    // for a connection of a single client to a server: pipes and the process
)

// planConnections divides the file descriptors; 0: their number has no limit. Half is for servers, children, operators and
// the disk: the connections of clients do not make room for those.
func planConnections(clients, descriptors int) connectionPlan {
	reserve := min(max(descriptors/2, minReserve), maxReserve, descriptors*3/4)
	if descriptors > 0 {
		clients = min(clients, descriptors-reserve)
	}
	p := connectionPlan{clients: clients, operators: min(max(clients/8, 4), 256)}
	if descriptors > 0 {
		p.clientDescriptor, p.operatorDescriptor = descriptors-reserve, descriptors-diskReserve
		p.servers = max((reserve-diskReserve-p.operators)/serverConnSize, 1)
	}
	return p
}

// use is what a connection is used for. Those that can be spared come first.
type use string

const (
	unused    use = "unused"  // it has not sent a request yet
	idle      use = "idle"    // it has, and may send another
	sending   use = "sending" // it has not sent the body of its request yet
	streaming use = "stream"  // it reads a stream, which it can resume
	unread    use = "unread"  // what is written to it has not been read for a while
	working   use = ""        // its request is being answered: it cannot be spared
)

// spares are the uses in the order in which connections are spared, and how old a connection must be.
var spares = [...]struct {
	use use
	age time.Duration
}{{unused, unusedAge}, {idle, idleAge}, {sending, time.Second}, {streaming, 10 * time.Second}}

// How old a connection must be that has no request. In a crowd of new connections each has the time to send its first
// request, and a client that goes on calling does not lose its connection just when it sends the next request.
const (
	unusedAge = 100 * time.Millisecond
	idleAge   = 500 * time.Millisecond
)

// unreadAge is how long a write must have waited for a client before its connection is spared.
const unreadAge = 5 * time.Second

// clientConn notes since when a write waits for its client.
type clientConn struct {
	net.Conn
	writing atomic.Int64 // Unix time in ns; 0: no write is going on
}

// Write implements net.Conn.
func (c *clientConn) Write(p []byte) (int, error) {
	c.writing.Store(time.Now().UnixNano())
	defer c.writing.Store(0)
	return c.Conn.Write(p)
}

// connection is an open connection.
type connection struct {
	conn  *clientConn
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
	c.spared[unread] = closed.WithLabelValues(string(unread))
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
		accepted, err := l.Listener.Accept()
		conn := &clientConn{Conn: accepted}
		if isOutOfDescriptors(err) && l.all.spare() {
			continue
		}
		if err != nil {
			return nil, err
		}
		if l.all.admit(conn) {
			return conn, nil
		}
		refuseConnection(conn)
	}
}

// isOutOfDescriptors reports whether err is that the process or the system has no file descriptor left.
func isOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// refuseConnection tells a client to come again later. Many will not see it, because the hub does not read their request.
func refuseConnection(conn *clientConn) {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	const text = "the hub has too many connections; try again later\n"
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"+
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	_ = conn.Close()
}

// admit adds a connection. It waits, while the next ones wait in the queue of the listener, if a connection without a
// request is about to be old enough to be spared. It reports false if there is no room.
func (c *connections) admit(conn *clientConn) bool {
	for end := time.Now().Add(idleAge); ; {
		added, pause := c.add(conn)
		if added {
			return true
		}
		if pause <= 0 || time.Now().After(end) {
			c.refused.Inc()
			return false
		}
		time.Sleep(pause)
	}
}

// add adds a connection. If there is no room for it, it returns the time after which a connection without a request may
// be spared; 0: there is none.
func (c *connections) add(conn *clientConn) (added bool, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := len(c.open) >= c.limit || (c.descriptor > 0 && descriptorOf(conn.Conn) >= c.descriptor)
	if full && !c.spareOne() {
		return false, c.untilSpare()
	}
	n := &connection{conn: conn}
	c.open[conn] = n
	c.active.Inc()
	c.move(n, unused)
	return true, 0
}

// untilSpare returns the time until a connection without a request is old enough; 0: there is none. The caller holds mu.
func (c *connections) untilSpare() (least time.Duration) {
	for _, s := range spares[:2] {
		if oldest := c.by[s.use].Front(); oldest != nil {
			n := oldest.Value.(*connection) //nolint:forcetypeassert // the lists have no other values
			if wait := max(s.age-time.Since(n.since), time.Millisecond); least == 0 || wait < least {
				least = wait
			}
		}
	}
	return least
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
		c.close(n, s.use)
		return true
	}
	if n := c.longestUnread(); n != nil {
		c.close(n, unread)
		return true
	}
	return false
}

// longestUnread returns the connection whose client has not read for longest, or nil. The caller holds mu.
func (c *connections) longestUnread() (longest *connection) {
	before := time.Now().Add(-unreadAge).UnixNano()
	for _, n := range c.open {
		if since := n.conn.writing.Load(); since != 0 && since < before {
			longest, before = n, since
		}
	}
	return longest
}

// close closes n, which is spared. The caller holds mu.
func (c *connections) close(n *connection, of use) {
	c.spared[of].Inc()
	c.remove(n)
	_ = n.conn.Close() // the goroutine that serves it sees that
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
