package persist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
)

const many = 100_000 // records in a large store

var record = strings.Repeat("x", 900) // about the size of a session

func BenchmarkDirApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := openDir(b, b.TempDir())
			batch := make([]persist.Change, size)
			for i := range batch {
				batch[i] = put(fmt.Sprintf("session-%d", i), record)
			}
			b.ReportAllocs()
			for b.Loop() {
				apply(b, d, batch...)
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkOpen100k lists the names, with the directory in the page cache.
func BenchmarkOpen100k(b *testing.B) {
	path := manyRecords(b)
	before := heap()
	var perKey float64
	for b.Loop() {
		d, err := persist.OpenDir(path, persist.DirConfig{})
		b.StopTimer() // Close writes the index, which is not what is measured
		if err != nil {
			b.Fatal(err)
		}
		perKey = float64(heap()-before) / many
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(perKey, "heap-B/key")
}

// BenchmarkFlushOneOf100k changes one value. That must write neither the other values nor
// the index.
func BenchmarkFlushOneOf100k(b *testing.B) {
	d := openMany(b)
	before := written(b)
	slowest := eachApply(b, d, func(i int) persist.Change { return put(keyOf(i%many), record) })
	perFlush := float64(written(b)-before) / float64(b.N)
	b.ReportMetric(perFlush, "written-B/op")
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
	if perFlush >= 64<<10 {
		b.Errorf("a flush of one record writes %.0f bytes; want less than 64 KiB", perFlush)
	}
}

// BenchmarkCreateOneOf100k adds records one by one while Run keeps the index.
// The share of the index is meaningful only for runs of ten seconds and more.
func BenchmarkCreateOneOf100k(b *testing.B) {
	d := openMany(b)
	before := written(b)
	slowest := eachApply(b, d, func(i int) persist.Change { return put(fmt.Sprintf("new-%d", i), record) })
	bytesWritten := float64(written(b) - before)
	b.ReportMetric(bytesWritten/float64(b.N), "written-B/op")
	b.ReportMetric((bytesWritten/float64(b.N)-float64(len(record)))*float64(b.N)/b.Elapsed().Seconds()/1e6, "index-MB/s")
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")

	var all []persist.Change // for the benchmarks that follow
	for key := range d.Keys(b.Context()) {
		if strings.HasPrefix(key, "new-") {
			all = append(all, del(key))
		}
	}
	apply(b, d, all...)
}

// eachApply applies one change at a time and returns the longest time it took.
func eachApply(b *testing.B, d *persist.Dir, change func(i int) persist.Change) (slowest time.Duration) {
	b.Helper()
	for i := 0; b.Loop(); i++ {
		started := time.Now()
		apply(b, d, change(i))
		slowest = max(slowest, time.Since(started))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	return slowest
}

// BenchmarkKeys100k reads all keys while Run rewrites the index as often as possible.
func BenchmarkKeys100k(b *testing.B) {
	d := openMany(b)
	var slowest time.Duration
	for b.Loop() {
		started, n := time.Now(), 0
		for _, err := range d.Keys(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != many {
			b.Fatalf("%d keys; want %d", n, many)
		}
		slowest = max(slowest, time.Since(started))
	}
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
}

// openMany opens the store of 100,000 records, starts Run, and waits for the index, which
// each store writes once after it was opened.
func openMany(b *testing.B) *persist.Dir {
	b.Helper()
	path := manyRecords(b)
	index := filepath.Join(path, "index.json")
	if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.Fatal(err)
	}
	d := openDir(b, path)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(index); err == nil {
			return d
		}
		if time.Now().After(deadline) {
			b.Fatal("no index after a minute")
		}
	}
}

func keyOf(i int) string { return fmt.Sprintf("c3ab8ff13720e8ad9047-%06d", i) }

// fixture is a store of 100,000 records, shared by the benchmarks of a process.
var fixture struct {
	sync.Once
	path string
	err  error
}

func manyRecords(b *testing.B) (path string) {
	b.Helper()
	fixture.Do(func() {
		fixture.path, fixture.err = os.MkdirTemp("", "persist-bench") //nolint:usetesting // outlives the benchmark; see removeFixture
		for i := 0; i < many && fixture.err == nil; i++ {
			fixture.err = os.WriteFile(filepath.Join(fixture.path, keyOf(i)+".json"), []byte(record), 0o600)
		}
	})
	if fixture.err != nil {
		b.Fatal(fixture.err)
	}
	return fixture.path
}

func removeFixture() error { return os.RemoveAll(fixture.path) }

// written returns how many bytes the process has passed to write(2) so far; 0 if the
// system does not count them.
func written(b *testing.B) (n int64) {
	b.Helper()
	stats, err := os.ReadFile("/proc/self/io")
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	for line := range bytes.Lines(stats) {
		if _, err := fmt.Sscanf(string(line), "wchar: %d", &n); err == nil {
			return n
		}
	}
	b.Fatalf("no wchar in /proc/self/io: %v %s", err, stats)
	return 0
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
