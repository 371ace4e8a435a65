package upstream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// event is one server-sent event.
type event struct {
	id    string
	name  string
	data  []byte
	retry time.Duration // 0: not said
}

// eventReader reads a text/event-stream, see
// https://html.spec.whatwg.org/multipage/server-sent-events.html section 9.2.6.
type eventReader struct {
	r     *bufio.Reader
	limit int64 // bytes of one event
}

func newEventReader(r io.Reader, limit int64) *eventReader {
	return &eventReader{r: bufio.NewReaderSize(r, 16<<10), limit: limit}
}

// next returns the next event that says anything: one with data, an id or a
// retry time. An event that the end of the stream cuts off is dropped.
func (e *eventReader) next() (event, error) {
	var ev event
	var size int64
	said, data := false, false
	for {
		line, err := readLine(e.r, e.limit)
		if err != nil {
			return event{}, err
		}
		if size += int64(len(line)); size > e.limit {
			return event{}, fmt.Errorf("%w: %w: more than %d bytes", ErrProtocol, errTooLong, e.limit)
		}
		if len(line) == 0 {
			if said {
				return ev, nil
			}
			ev, size = event{}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if data {
				ev.data = append(ev.data, '\n')
			}
			ev.data = append(ev.data, value...)
			said, data = true, true
		case "event":
			ev.name = string(value)
		case "id":
			if !bytes.ContainsRune(value, 0) {
				ev.id, said = string(value), true
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				ev.retry, said = time.Duration(ms)*time.Millisecond, true
			}
		}
	}
}
