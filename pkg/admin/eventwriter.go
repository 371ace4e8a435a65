package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	eventBeat    = 15 * time.Second // pause between comments on a silent stream
	eventTimeout = 10 * time.Second // for each write to a reader that does not read
)

// eventWriter writes a stream of server-sent events. It is used by one goroutine.
type eventWriter struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
}

var errUnwritten = errors.New("a write failed or took too long")

func newEventWriter(w http.ResponseWriter) eventWriter {
	return eventWriter{w, http.NewResponseController(w)}
}

// eventStream sets the headers of a stream of events.
func eventStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
}

// write sends a part of the stream, which reaches the reader at once.
func (e eventWriter) write(format string, args ...any) error {
	_ = e.ctl.SetWriteDeadline(time.Now().Add(eventTimeout))
	if _, err := fmt.Fprintf(e.w, format, args...); err != nil {
		return errUnwritten
	}
	if e.ctl.Flush() != nil {
		return errUnwritten
	}
	return nil
}
