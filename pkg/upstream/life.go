package upstream

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// established is when a connection was ready for use, and where its end is measured.
type established struct {
	since time.Time
	ends  map[string]prometheus.Observer // by error type
}

// The error types of connections that ended by themselves.
const (
	lifeGone = "session_gone"    // the server forgot the session
	lifeLost = "connection_lost" // the process ended, or the server was not there any more
)

// settle notes the protocol version that was agreed on.
func (c *Conn) settle(version string) {
	c.agreed.Store(&version)
	c.transport.SetVersion(version)
}

// version is the protocol version that was agreed on, empty before that. Unlike
// init it may be read at any time: a server may ask something before that.
func (c *Conn) version() string {
	if v := c.agreed.Load(); v != nil {
		return *v
	}
	return ""
}

// establish notes that the connection is ready, and has the series that its end
// will count in be there before.
func (c *Conn) establish() {
	ends := map[string]prometheus.Observer{}
	for _, kind := range []string{"", lifeGone, lifeLost} {
		ends[kind] = c.tel.lives.WithLabelValues(kind, c.version(), c.spec.Name)
	}
	c.life.Store(&established{time.Now(), ends})
}

// lived measures the life of a connection that has just ended. One that never was
// ready had none.
func (c *Conn) lived() {
	life := c.life.Load()
	if life == nil {
		return
	}
	kind := lifeLost
	switch err := c.transport.Err(); {
	case errors.Is(err, transport.ErrClosed):
		kind = ""
	case errors.Is(err, ErrSessionGone):
		kind = lifeGone
	}
	life.ends[kind].Observe(time.Since(life.since).Seconds())
}
