package sse

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkEventReader is one event of a stream.
func BenchmarkEventReader(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			stream := []byte("event: message\nid: 17\ndata: " + strings.Repeat("x", size) + "\n\n")
			source := bytes.NewReader(nil)
			r := NewReader(source, 64<<20)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				source.Reset(stream)
				if ev, err := r.Next(); err != nil || len(ev.Data) != size {
					b.Fatal(len(ev.Data), err)
				}
			}
		})
	}
}
