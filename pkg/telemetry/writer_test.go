package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stallingReader is a stderr whose reader reads only when it is told to.
type stallingReader struct {
	buffer
	gate chan struct{} // closed: it reads
}

func (s *stallingReader) Write(p []byte) (int, error) {
	<-s.gate
	return s.buffer.Write(p)
}

func TestAReaderThatStallsDelaysNobodyAndLossesAreToldAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stderr := &stallingReader{gate: make(chan struct{})}
		tel, err := Start(t.Context(), Config{Stderr: stderr, Lookup: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		log, text, begin := tel.LoggerFor("gateway"), strings.Repeat("x", 1000), time.Now()
		for range 10_000 {
			log.Info("a record", "text", text)
		}
		if took := time.Since(begin); took > patience {
			t.Errorf("the log has delayed its caller by %s", took)
		}
		queued := len(tel.stderr.waiting.data)
		if queued > maxWaiting || queued < maxWaiting/2 {
			t.Errorf("%d bytes wait", queued)
		}
		close(stderr.gate)
		synctest.Wait()
		written := count(t, &stderr.buffer, "a record")
		notes := 0.0
		for _, r := range stderr.records(t) {
			if r["msg"] == "log records were dropped, because nobody read the log" {
				notes += r["dropped"].(float64)
				if r["level"] != "WARN" || r["subsystem"] != "telemetry" {
					t.Errorf("the note is %v", r)
				}
			}
		}
		if written < 500 || float64(written)+notes != 10_000 {
			t.Errorf("%d are written and %v are told as missing", written, notes)
		}
		wantMetric(t, tel, `mcphub_log_records_dropped_total{reason="failed"} 0`)
		if page := scrape(t, tel); strings.Contains(page, "mcphub_log_records_dropped_total{reason=\"stalled\"} 0\n") {
			t.Error("the losses are not counted")
		}
		time.Sleep(stallTime)
		log.Info("the last one")
		if n := count(t, &stderr.buffer, "the last one"); n != 1 {
			t.Error("after the stall a record is not written when the call returns")
		}
		_ = tel.Shutdown(context.Background())
	})
}

func TestAReaderThatIsSlowDelaysOneRecordOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWriter(writerFunc(func(p []byte) (int, error) {
			time.Sleep(200 * time.Millisecond)
			return len(p), nil
		}), newMetrics(newRegistry("")).logDropped)
		begin := time.Now()
		for range 20 {
			_, _ = w.Write([]byte("a record\n"))
		}
		if took := time.Since(begin); took > patience {
			t.Errorf("20 records took %s", took)
		}
		w.flush(context.Background())
		if took := time.Since(begin); took != 20*200*time.Millisecond {
			t.Errorf("everything is written after %s", took)
		}
	})
}

func TestRecordsStayWholeAndInOrder(t *testing.T) {
	var mu sync.Mutex
	var records []string
	w := newLogWriter(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		records = append(records, string(p))
		return len(p), nil
	}), newMetrics(newRegistry("")).logDropped)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				_, _ = w.Write([]byte(strings.Repeat(string(rune('a'+i)), n+1)))
			}
		})
	}
	wg.Wait()
	w.flush(t.Context())
	lengths := map[byte]int{}
	for _, r := range records {
		if strings.Trim(r, r[:1]) != "" || len(r) != lengths[r[0]]+1 {
			t.Fatalf("after %d of its kind comes %q", lengths[r[0]], r)
		}
		lengths[r[0]] = len(r)
	}
	if len(records) != 8*500 {
		t.Errorf("%d records", len(records))
	}
}

func TestARecordThatCannotBeWrittenIsCounted(t *testing.T) {
	tel, _ := start(t, Config{Stderr: writerFunc(func([]byte) (int, error) { return 0, errors.New("broken pipe") })})
	for range 3 {
		tel.Logger().Info("x")
	}
	wantMetric(t, tel, `mcphub_log_records_dropped_total{reason="failed"} 3`)
}

func TestShutdownDoesNotWaitForAReaderThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stderr := &stallingReader{gate: make(chan struct{})}
		tel, err := Start(t.Context(), Config{Stderr: stderr})
		if err != nil {
			t.Fatal(err)
		}
		tel.Logger().Info("x")
		begin := time.Now()
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != flushTime {
			t.Errorf("it took %s", took)
		}
		close(stderr.gate)
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
