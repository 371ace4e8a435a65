package upstream

import (
	"errors"
	"time"
)

// established is when a connection was ready for use, and what it speaks.
type established struct {
	since   time.Time
	version string
}

// The error types of connections that ended by themselves.
const (
	lifeGone = "session_gone"    // the server forgot the session
	lifeLost = "connection_lost" // the process ended, or the server was not there any more
)

// establish notes that the connection is ready, and has the series that its end
// will count in be there before.
func (c *Conn) establish() {
	version := c.init.ProtocolVersion
	for _, kind := range []string{"", lifeGone, lifeLost} {
		c.tel.lives.WithLabelValues(kind, version, c.spec.Name)
	}
	c.life.Store(&established{time.Now(), version})
}

// version is the protocol version that was agreed on, empty before that. Unlike
// init it may be read at any time.
func (c *Conn) version() string {
	if life := c.life.Load(); life != nil {
		return life.version
	}
	return ""
}

// lived measures the life of a connection that has just ended. One that never was
// ready had none.
func (c *Conn) lived() {
	life := c.life.Load()
	if life == nil {
		return
	}
	kind := lifeLost
	switch err := c.wire.err(); {
	case errors.Is(err, errClosed):
		kind = ""
	case errors.Is(err, ErrSessionGone):
		kind = lifeGone
	}
	c.tel.lives.WithLabelValues(kind, life.version, c.spec.Name).Observe(time.Since(life.since).Seconds())
}
