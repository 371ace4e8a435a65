package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/sse"
)

const (
	eventBeat    = 15 * time.Second // interval of comments on a silent stream
	eventTimeout = 10 * time.Second // for each write to a client that does not read
)

// errUnwritten replaces the error of a write, which may name addresses.
var errUnwritten = errors.New("a write failed or took too long")

// eventStream is an event stream to one client. One goroutine uses it.
type eventStream struct{ writer *sse.Writer }

// newEventStream sets the headers of an event stream. Nothing is sent before the first write.
func newEventStream(w http.ResponseWriter) eventStream {
	return eventStream{sse.NewWriter(w, eventTimeout)}
}

func (s eventStream) event(id, name string, data []byte) error {
	return written(s.writer.Event(id, name, VisibleJSON(data)))
}

func (s eventStream) comment(text string) error { return written(s.writer.Comment(text)) }

func written(err error) error {
	if err != nil {
		return errUnwritten
	}
	return nil
}
