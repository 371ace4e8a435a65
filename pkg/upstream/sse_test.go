package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readEvents reads a whole stream.
func readEvents(stream []byte, limit int64) ([]event, error) {
	r := newEventReader(bytes.NewReader(stream), limit)
	var events []event
	for {
		ev, err := r.next()
		if err != nil {
			return events, err
		}
		events = append(events, ev)
	}
}

func TestEventsAreReadAsTheStandardSays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream string
		want   []event
	}{
		"one":                         {"data: a\n\n", []event{{data: []byte("a")}}},
		"lines":                       {"data: a\ndata:b\ndata:  c\n\n", []event{{data: []byte("a\nb\n c")}}},
		"CRLF":                        {"data: a\r\n\r\ndata: b\r\n\r\n", []event{{data: []byte("a")}, {data: []byte("b")}}},
		"all fields":                  {"event: message\nid: 7\nretry: 1500\ndata: a\n\n", []event{{"7", "message", []byte("a"), 1500 * time.Millisecond}}},
		"a cursor and nothing else":   {"id: 7\ndata:\n\n", []event{{id: "7"}}},
		"comments":                    {": hello\n\n:\n\ndata: a\n\n", []event{{data: []byte("a")}}},
		"no end":                      {"data: a\n\ndata: b\n", []event{{data: []byte("a")}}},
		"odd fields":                  {"data\nfoo: bar\nid: a\x00b\nretry: -1\nretry: 1e3\n\n", []event{{}}},
		"a name ends with its event":  {"event: other\n\ndata: a\n\n", []event{{data: []byte("a")}}},
		"a colon in the data":         {"data: {\"a\":1}\n\n", []event{{data: []byte(`{"a":1}`)}}},
		"the last id and retry count": {"id: 1\nid: 2\nretry: 1\nretry: 2\n\n", []event{{id: "2", retry: 2 * time.Millisecond}}},
	} {
		got, err := readEvents([]byte(test.stream), 1<<20)
		if !errors.Is(err, io.EOF) || !slices.EqualFunc(got, test.want, sameEvent) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, test.want)
		}
	}
}

func (e event) String() string {
	return fmt.Sprintf("{id %q event %q retry %s data %q}", e.id, e.name, e.retry, e.data)
}

func sameEvent(a, b event) bool {
	return a.id == b.id && a.name == b.name && a.retry == b.retry && bytes.Equal(a.data, b.data)
}

func TestAnEventIsBounded(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"a line":       "data: " + strings.Repeat("x", 2000),
		"many lines":   strings.Repeat("data: xxxxxxxx\n", 200),
		"many of none": strings.Repeat("foo: xxxxxxxx\n", 200),
	} {
		if _, err := readEvents([]byte(stream), 1000); !errors.Is(err, errTooLong) || !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stream that says nothing but that it is alive may live for ever.
func TestHeartbeatsDoNotAddUp(t *testing.T) {
	t.Parallel()
	stream := strings.Repeat(": keep-alive\n\n", 1000) + "data: a\n\n"
	if got, err := readEvents([]byte(stream), 1000); !errors.Is(err, io.EOF) || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAFailingStreamFailsWithItsOwnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := newEventReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)), 1000)
	if ev, err := r.next(); err != nil || string(ev.data) != "a" {
		t.Errorf("%v, %v", ev, err)
	}
	if _, err := r.next(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// naiveEvents is the standard's algorithm on a whole stream, with the two
// liberties that eventReader takes: lines end with LF, and every CR before it
// goes too; an event is one that says anything, data or not.
func naiveEvents(stream string) []event {
	var events []event
	lines := strings.Split(stream, "\n")
	var block []string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		line = strings.TrimRight(line, "\r")
		if line != "" {
			block = append(block, line)
			continue
		}
		var ev event
		var data []string
		said := false
		for _, l := range block {
			name, v, _ := strings.Cut(l, ":")
			v = strings.TrimPrefix(v, " ")
			switch {
			case name == "data":
				data, said = append(data, v), true
			case name == "event":
				ev.name = v
			case name == "id" && !strings.Contains(v, "\x00"):
				ev.id, said = v, true
			case name == "retry" && v != "" && strings.Trim(v, "0123456789") == "":
				if n, err := strconv.Atoi(v); err == nil && n < 1<<31 {
					ev.retry, said = time.Duration(n)*time.Millisecond, true
				}
			}
		}
		ev.data = []byte(strings.Join(data, "\n"))
		if said {
			events = append(events, ev)
		}
		block = nil
	}
	return events
}

func FuzzEventReader(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "data: a\n\n", "data\n\n", "data:\r\n\r\n", ":c\n\nid:1\nretry:10\nevent:x\ndata:a\ndata:b\n\n",
		"event: x\n\ndata: y\n\n", "id: a\x00\n\n", "retry: 99999999999999999999\n\n", "\xef\xbb\xbfdata: a\n\n", "data: a\rdata: b\n\n", "data: a",
	} {
		f.Add([]byte(seed), uint8(100))
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit uint8) {
		got, err := readEvents(stream, int64(limit))
		size := 0
		for _, ev := range got {
			if n := len(ev.id) + len(ev.name) + len(ev.data); n > int(limit)*2 {
				t.Errorf("an event has %d bytes, the limit is %d", n, limit)
			}
			size += len(ev.data)
		}
		if size > len(stream) {
			t.Errorf("%d bytes of data come from %d", size, len(stream))
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, errTooLong) {
			t.Errorf("error %v", err)
		}
		got, err = readEvents(stream, 1<<20)
		if want := naiveEvents(string(stream)); !errors.Is(err, io.EOF) || !slices.EqualFunc(got, want, sameEvent) {
			t.Errorf("%q gives\n%v, %v, want\n%v", stream, got, err, want)
		}
		byByte := newEventReader(iotest.OneByteReader(bytes.NewReader(stream)), 1<<20)
		for _, want := range got {
			if ev, err := byByte.next(); err != nil || !sameEvent(ev, want) {
				t.Errorf("read byte by byte: %v, %v, want %v", ev, err, want)
			}
		}
	})
}
