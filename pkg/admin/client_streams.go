package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"

	"github.com/mcphub-go/mcphub/pkg/sse"
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
func decodeEvent(e sse.Event) (item StreamedEvent, ok bool, err error) {
	if e.Name == lostEvent {
		item.Lost, err = decodeLost(e)
		return item, true, err
	}
	err = json.Unmarshal(e.Data, &item.Event)
	return item, item.Event.Type != "", err
}

// decodeMessage decodes an event of a stream of messages. It reports false for
// an event of a later version.
func decodeMessage(e sse.Event) (item StreamedMessage, ok bool, err error) {
	switch e.Name {
	case messageEvent:
		item.Raw = e.Data
		err = json.Unmarshal(e.Data, &item.Message)
	case lostEvent:
		item.Lost, err = decodeLost(e)
	case endEvent:
		var end End
		err = json.Unmarshal(e.Data, &end)
		item.End = end.Reason
	default:
		return item, false, nil
	}
	return item, true, err
}

func decodeLost(e sse.Event) (int64, error) {
	var lost Lost
	err := json.Unmarshal(e.Data, &lost)
	return lost.Count, err
}

// follow opens a stream and returns the items that decode makes of its events.
func follow[T any](
	ctx context.Context, c *Client, k call, decode func(sse.Event) (item T, ok bool, err error),
) (iter.Seq2[T, error], error) {
	response, err := c.send(ctx, k) //nolint:bodyclose // closed by the iterator
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
			if ok && !yield(item, nil) || event.Name == endEvent {
				return
			}
		}
	}, nil
}

// maxEvent is the limit of an event, in bytes.
const maxEvent = 1 << 20

// readEvents returns the events of a stream of the hub. The last item is an error that says how the
// stream ended.
func readEvents(stream io.Reader) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		events := sse.NewReader(stream, maxEvent)
		for {
			event, err := events.Next()
			switch {
			case errors.Is(err, io.EOF):
				yield(event, errors.New("the hub has closed the stream"))
				return
			case err != nil:
				yield(event, fmt.Errorf("the hub is gone, or has closed the stream because it was read too slowly: %w", err))
				return
			case !yield(event, nil):
				return
			}
		}
	}
}
