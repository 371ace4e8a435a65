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

// Event is one server-sent event. Its fields are empty where the event does not have them.
type Event struct {
	ID    string
	Name  string // value of the field event
	Data  []byte
	Retry time.Duration // reconnection time
}

// ErrTooLong is the error of an event that exceeds the limit of its Reader. The Reader cannot be used after it,
// because it cannot find the start of the next event in bounded memory.
var ErrTooLong = errors.New("a message is too long")

// Reader reads an event stream as section 9.2.6 of the HTML standard specifies it, in bounded memory.
type Reader struct {
	buf     *bufio.Reader
	limit   int64               // bytes of one event
	reserve func(n int64) error // see Reserve
	have    int64               // bytes of the event that are reserved, or need not be
	started bool                // the first line was read
	afterCR bool                // the last line ended with a CR; an LF that follows belongs to it
}

// NewReader returns a Reader of r. limit is the maximum size of an event in bytes, field names included.
func NewReader(r io.Reader, limit int64) *Reader {
	return &Reader{buf: bufio.NewReaderSize(r, 16<<10), limit: limit}
}

// freeEvent is the size of an event for which no memory is reserved.
const freeEvent = 64 << 10

// Reserve makes the Reader call reserve before it keeps more than 64 KiB of an event, with the number of bytes that it
// keeps in addition. If reserve fails, so does Next, with that error, and the Reader cannot be used any more. The caller
// gives the memory back when it is done with the event.
func (r *Reader) Reserve(reserve func(n int64) error) { r.reserve = reserve }

// keep reserves memory for an event of that size.
func (r *Reader) keep(size int64) error {
	if r.reserve == nil || size <= r.have {
		return nil
	}
	more := max(size-r.have, r.have) // appending doubles the room
	if err := r.reserve(more); err != nil {
		return err
	}
	r.have += more
	return nil
}

// Next returns the next event that has data, an ID or a reconnection time, as soon as its last byte has arrived. It
// skips other events and comments, and drops an event that the end of the stream truncates. The error is that of the
// stream, io.EOF at its end, or wraps ErrTooLong. The Data of an event stays valid.
func (r *Reader) Next() (Event, error) {
	var ev Event
	var size int64
	hasContent, hasData := false, false
	r.have = freeEvent
	for {
		line, owned, err := r.line(size)
		if err != nil {
			return Event{}, err
		}
		if size += int64(len(line)); size > r.limit {
			return Event{}, r.tooLong()
		}
		if len(line) == 0 {
			if hasContent {
				return ev, nil
			}
			ev, size, r.have = Event{}, 0, max(r.have, freeEvent)
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			switch {
			case hasData:
				ev.Data = append(append(ev.Data, '\n'), value...)
			case owned: // saves a copy: most events have one line of data, which can be long
				ev.Data = value
			default:
				ev.Data = append(ev.Data, value...)
			}
			hasContent, hasData = true, true
		case "event":
			ev.Name = string(value)
		case "id":
			if !bytes.ContainsRune(value, 0) {
				ev.ID, hasContent = string(value), true
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				ev.Retry, hasContent = time.Duration(ms)*time.Millisecond, true
			}
		}
	}
}

// line returns the next line without its end, which is LF, CR LF or CR, and without the byte order mark that may
// precede the first line. before is the size of the lines of the event that precede it. An owned line stays valid; any
// other line is valid until the next call.
func (r *Reader) line(before int64) (line []byte, owned bool, err error) {
	for {
		part, err := r.peek()
		if err != nil {
			return nil, false, err
		}
		n := lineEnd(part)
		complete := n >= 0
		if !complete {
			n = len(part)
		}
		if int64(len(line)+n) > r.limit {
			return nil, false, r.tooLong()
		}
		if err := r.keep(before + int64(len(line)+n)); err != nil {
			return nil, false, err
		}
		if complete && !owned {
			line = part[:n]
		} else {
			line, owned = append(line, part[:n]...), true
		}
		if complete {
			r.afterCR = part[n] == '\r'
			_, _ = r.buf.Discard(n + 1) // cannot fail: the bytes are buffered
			return r.withoutBOM(line), owned, nil
		}
		_, _ = r.buf.Discard(n)
	}
}

// maxPeek bounds how far lineEnd searches at a time. Without it, a stream of short lines that end with a CR would make
// lineEnd search the whole buffer for an LF, once for each line.
const maxPeek = 2 << 10 // bytes

// peek returns up to maxPeek of the bytes that have arrived, without consuming them. It waits for the first byte only.
func (r *Reader) peek() ([]byte, error) {
	for {
		if _, err := r.buf.Peek(1); err != nil {
			return nil, err
		}
		part, _ := r.buf.Peek(min(r.buf.Buffered(), maxPeek))
		lf := r.afterCR && part[0] == '\n' // the rest of the last line end
		if r.afterCR = false; !lf {
			return part, nil
		}
		_, _ = r.buf.Discard(1)
	}
}

// lineEnd returns the index of the first CR or LF in b, or -1.
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

// withoutBOM removes the byte order mark from the first line of a stream.
func (r *Reader) withoutBOM(line []byte) []byte {
	if r.started {
		return line
	}
	r.started = true
	return bytes.TrimPrefix(line, []byte("\ufeff"))
}

func (r *Reader) tooLong() error {
	return fmt.Errorf("%w: more than %d bytes", ErrTooLong, r.limit)
}
