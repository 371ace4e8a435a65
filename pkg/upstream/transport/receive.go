package transport

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The bounds of what the log quotes of a text that is no message, in bytes, and of what is searched for secrets before.
const (
	maxQuoted   = 120
	maxSearched = 8 << 10
)

// read passes the messages in a text of the server to take, in order. What is not quite JSON-RPC but has one meaning
// only is repaired. It returns the part that cannot be understood, or nil.
func (c *Config) read(text []byte, take func(jsonrpc.Message)) *jsonrpc.Unreadable {
	m, err := jsonrpc.Parse(text)
	if err == nil && m.Error == nil { // nearly always
		take(m)
		return nil
	}
	return c.understand(text, take)
}

// understand is read for a text that is not a message, or has an error.
func (c *Config) understand(text []byte, take func(jsonrpc.Message)) *jsonrpc.Unreadable {
	said := jsonrpc.Understand(text)
	if said.Repairs != 0 {
		c.Repaired(said.Repairs)
	}
	for _, m := range said.Messages {
		take(m)
	}
	return said.Unreadable
}

// dispatch passes a message to the Handler, on transports that have one stream for everything.
func (c *Config) dispatch(m jsonrpc.Message) {
	if m.Kind() == jsonrpc.Response {
		c.Handler.Deliver(m)
		return
	}
	c.Handler.Receive("", m)
}

// giveUp ends what waits for a message that cannot be read. If nothing can be told to wait for it, the log has the
// beginning of the text.
func (c *Config) giveUp(ctx context.Context, u *jsonrpc.Unreadable, text []byte) {
	told := c.Handler.Fail(u)
	c.Unreadable(told)
	if told { // by an error that says all
		return
	}
	c.Log.WarnContext(ctx, "the server sent a text that is no message", "bytes", len(text), "err", u.Reason,
		"text", c.quoted(text))
}

// quoted returns the beginning of a text of the server for the log, without secrets.
func (c *Config) quoted(text []byte) string {
	head := c.masked(string(text[:min(len(text), maxSearched)])) // first: a cut secret is not recognized
	return strings.ToValidUTF8(head[:min(len(head), maxQuoted)], "\ufffd")
}

// UnreadableError is the error of a call whose response cannot be read.
func UnreadableError(u *jsonrpc.Unreadable) error {
	return fmt.Errorf("%w: its answer cannot be read: %s", ErrProtocol, u.Reason.Message)
}

// isAnswer reports whether m, which arrived as the answer to call or on the stream of it, is its response. Its id may be
// of another type of JSON, null or missing.
func (c *Config) isAnswer(call *Call, m jsonrpc.Message) bool {
	if m.ID == call.ID {
		return true
	}
	if id, ok := m.ID.Integer(); m.ID != "" && m.ID != jsonrpc.Null && (!ok || id != call.ID) {
		return false
	}
	if m.Error == nil || m.ID != jsonrpc.Null { // JSON-RPC 2.0 section 5: null is the id of some errors
		c.Repaired(jsonrpc.RepairedID)
	}
	return true
}

// mayAnswer reports whether u may be the response to call, on whose stream it arrived.
func mayAnswer(u *jsonrpc.Unreadable, call *Call) bool {
	return !u.IsMethod && slices.ContainsFunc(u.IDs, func(id jsonrpc.ID) bool {
		n, _ := id.Integer()
		return id == call.ID || n == call.ID
	})
}
