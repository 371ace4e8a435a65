package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
)

// Events opens the stream of the events of one session, or of all sessions if
// id is "". It returns when the stream is open. The stream has no events from
// before, see SessionEvents.
//
// The caller must range over the events, once. The connection is closed when
// the loop ends or ctx does. When ctx ends, the loop ends without an error. An
// error, an *Error, is the last item.
func (c *Client) Events(ctx context.Context, id string) (iter.Seq2[StreamedEvent, error], error) {
	k := get("follow the events of all sessions", "/api/v1/events")
	if id != "" {
		k = get("follow the events of session "+id, "/api/v1/events?session="+url.QueryEscape(id))
	}
	return follow(ctx, c, k, decodeEvent)
}

// Messages opens the stream of the messages of one session that query selects.
// It returns when the stream is open. The stream has no messages from before,
// and ends with the session, see StreamedMessage.End.
//
// The caller must range over the messages, once. The connection is closed when
// the loop ends or ctx does. When ctx ends, the loop ends without an error. An
// error, an *Error, is the last item.
func (c *Client) Messages(
	ctx context.Context, id string, query MessageQuery,
) (iter.Seq2[StreamedMessage, error], error) {
	k := get("follow the messages of session "+id, sessionPath(id)+"/messages?"+query.encode())
	return follow(ctx, c, k, decodeMessage)
}

// decodeEvent decodes an event of GET /api/v1/events. It reports false for an
// event of a later version.
func decodeEvent(e streamEvent) (item StreamedEvent, ok bool, err error) {
	if e.name == lostEvent {
		item.Lost, err = decodeLost(e)
		return item, true, err
	}
	err = json.Unmarshal(e.data, &item.Event)
	return item, item.Event.Type != "", err
}

// decodeMessage decodes an event of a stream of messages. It reports false for
// an event of a later version.
func decodeMessage(e streamEvent) (item StreamedMessage, ok bool, err error) {
	switch e.name {
	case messageEvent:
		item.Raw = e.data
		err = json.Unmarshal(e.data, &item.Message)
	case lostEvent:
		item.Lost, err = decodeLost(e)
	case endEvent:
		var end End
		err = json.Unmarshal(e.data, &end)
		item.End = end.Reason
	default:
		return item, false, nil
	}
	return item, true, err
}

func decodeLost(e streamEvent) (int64, error) {
	var lost Lost
	err := json.Unmarshal(e.data, &lost)
	return lost.Count, err
}

// follow opens a stream and returns the items that decode makes of its events.
func follow[T any](
	ctx context.Context, c *Client, k call, decode func(streamEvent) (item T, ok bool, err error),
) (iter.Seq2[T, error], error) {
	response, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	return func(yield func(T, error) bool) {
		defer func() { _ = response.Body.Close() }()
		var none T
		for event, err := range readEvents(response.Body) {
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(none, &Error{Op: k.op, Status: response.StatusCode, Err: err})
				return
			}
			item, ok, err := decode(event)
			if err != nil {
				yield(none, &Error{Op: k.op, Status: response.StatusCode, Err: notJSON(err)})
				return
			}
			if ok && !yield(item, nil) || event.name == endEvent {
				return
			}
		}
	}, nil
}

// streamEvent is one server-sent event.
type streamEvent struct {
	name string
	data []byte
}

// maxEventLine bounds a line of an event stream, in bytes.
const maxEventLine = 1 << 20

// readEvents returns the events of a stream that a hub writes, each of which
// has one line of data. The last item is an error that says how the stream ends.
func readEvents(stream io.Reader) iter.Seq2[streamEvent, error] {
	return func(yield func(streamEvent, error) bool) {
		lines := bufio.NewScanner(stream)
		lines.Buffer(nil, maxEventLine)
		name := ""
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = text
			}
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if ok && !yield(streamEvent{name, []byte(data)}, nil) {
				return
			}
		}
		err := errors.New("the hub has closed the stream")
		if cause := lines.Err(); cause != nil {
			err = fmt.Errorf("the hub is gone, or has closed the stream because it was read too slowly: %w", cause)
		}
		yield(streamEvent{}, err)
	}
}
