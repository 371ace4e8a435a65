package transport

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestTheCallOfASkippedLineIsFoundByTheEndsOfTheLine(t *testing.T) {
	long := `{"x":"` + strings.Repeat("x", 100<<10) + `"}`
	for text, want := range map[string]jsonrpc.ID{
		`{"jsonrpc":"2.0","id":7,"result":` + long + `}`:                                  "7",
		`{"id": 7, "result":` + long + `, "jsonrpc":"2.0"}`:                               "7",
		`{"result":` + long + `,"jsonrpc":"2.0","id":7}`:                                  "7",
		`{"result":` + long + `,"id" : 7 , "jsonrpc" : "2.0" } `:                          "7",
		`{"jsonrpc":"2.0","id":7,"result":{"a":` + long + `,"id":8}}`:                     "7",
		`{"result":{"a":` + long + `,"id":8},"jsonrpc":"2.0"}`:                            "",
		`{"jsonrpc":"2.0","method":"x","params":` + long + `}`:                            "",
		`{"jsonrpc":"2.0","method":"x","id":7,"params":` + long + `}`:                     "",
		`{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", 100<<10):               "7", // cut off by its end
		strings.Repeat("x", 100<<10):                                                      "",
		`{"jsonrpc":"2.0","result":"` + strings.Repeat(`\"id\":8}`, 10<<10) + `","id":7}`: "7",
	} {
		r := &lineReader{in: bufio.NewReaderSize(strings.NewReader(text+"\nnext\n"), 1<<10), limit: 10 << 10}
		l, err := r.next()
		if err != nil || l.skipped == nil || l.responseID() != want {
			t.Errorf("%.60s: %q, %v, %v, want %q", text, l.responseID(), l.skipped, err, want)
		}
		if len(l.text) > keptHead || len(l.tail) > keptTail || l.size != int64(len(text)+1) {
			t.Errorf("%.60s: %d and %d bytes are kept of %d", text, len(l.text), len(l.tail), l.size)
		}
		if l, err := r.next(); err != nil || string(l.text) != "next" {
			t.Errorf("%.60s: the next line is %q, %v", text, l.text, err)
		}
		if _, err := r.next(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestALineTakesMemoryUntilTheNextIsRead(t *testing.T) {
	memory := budget.New(8 << 20)
	account := memory.Account()
	text := strings.Repeat("x", 1<<20)
	r := &lineReader{in: bufio.NewReaderSize(strings.NewReader(text+"\n"+text+"\n"+strings.Repeat("x", 7<<20)+"\nshort\n"), readBuffer),
		limit: 64 << 20}
	r.memory.On(account)
	for range 2 {
		l, err := r.next()
		if err != nil || string(l.text) != text || account.Used() < 1<<20-readBuffer || account.Used() > 2<<20 {
			t.Errorf("%d bytes of %d are read, %d are used: %v", len(l.text), len(text), account.Used(), err)
		}
	}
	if l, err := r.next(); err != nil || !errors.Is(l.skipped, budget.ErrShare) || account.Used() != 0 {
		t.Errorf("a line without memory: %v %v, %d bytes used", l.skipped, err, account.Used())
	}
	if l, err := r.next(); err != nil || string(l.text) != "short" {
		t.Errorf("the next line is %q, %v", l.text, err)
	}
}
