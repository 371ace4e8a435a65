package persist_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

func BenchmarkDirApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := openDir(b, b.TempDir())
			batch := make([]persist.Change, size)
			for i := range batch {
				batch[i] = put(fmt.Sprintf("session-%d", i), strings.Repeat("x", 900))
			}
			b.ReportAllocs()
			for b.Loop() {
				apply(b, d, batch...)
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
