package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// EventList is the answer to GET /api/v1/sessions/{sessionId}/events: the last
// events of one session, oldest first.
type EventList struct {
	Count  int             `json:"count"`
	Events []session.Event `json:"events"`
}

// Lost is the data of the event "lost" on a stream: the hub dropped Count
// events or messages because the client read too slowly.
type Lost struct {
	Count int64 `json:"count"`
}

// End is the data of the event "end", the last one on a stream of messages.
type End struct {
	Reason session.Reason `json:"reason"` // why the session ended; session.Shutdown: the hub stops; or Displaced
}

// Displaced is the reason of the end of a stream of messages whose place a newer
// one has. The session has not ended.
const Displaced session.Reason = "displaced"

// Names of events on the streams. On a stream of session events, the other
// names are those of session.EventType.
const (
	messageEvent = "message"
	lostEvent    = "lost"
	endEvent     = "end"
)

// StreamedEvent is one item of GET /api/v1/events: a session event, or a gap.
type StreamedEvent struct {
	Event session.Event
	Lost  int64 // not 0: the number of events that are missing here; Event is the zero value
}

// StreamedMessage is one item of GET /api/v1/sessions/{sessionId}/messages: a
// message, a gap, or the end.
type StreamedMessage struct {
	Message session.Message
	Raw     json.RawMessage // Message as the hub sent it, with members that this version does not know
	Lost    int64           // not 0: the number of messages that are missing here; Message is the zero value
	End     session.Reason  // not "": the last item, and why the stream ends; Message is the zero value
}

// MessageQuery selects messages of a session. The zero value selects all,
// without payloads.
type MessageQuery struct {
	Payload bool   // with params, results and errors, redacted and cut; the hub must allow it
	Method  string // only messages of this method, and the responses to them; "": all
	Errors  bool   // only messages that report a failure or a cancellation
}

func (q MessageQuery) encode() string {
	v := url.Values{}
	if q.Payload {
		v.Set("payload", "true")
	}
	if q.Method != "" {
		v.Set("method", q.Method)
	}
	if q.Errors {
		v.Set("errors", "true")
	}
	return v.Encode()
}

func parseMessageQuery(v url.Values) (MessageQuery, error) {
	q := MessageQuery{Method: v.Get("method")}
	for name, field := range map[string]*bool{"payload": &q.Payload, "errors": &q.Errors} {
		if text := v.Get(name); text != "" {
			var err error
			if *field, err = strconv.ParseBool(text); err != nil {
				return q, fmt.Errorf("%s must be true or false", name)
			}
		}
	}
	return q, nil
}

// matches reports whether q selects m.
func (q MessageQuery) matches(m session.Message) bool {
	return (q.Method == "" || m.Method == q.Method) && (!q.Errors || m.Failed())
}
