package hubtest

import (
	"context"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// announcements is an open stream for messages that belong to no request: the
// output of a process, the GET stream of a legacy client, or the stream of a
// subscriptions/listen request.
type announcements struct {
	send         func(message []byte)
	subscription jsonrpc.ID // of subscriptions/listen; "" otherwise
}

// Announce sends a notification with raw params, for example
// "notifications/tools/list_changed" and "{}", on all streams for messages that
// belong to no request. It returns on how many. A modern client gets every
// notification, whatever it has subscribed to.
func (s *Script) Announce(method, params string) (streams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.streams {
		m := jsonrpc.Message{Method: method, Params: json.RawMessage(params)}
		if a.subscription != "" {
			id := jsonrpc.Edit{Name: "io.modelcontextprotocol/subscriptionId", Value: json.RawMessage(a.subscription)}
			if stamped, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta", Members: []jsonrpc.Edit{id}}); err == nil {
				m.Params = stamped
			}
		}
		a.send(m.Encode())
	}
	return len(s.streams)
}

// announce makes a stream for messages that belong to no request until ctx ends.
func (s *Script) announce(ctx context.Context, a *announcements) {
	s.mu.Lock()
	if s.streams == nil {
		s.streams = map[*announcements]bool{}
	}
	s.streams[a] = true
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	delete(s.streams, a)
	s.mu.Unlock()
}

// listen serves a subscriptions/listen request.
func (s *Script) listen(c *Call) Reply {
	wanted, _ := jsonrpc.Field(c.Params, "notifications")
	if wanted == nil {
		wanted = json.RawMessage(`{}`)
	}
	c.Notify("notifications/subscriptions/acknowledged",
		`{"_meta":{"io.modelcontextprotocol/subscriptionId":`+string(c.ID)+`},"notifications":`+string(wanted)+`}`)
	s.announce(c.ctx, &announcements{send: c.send, subscription: c.ID})
	return Reply{Result: json.RawMessage(`{}`)}
}
