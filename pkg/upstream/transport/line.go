package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

const (
	readBuffer = 64 << 10 // bytes; a line that fits takes no memory of the budget until it is known whose it is
	keptHead   = 4 << 10  // bytes of a line that is skipped
	keptTail   = 512      // bytes of a line that is skipped
	maxSkipped = 16       // times the limit of a message: a child that writes no end of line is given up

	// memoryPatience is the time for which a message that has begun waits for memory. Several that have begun may wait
	// for each other.
	memoryPatience = 5 * time.Second
)

// line is one line that a child wrote.
type line struct {
	text    []byte // of a line that was skipped only its beginning
	tail    []byte // the end of a line that was skipped
	skipped error  // why the line was skipped; nil: it was not
	size    int64
}

// lineReader reads lines in bounded memory. A line that is too long, or for which there is no memory, is skipped.
type lineReader struct {
	in      *bufio.Reader
	limit   int64       // bytes of a line
	memory  budget.Hold // for the line that was read last
	patient bool        // it waits for memory
	done    <-chan struct{}
}

// next returns the next line without its end. Its text stays valid. After an error there is no more line than the one
// returned with it.
func (r *lineReader) next() (line, error) {
	r.memory.Release()
	var l line
	for {
		part, err := r.in.ReadSlice('\n')
		l.size += int64(len(part))
		switch {
		case l.skipped != nil:
			l.tail = lastBytes(append(l.tail, part...))
			if l.size > maxSkipped*r.limit {
				return line{}, tooLong(r.limit)
			}
		default:
			r.add(&l, part)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if l.skipped == nil {
			l.text = trimLineEnd(l.text)
		}
		return l, err
	}
}

// add appends part to l, or begins to skip l.
func (r *lineReader) add(l *line, part []byte) {
	err := error(nil)
	switch need := int64(len(l.text) + len(part)); {
	case need > r.limit:
		err = fmt.Errorf("%w: more than %d bytes (limits.maxMessageBytes)", errTooLong, r.limit)
	case l.text == nil:
		l.text = append(l.text, part...)
		return
	case need > int64(cap(l.text)):
		room := max(need, min(2*int64(cap(l.text)), r.limit))
		if err = r.reserve(room - int64(cap(l.text))); err == nil {
			l.text = append(make([]byte, 0, room), l.text...)
		}
	}
	if err == nil {
		l.text = append(l.text, part...)
		return
	}
	r.memory.Release()
	l.skipped = err
	head := bytes.Clone(l.text[:min(keptHead, len(l.text))]) // a clone, so that the rest is given back
	l.text = slices.Concat(head, part[:min(keptHead-len(head), len(part))])
	l.tail = lastBytes(bytes.Clone(part))
}

func (r *lineReader) reserve(n int64) error {
	return reserve(&r.memory, r.patient, r.done)(n)
}

// reserve returns the function that reserves memory on h for a message being read. It waits a while if it is patient.
func reserve(h *budget.Hold, patient bool, done <-chan struct{}) func(n int64) error {
	if patient {
		return func(n int64) error { return h.GrowWithin(n, memoryPatience, done) }
	}
	return h.Grow
}

func lastBytes(b []byte) []byte { return append(b[:0], b[max(0, len(b)-keptTail):]...) }

func trimLineEnd(line []byte) []byte {
	for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
		line = line[:n-1]
	}
	return line
}

// lastID finds the id of a response at its end. The last brace of a line is that of the message, so what is before it
// is a member of the message.
var lastID = regexp.MustCompile(`"id"\s*:\s*(\d+)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$`)

// responseID returns the id of the response that a skipped line is, as far as its ends tell, or "". The ids of the hub
// are numbers.
func (l line) responseID() jsonrpc.ID {
	dec := jsontext.NewDecoder(bytes.NewReader(l.text), jsontext.AllowDuplicateNames(true))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '{' {
		return ""
	}
	for {
		name, err := dec.ReadToken()
		if err != nil || name.Kind() != '"' || name.String() == "method" {
			break
		}
		isID := name.String() == "id"
		value, err := dec.ReadValue()
		if err != nil {
			break
		}
		if isID {
			return jsonrpc.ID(value)
		}
	}
	if found := lastID.FindSubmatch(l.tail); found != nil {
		return jsonrpc.ID(found[1])
	}
	return ""
}
