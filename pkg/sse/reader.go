package sse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// event is one server-sent event.
type Event struct {
	ID    string
	Name  string
	Data  []byte
	Retry time.Duration // 0: not said
}

// errEventTooLong is the error of an event that exceeds the limit of its reader.
// The start of the next event cannot be found in bounded memory.
var ErrTooLong = errors.New("a message is too long")

// eventReader reads a text/event-stream, see
// https://html.spec.whatwg.org/multipage/server-sent-events.html section 9.2.6.
type Reader struct {
	r     *bufio.Reader
	limit int64 // bytes of one event
	begun bool  // the first line was read
	cr    bool  // the last line ended with a CR; an LF that follows belongs to it
}

func NewReader(r io.Reader, limit int64) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 16<<10), limit: limit}
}

// next returns the next event that says anything: one with data, an id or a
// retry time, as soon as its last byte is there. An event that the end of the
// stream cuts off is dropped.
func (e *Reader) Next() (Event, error) {
	var ev Event
	var size int64
	said, data := false, false
	for {
		line, fresh, err := e.line()
		if err != nil {
			return Event{}, err
		}
		if size += int64(len(line)); size > e.limit {
			return Event{}, e.tooLong()
		}
		if len(line) == 0 {
			if said {
				return ev, nil
			}
			ev, size = Event{}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			switch {
			case data:
				ev.Data = append(append(ev.Data, '\n'), value...)
			case fresh: // most events have one line of data, and some a long one
				ev.Data = value
			default:
				ev.Data = append(ev.Data, value...)
			}
			said, data = true, true
		case "event":
			ev.Name = string(value)
		case "id":
			if !bytes.ContainsRune(value, 0) {
				ev.ID, said = string(value), true
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				ev.Retry, said = time.Duration(ms)*time.Millisecond, true
			}
		}
	}
}

// line returns the next line without its end, which is LF, CR LF or CR, and
// without the byte order mark that the first may begin with. It holds until the
// next call, or for ever if it is fresh.
func (e *Reader) line() (line []byte, fresh bool, err error) {
	for {
		part, err := e.part()
		if err != nil {
			return nil, false, err
		}
		n := lineEnd(part)
		whole := n >= 0
		if !whole {
			n = len(part)
		}
		if int64(len(line)+n) > e.limit {
			return nil, false, e.tooLong()
		}
		if whole && !fresh {
			line = part[:n]
		} else {
			line, fresh = append(line, part[:n]...), true
		}
		if whole {
			e.cr = part[n] == '\r'
			_, _ = e.r.Discard(n + 1) // they are there
			return e.unmarked(line), fresh, nil
		}
		_, _ = e.r.Discard(n)
	}
}

// searched bounds how far the end of a line is searched at one time, so that a
// stream of short lines is not gone through once for each.
const searched = 2 << 10 // bytes

// part returns some of the bytes that have arrived, at least one, and waits for
// no more than that. They are not taken yet.
func (e *Reader) part() ([]byte, error) {
	for {
		if _, err := e.r.Peek(1); err != nil {
			return nil, err
		}
		part, _ := e.r.Peek(min(e.r.Buffered(), searched))
		rest := e.cr && part[0] == '\n'
		if e.cr = false; !rest {
			return part, nil
		}
		_, _ = e.r.Discard(1)
	}
}

// lineEnd is the index of the first CR or LF, or -1.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// unmarked drops the byte order mark from the first line of a stream.
func (e *Reader) unmarked(line []byte) []byte {
	if e.begun {
		return line
	}
	e.begun = true
	return bytes.TrimPrefix(line, []byte("\ufeff"))
}

func (e *Reader) tooLong() error {
	return fmt.Errorf("%w: more than %d bytes", ErrTooLong, e.limit)
}
