package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// stdioWire speaks with a child process, one message a line, see
// specification 2025-11-25, basic/transports, stdio.
type stdioWire struct {
	conn    *Conn
	spec    Spec
	log     *slog.Logger
	proc    *process
	queue   chan []byte // lines that wait to be written
	lost    chan struct{}
	once    sync.Once
	why     error          // set before lost is closed
	read    chan struct{}  // closed when the child's output has been read to its end
	readers sync.WaitGroup // of the child's pipes
	loops   sync.WaitGroup
}

const (
	writeQueue = 256         // lines
	writeChunk = 64 << 10    // bytes; what a pipe holds, so that writing one means that something was read
	maxLogLine = 8 << 10     // bytes of a line of stderr
	lastWords  = time.Second // for what a child said before its end to be read
)

func startStdio(spec Spec, c *Conn) (*stdioWire, error) {
	p, err := startProcess(spec)
	if err != nil {
		return nil, err
	}
	w := &stdioWire{conn: c, spec: spec, log: c.log.With("pid", p.cmd.Process.Pid), proc: p,
		queue: make(chan []byte, writeQueue), lost: make(chan struct{}), read: make(chan struct{})}
	w.log.Debug("server process started", "command", spec.Command)
	return w, nil
}

// run starts the goroutines that close waits for.
func (w *stdioWire) run() {
	w.loops.Go(w.writeLoop)
	w.readers.Go(w.readLoop)
	w.readers.Go(w.logLoop)
	w.loops.Go(w.watch)
}

// watch sees the child to its end, whether that comes by itself or because the
// connection is of no use any more.
func (w *stdioWire) watch() {
	select {
	case <-w.proc.exited:
	case <-w.lost:
		w.proc.stop()
	}
	// Whoever holds the child's pipes still was not in its group; do not wait for it.
	deadline := time.Now().Add(lastWords)
	_ = w.proc.stdout.SetReadDeadline(deadline)
	_ = w.proc.stderr.SetReadDeadline(deadline)
	<-w.read // the answer to a call may have been the last thing it said
	w.lose(w.proc.ending())
	w.readers.Wait()
	w.proc.closePipes()
}

// lose ends the connection for the reason that comes first.
func (w *stdioWire) lose(why error) {
	w.once.Do(func() {
		w.why = why
		close(w.lost)
		w.conn.lost()
	})
}

func (w *stdioWire) done() <-chan struct{}  { return w.lost }
func (w *stdioWire) err() error             { return w.why }
func (w *stdioWire) bound() string          { return "" }
func (w *stdioWire) negotiated(string)      {}
func (w *stdioWire) listen(context.Context) {}

func (w *stdioWire) close(bool) {
	w.lose(errClosed)
	w.loops.Wait()
}

func (w *stdioWire) call(ctx context.Context, c *call, message []byte) (jsonrpc.Message, error) {
	if err := w.send(ctx, message, nil); err != nil {
		return jsonrpc.Message{}, err
	}
	select {
	case m := <-c.reply:
		return m, nil
	case <-ctx.Done():
		return jsonrpc.Message{}, context.Cause(ctx)
	case <-w.lost:
	}
	select { // both may have come at once
	case m := <-c.reply:
		return m, nil
	default:
		return jsonrpc.Message{}, fmt.Errorf("%w: %w", ErrLost, w.why)
	}
}

func (w *stdioWire) send(ctx context.Context, message []byte, _ http.Header) error {
	select {
	case <-w.lost:
		return fmt.Errorf("%w: %w", ErrDown, w.why)
	default:
	}
	select {
	case w.queue <- append(jsonrpc.OneLine(message), '\n'):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.lost:
		return fmt.Errorf("%w: %w", ErrDown, w.why)
	}
}

func (w *stdioWire) writeLoop() {
	for {
		select {
		case line := <-w.queue:
			if err := w.write(line); err != nil {
				w.unwritable(err)
				return
			}
		case <-w.lost:
			return
		}
	}
}

func (w *stdioWire) write(line []byte) error {
	for chunk := range slices.Chunk(line, writeChunk) {
		_ = w.proc.stdin.SetWriteDeadline(time.Now().Add(w.spec.writeTimeout()))
		if _, err := w.proc.stdin.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

func (w *stdioWire) unwritable(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.lose(fmt.Errorf("it has read nothing for %s", w.spec.writeTimeout()))
		return
	}
	w.mute("it closed its standard input")
}

// mute gives up a child that closed one of its ends. Most likely it is ending:
// that has a moment to become the reason, with what it said last.
func (w *stdioWire) mute(why string) {
	select {
	case <-w.proc.exited:
	case <-w.lost:
	case <-time.After(lastWords):
		w.lose(errors.New(why))
	}
}

// readLoop reads the child's messages. Lines that are no messages are logged
// and skipped: many a server prints to its standard output.
func (w *stdioWire) readLoop() {
	defer close(w.read)
	r := bufio.NewReaderSize(w.proc.stdout, 64<<10)
	for {
		line, err := readLine(r, w.spec.maxMessage())
		if len(line) > 0 {
			w.take(line)
		}
		if err != nil {
			w.unreadable(err)
			return
		}
	}
}

func (w *stdioWire) take(line []byte) {
	m, err := jsonrpc.Parse(line)
	switch {
	case err != nil:
		w.log.Warn("the server printed a line that is no message", "bytes", len(line), "err", err)
	case m.Kind() == jsonrpc.Response:
		w.conn.deliver(m)
	default:
		w.conn.receive(nil, m)
	}
}

func (w *stdioWire) unreadable(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		w.mute("it closed its standard output")
		return
	}
	w.lose(err)
}

// errTooLong is the reason to give up a connection on which the start of the
// next message cannot be found in bounded memory.
var errTooLong = errors.New("a message is too long")

// readLine returns the next line without its end, in memory of its own.
func readLine(r *bufio.Reader, limit int64) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if int64(len(line)+len(part)) > limit {
			return nil, fmt.Errorf("%w: %w: more than %d bytes", ErrProtocol, errTooLong, limit)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
			line = line[:n-1]
		}
		return line, err
	}
}

// logLoop puts what the child writes to stderr into the log.
func (w *stdioWire) logLoop() {
	r := bufio.NewReaderSize(w.proc.stderr, maxLogLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil // the rest of a long line becomes a line of its own
		}
		for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
			line = line[:n-1]
		}
		if len(line) > 0 {
			w.log.Info("server stderr", "line", w.spec.masked(string(line)))
		}
		if err != nil {
			return
		}
	}
}
