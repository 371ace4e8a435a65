package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// pipes is a listener without sockets, so that time can be virtual.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, errors.New("closed")
	}
}

// inBubble runs a hub without servers in virtual time.
func inBubble(t *testing.T, s setup, test func(t *testing.T, r *rig, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		s.sessions = func(c *session.Config) { c.FlushInterval = time.Minute } // fewer timers to simulate
		r := build(t, s)
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: Guard{}.Handler(r.gateway)}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(p) })
		if len(s.specs) == 0 {
			r.run()
		} else {
			r.stopWorkers = func() {} // the servers never connect
		}
		transport := &http.Transport{DialContext: p.dial}
		r.client, r.url = &http.Client{Transport: transport}, "http://localhost"
		defer func() { // also after a failed test, which would be reported as a deadlock
			transport.CloseIdleConnections()
			r.stop()
			_ = server.Close()
			serving.Wait()
		}()
		test(t, r, p)
	})
}
