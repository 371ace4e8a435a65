package telemetry

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/term"
)

const (
	maxWaiting = 1 << 20               // bytes of records that wait for the reader of stderr
	patience   = 50 * time.Millisecond // for which one record waits until it is written
	stallTime  = 10 * time.Second      // after a stall, in which no record waits
)

// The values of the label reason of dropped records.
const (
	dropStalled = "stalled" // the reader does not read, and maxWaiting is reached
	dropFailed  = "failed"  // the write returned an error: the reader is gone, or the disk is full
)

// logWriter is stderr for concurrent use by the log and the console exporters. It is written to by whoever logs, and
// nobody may wait for a reader that has stalled: a pipe that nobody reads, a terminal that was stopped with Ctrl-S, a
// disk that hangs.
//
// A goroutine writes. It lasts while there is something to write. Each record waits for it, so that in normal operation
// a record is out before what follows it happens, but only for patience. After that, records are queued without
// waiting for stallTime; what does not fit into the queue is dropped and counted.
type logWriter struct {
	w       io.Writer
	dropped map[string]prometheus.Counter // by reason
	note    func(dropped int) []byte      // returns the record that says how many are missing; called by the goroutine

	mu       sync.Mutex
	waiting  *logBatch     // records that the goroutine has not taken yet; nil: none
	missing  int           // records that were dropped since the last note
	idle     chan struct{} // closed when the goroutine ends; nil: there is none
	stallEnd time.Time     // nobody waits before this time
}

// logBatch holds records that are written together.
type logBatch struct {
	data    []byte
	ends    []int         // of the records in data: each is written by itself, as one line
	written chan struct{} // closed afterwards
}

func newLogWriter(w io.Writer, dropped map[string]prometheus.Counter) *logWriter {
	return &logWriter{w: w, dropped: dropped, note: func(n int) []byte { return fmt.Appendf(nil, "%d log records were dropped\n", n) }}
}

// Write implements [io.Writer]. It never fails: errors of the log cannot be logged, they are counted.
func (w *logWriter) Write(record []byte) (int, error) {
	batch, wait := w.add(record)
	if batch == nil || !wait {
		return len(record), nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-batch.written:
	case <-timer.C:
		w.mu.Lock()
		w.stallEnd = time.Now().Add(stallTime)
		w.mu.Unlock()
	}
	return len(record), nil
}

// add queues a record. It returns the batch that contains it, or nil if it was dropped, and whether to wait for it.
func (w *logWriter) add(record []byte) (batch *logBatch, wait bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = &logBatch{written: make(chan struct{})}
	}
	b := w.waiting
	if len(b.data) > 0 && len(b.data)+len(record) > maxWaiting {
		w.missing++
		w.dropped[dropStalled].Inc()
		return nil, false
	}
	b.data = append(b.data, record...)
	b.ends = append(b.ends, len(b.data))
	if w.idle == nil {
		w.idle = make(chan struct{})
		go w.run(w.idle) // ends when everything is written; flush waits for it
	}
	return b, !time.Now().Before(w.stallEnd)
}

// run writes until nothing is left.
func (w *logWriter) run(done chan struct{}) {
	defer close(done)
	for {
		w.mu.Lock()
		batch, missing := w.waiting, w.missing
		w.waiting, w.missing = nil, 0
		if batch == nil {
			w.idle = nil
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		begin := 0
		for _, end := range batch.ends {
			w.write(batch.data[begin:end])
			begin = end
		}
		if missing > 0 { // they came after the batch was full
			w.write(w.note(missing))
		}
		close(batch.written)
	}
}

func (w *logWriter) write(record []byte) {
	if _, err := w.w.Write(record); err != nil {
		w.dropped[dropFailed].Inc()
	}
}

// flush waits until everything is written, or until ctx ends.
func (w *logWriter) flush(ctx context.Context) {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (w *logWriter) isTerminal() bool {
	f, ok := w.w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
