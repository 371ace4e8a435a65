package stream

import "time"

// entry is one message of a stream.
type entry struct {
	stream  *Stream
	seq     int64
	data    []byte
	answer  bool
	written bool      // to a connection
	at      time.Time // when it was written

	previous, next *entry // in Log.history
}

// history links the written entries of all streams of a Log, the oldest first.
type history struct{ first, last *entry }

func (h *history) add(e *entry) {
	e.written, e.at = true, time.Now()
	e.previous, e.next = h.last, nil
	if h.last == nil {
		h.first = e
	} else {
		h.last.next = e
	}
	h.last = e
}

func (h *history) remove(e *entry) {
	if e.previous == nil {
		h.first = e.next
	} else {
		e.previous.next = e.next
	}
	if e.next == nil {
		h.last = e.previous
	} else {
		e.next.previous = e.previous
	}
	e.written, e.previous, e.next = false, nil, nil
}
