package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// demoConn is the connection of one client to a demo server of its own, over a
// pair of streams. It runs one goroutine that reads, one that writes, and one
// for each call.
//
// mcp-go's StdioServer is no replacement: it may write the response of a call
// before the last progress of the call, loses a cancellation that closely
// follows its call, and shares one session among all servers of a process.
type demoConn struct {
	server  *server.MCPServer
	session *server.InProcessSession // holds a queue of notifications and the log level
	answers chan mcp.JSONRPCMessage
	running sync.WaitGroup

	mu    sync.Mutex
	calls map[string]context.CancelFunc // without a response yet, by the JSON of their ids
}

func newDemoConn(version string) *demoConn {
	return &demoConn{
		server:  newDemoServer(version),
		session: server.NewInProcessSession("stdio", nil),
		answers: make(chan mcp.JSONRPCMessage),
		calls:   make(map[string]context.CancelFunc),
	}
}

// serve reads requests from in and writes responses and notifications to out,
// until in or ctx ends. It returns when all calls have ended.
func (c *demoConn) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(c.server.WithContext(ctx, c.session))
	defer stop()
	if err := c.server.RegisterSession(ctx, c.session); err != nil {
		return err
	}
	defer c.server.UnregisterSession(ctx, c.session.SessionID())

	written := make(chan error, 1)
	go func() { written <- c.write(out, stop) }()
	err := c.read(ctx, in)
	stop()
	c.running.Wait()
	close(c.answers)
	return errors.Join(err, <-written)
}

// read handles each line of in until in or ctx ends. The goroutine that waits
// for a line may outlive read: the read from in cannot be interrupted.
func (c *demoConn) read(ctx context.Context, in io.Reader) error {
	lines, ended := make(chan []byte), make(chan error, 1)
	go func() {
		for r := bufio.NewReader(in); ; {
			line, err := r.ReadBytes('\n')
			if len(bytes.TrimSpace(line)) > 0 {
				select {
				case lines <- line:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for {
		select {
		case line := <-lines:
			c.handle(ctx, line)
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read the client's messages: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}

// handle starts calls that may take time in goroutines of their own. It handles
// other messages itself, so that their order is kept: a tool call that follows
// initialize finds the session initialized.
func (c *demoConn) handle(ctx context.Context, line []byte) {
	var msg struct {
		ID     json.RawMessage `json:"id"`
		Method mcp.MCPMethod   `json:"method"`
		Params struct {
			RequestID json.RawMessage `json:"requestId"`
		} `json:"params"`
	}
	_ = json.Unmarshal(line, &msg) // HandleMessage reports the error to the client
	switch {
	case msg.Method == mcp.MethodNotificationCancelled:
		if cancel, ok := c.take(msg.Params.RequestID); ok {
			cancel()
		}
	case msg.ID != nil && (msg.Method == mcp.MethodToolsCall || msg.Method == mcp.MethodSubscriptionsListen):
		c.start(ctx, msg.ID, line)
	default:
		if answer := c.server.HandleMessage(ctx, line); answer != nil {
			c.answers <- answer
		}
	}
}

// start handles a call in a goroutine, which a cancellation ends.
func (c *demoConn) start(ctx context.Context, id json.RawMessage, line []byte) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	c.calls[string(id)] = cancel
	c.mu.Unlock()
	c.running.Go(func() {
		defer cancel()
		answer := c.server.HandleMessage(ctx, line)
		// A call that has been removed was cancelled by the client, which expects
		// no response. A call with the id null gets none either.
		if _, ok := c.take(id); ok && answer != nil {
			c.answers <- answer
		}
	})
}

// take removes a call and returns its cancel function.
func (c *demoConn) take(id json.RawMessage) (cancel context.CancelFunc, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cancel, ok = c.calls[string(id)]
	delete(c.calls, string(id))
	return cancel, ok
}

// write writes the answers until their channel is closed, each after the
// notifications that were queued before it. When a write fails, it calls stop
// and discards the rest, so that no sender blocks.
func (c *demoConn) write(out io.Writer, stop func()) error {
	var failed error
	lines := json.NewEncoder(out)
	emit := func(message any) {
		if failed != nil {
			return
		}
		if err := lines.Encode(message); err != nil {
			failed = fmt.Errorf("write to the client: %w", err)
			stop()
		}
	}
	notifications := c.session.ClientNotifications()
	for {
		select {
		case n := <-notifications:
			emit(n)
		case answer, open := <-c.answers:
			for len(notifications) > 0 {
				emit(<-notifications)
			}
			if !open {
				return failed
			}
			emit(answer)
		}
	}
}
