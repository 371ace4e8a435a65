package sse

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
func readEvents(stream []byte, limit int64) ([]Event, error) {
	r := NewReader(bytes.NewReader(stream), limit)
	var events []Event
	for {
		ev, err := r.Next()
		if err != nil {
			return events, err
		}
		events = append(events, ev)
	}
}

func TestReaderFollowsTheStandard(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream string
		want   []Event
	}{
		"one":   {"data: a\n\n", []Event{{Data: []byte("a")}}},
		"lines": {"data: a\ndata:b\ndata:  c\n\n", []Event{{Data: []byte("a\nb\n c")}}},
		"CRLF":  {"data: a\r\n\r\ndata: b\r\n\r\n", []Event{{Data: []byte("a")}, {Data: []byte("b")}}},
		"all fields": {"event: message\nid: 7\nretry: 1500\ndata: a\n\n",
			[]Event{{"7", "message", []byte("a"), 1500 * time.Millisecond}}},
		"an id and empty data":        {"id: 7\ndata:\n\n", []Event{{ID: "7"}}},
		"comments":                    {": hello\n\n:\n\ndata: a\n\n", []Event{{Data: []byte("a")}}},
		"no end":                      {"data: a\n\ndata: b\n", []Event{{Data: []byte("a")}}},
		"odd fields":                  {"data\nfoo: bar\nid: a\x00b\nretry: -1\nretry: 1e3\n\n", []Event{{}}},
		"a name ends with its event":  {"event: other\n\ndata: a\n\n", []Event{{Data: []byte("a")}}},
		"a colon in the data":         {"data: {\"a\":1}\n\n", []Event{{Data: []byte(`{"a":1}`)}}},
		"the last id and retry count": {"id: 1\nid: 2\nretry: 1\nretry: 2\n\n", []Event{{ID: "2", Retry: 2 * time.Millisecond}}},
		"CR":                          {"data: a\r\rdata: b\rdata: c\r\r", []Event{{Data: []byte("a")}, {Data: []byte("b\nc")}}},
		"all ends mixed": {"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\rdata: e\r\n\n",
			[]Event{{Data: []byte("a\nb\nc")}, {Data: []byte("d")}, {Data: []byte("e")}}},
		"LF CR is two ends":             {"data: a\n\rdata: b\n\r", []Event{{Data: []byte("a")}, {Data: []byte("b")}}},
		"CR CR LF is two ends":          {"data: a\r\r\ndata: b\r\r\n", []Event{{Data: []byte("a")}, {Data: []byte("b")}}},
		"a byte order mark":             {"\ufeffdata: a\n\ndata: b\n\n", []Event{{Data: []byte("a")}, {Data: []byte("b")}}},
		"a second byte order mark":      {"\ufeff\ufeffdata: a\n\ndata: b\n\n", []Event{{Data: []byte("b")}}},
		"a late byte order mark":        {"data: a\n\n\ufeffdata: b\n\n", []Event{{Data: []byte("a")}}},
		"a byte order mark and no line": {"\ufeff\r\rdata: a\r\r", []Event{{Data: []byte("a")}}},
		"a byte order mark in data":     {"data: \ufeffa\n\n", []Event{{Data: []byte("\ufeffa")}}},
		"comments between lines":        {"data: a\n: c\n:data: d\ndata: b\n\n", []Event{{Data: []byte("a\nb")}}},
		"data without a colon":          {"data\n\ndata\ndata\n\n", []Event{{}, {Data: []byte("\n")}}},
		"names are compared exactly":    {"Data: a\n data: b\ndata : c\ndata: d\n\n", []Event{{Data: []byte("d")}}},
		"one space goes":                {"data:  a\ndata:\tb\n\n", []Event{{Data: []byte(" a\n\tb")}}},
		"an id without a colon":         {"id: 1\nid\n\n", []Event{{}}},
		"bytes that are no UTF-8":       {"data: \xff\xfe\n\n", []Event{{Data: []byte("\xff\xfe")}}},
		"an event cut off at its end":   {"data: a\n\ndata: b\n: c", []Event{{Data: []byte("a")}}},
	} {
		got, err := readEvents([]byte(test.stream), 1<<20)
		if !errors.Is(err, io.EOF) || !slices.EqualFunc(got, test.want, sameEvent) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, test.want)
		}
	}
}

func (e Event) String() string {
	return fmt.Sprintf("{id %q event %q retry %s data %q}", e.ID, e.Name, e.Retry, e.Data)
}

func sameEvent(a, b Event) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Retry == b.Retry && bytes.Equal(a.Data, b.Data)
}

func TestReaderBoundsAnEvent(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"a line":              "data: " + strings.Repeat("x", 2000),
		"many lines":          strings.Repeat("data: xxxxxxxx\n", 200),
		"many unknown fields": strings.Repeat("foo: xxxxxxxx\n", 200),
	} {
		if _, err := readEvents([]byte(stream), 1000); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stream of comments, which servers send as heartbeats, has no limit.
func TestReaderDoesNotCountCommentsTowardsTheLimit(t *testing.T) {
	t.Parallel()
	stream := strings.Repeat(": keep-alive\n\n", 1000) + "data: a\n\n"
	if got, err := readEvents([]byte(stream), 1000); !errors.Is(err, io.EOF) || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReaderReturnsTheErrorOfTheStream(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := NewReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)), 1000)
	if ev, err := r.Next(); err != nil || string(ev.Data) != "a" {
		t.Errorf("%v, %v", ev, err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// A CR ends a line even if an LF can still follow. The reader must not wait for the next byte of the server.
func TestReaderReturnsAnEventWithItsLastByte(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"data: a\n\n", "data: a\r\n\r", "data: a\r\r", "\ufeffdata: a\n\r", "id\n\n", "data: a\r\n\n"} {
		never := iotest.ErrReader(errors.New("the reader reads beyond the event"))
		r := NewReader(io.MultiReader(strings.NewReader(stream), never), 1000)
		if _, err := r.Next(); err != nil {
			t.Errorf("%q: %v", stream, err)
		}
	}
}

func TestReaderReadsLinesOfAnyLength(t *testing.T) {
	t.Parallel()
	for n := range 3 * 16 << 10 { // around the multiples of maxPeek and the size of the buffer
		if n%maxPeek > 20 && n%maxPeek < maxPeek-20 {
			continue
		}
		data := strings.Repeat("x", n)
		for _, end := range []string{"\n", "\r", "\r\n"} {
			got, err := readEvents([]byte("data: "+data+end+"data: y"+end+end), 1<<20)
			if !errors.Is(err, io.EOF) || len(got) != 1 || string(got[0].Data) != data+"\ny" {
				t.Fatalf("%d bytes and %q: %d events, %v", n, end, len(got), err)
			}
		}
	}
}

// The data of an event must not change with the next call of Next.
func TestEventsOwnTheirData(t *testing.T) {
	t.Parallel()
	var stream strings.Builder
	for n := range 200 {
		fmt.Fprintf(&stream, "data: %s\n\n", strings.Repeat(string(rune('a'+n%26)), 1+n*n))
	}
	got, _ := readEvents([]byte(stream.String()), 1<<20)
	if len(got) != 200 {
		t.Fatalf("%d events", len(got))
	}
	for n, ev := range got {
		if want := strings.Repeat(string(rune('a'+n%26)), 1+n*n); string(ev.Data) != want {
			t.Errorf("event %d changed", n)
		}
	}
}

// naiveEvents is the algorithm of the standard on a whole stream, with one exception, which Reader makes too: it returns
// an event without data that has an ID or a reconnection time.
func naiveEvents(stream string) []Event {
	var events []Event
	stream = strings.TrimPrefix(stream, "\ufeff")
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream), "\n")
	var block []string
	for _, line := range lines[:len(lines)-1] { // the last one has no end
		if line != "" {
			block = append(block, line)
			continue
		}
		var ev Event
		var data []string
		hasContent := false
		for _, l := range block {
			name, v, _ := strings.Cut(l, ":")
			v = strings.TrimPrefix(v, " ")
			switch {
			case name == "data":
				data, hasContent = append(data, v), true
			case name == "event":
				ev.Name = v
			case name == "id" && !strings.Contains(v, "\x00"):
				ev.ID, hasContent = v, true
			case name == "retry" && v != "" && strings.Trim(v, "0123456789") == "":
				if n, err := strconv.Atoi(v); err == nil && n < 1<<31 {
					ev.Retry, hasContent = time.Duration(n)*time.Millisecond, true
				}
			}
		}
		ev.Data = []byte(strings.Join(data, "\n"))
		if hasContent {
			events = append(events, ev)
		}
		block = nil
	}
	return events
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "data: a\n\n", "data\n\n", "data:\r\n\r\n", ":c\n\nid:1\nretry:10\nevent:x\ndata:a\ndata:b\n\n",
		"event: x\n\ndata: y\n\n", "id: a\x00\n\n", "retry: 99999999999999999999\n\n", "\xef\xbb\xbfdata: a\n\n",
		"data: a\rdata: b\n\n", "data: a", "data: a\r\rdata: b\r\n\r\n", "data: a\n\r\r\ndata\r\r", "\xef\xbb\xbf\xef\xbb\xbfid\n\r",
	} {
		f.Add([]byte(seed), uint8(100))
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit uint8) {
		got, err := readEvents(stream, int64(limit))
		size := 0
		for _, ev := range got {
			if n := len(ev.ID) + len(ev.Name) + len(ev.Data); n > int(limit)*2 {
				t.Errorf("an event has %d bytes, the limit is %d", n, limit)
			}
			size += len(ev.Data)
		}
		if size > len(stream) {
			t.Errorf("%d bytes of data come from %d", size, len(stream))
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, ErrTooLong) {
			t.Errorf("error %v", err)
		}
		got, err = readEvents(stream, 1<<20)
		if want := naiveEvents(string(stream)); !errors.Is(err, io.EOF) || !slices.EqualFunc(got, want, sameEvent) {
			t.Errorf("%q gives\n%v, %v, want\n%v", stream, got, err, want)
		}
		source := bytes.NewReader(stream)
		byByte := NewReader(iotest.OneByteReader(source), 1<<20)
		for n, want := range got {
			if ev, err := byByte.Next(); err != nil || !sameEvent(ev, want) {
				t.Errorf("read byte by byte: %v, %v, want %v", ev, err, want)
			}
			if taken := len(stream) - source.Len(); len(naiveEvents(string(stream[:taken-1]))) > n {
				t.Errorf("%q: event %d was held back until byte %d", stream, n, taken)
			}
		}
	})
}
