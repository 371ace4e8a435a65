package transport

import (
	"bufio"
	"bytes"
	"cmp"
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
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// stdio is a connection to a child process that reads and writes one message a line, see specification 2025-11-25,
// basic/transports, stdio.
type stdio struct {
	*lifetime // of writeLoop and watch
	cfg       Config
	log       *slog.Logger
	output    *slog.Logger // for the lines of stderr
	process   *process
	spoke     bool           // the child has written a message; this and the next are of readLoop, until drained is closed
	preface   int            // lines before that which are no messages
	queue     chan []byte    // lines to write
	drained   chan struct{}  // closed when the child's standard output has been read to its end
	readers   sync.WaitGroup // readLoop and logLoop; watch waits for them
}

const (
	writeQueue   = 256         // lines
	writeChunk   = 64 << 10    // bytes; the size of a pipe, so that a successful write means that the child read something
	maxLogLine   = 8 << 10     // bytes of a line of stderr
	maxSecret    = 2 << 10     // bytes of a secret that is found where such a line is cut
	maxPreface   = 20_000      // lines before the first message
	drainTimeout = time.Second // for the output that a child wrote before it exited
)

// errEcho is why a program that is no server is given up.
var errEcho = errors.New("the program sends back what it is sent, so it is no MCP server " +
	"(a terminal does so, too: run containers without -t)")

// errNoMessage is why a program is given up that writes something else all the time.
var errNoMessage = fmt.Errorf("the program has printed %d lines and no message, so it is no MCP server", maxPreface)

func newStdio(cfg Config) *stdio {
	return &stdio{lifetime: newLifetime(cfg.Handler.Lost), cfg: cfg, queue: make(chan []byte, writeQueue), drained: make(chan struct{})}
}

// Start implements Transport.
func (t *stdio) Start(context.Context) error {
	p, err := startProcess(t.cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	t.process, t.log, t.output = p, t.cfg.Log.With("pid", p.cmd.Process.Pid), t.cfg.Output.With("pid", p.cmd.Process.Pid)
	t.cfg.Log = t.log
	t.log.Debug("server process started", "command", t.cfg.Command)
	t.readers.Go(t.readLoop)
	t.readers.Go(t.logLoop)
	t.start(t.writeLoop)
	t.start(t.watch)
	return nil
}

// watch waits until the child exits, or stops it when the connection is lost, and then closes its pipes.
func (t *stdio) watch() {
	select {
	case <-t.process.exited:
	case <-t.done:
		t.process.stop(t.cfg.Graces)
	}
	// A grandchild that left the process group may hold the pipes open; do not wait for it.
	deadline := time.Now().Add(drainTimeout)
	_ = t.process.stdout.SetReadDeadline(deadline)
	_ = t.process.stderr.SetReadDeadline(deadline)
	<-t.drained // the last line may have been the response to a call
	t.lose(t.exitReason())
	t.readers.Wait()
	t.process.closePipes()
}

// exitReason says how the child ended, and why if that shows. It is called when the output of the child has been read.
func (t *stdio) exitReason() error {
	err := t.process.exitError()
	if !t.spoke {
		if why := badLines(t.cfg); why != "" {
			return fmt.Errorf("%w; %s", err, why)
		}
	}
	return err
}

// SessionID implements Transport. A process has no session id.
func (t *stdio) SessionID() string { return "" }

// SetVersion implements Transport.
func (t *stdio) SetVersion(string) {}

// Listen implements Transport. Messages arrive on standard output at any time.
func (t *stdio) Listen(context.Context) {}

// Close implements Transport.
func (t *stdio) Close(bool) {
	t.refuse()
	t.lose(ErrClosed)
	t.wait()
}

// Call implements Transport.
func (t *stdio) Call(ctx context.Context, call *Call, message []byte) (jsonrpc.Message, error) {
	if err := t.Send(ctx, message, nil); err != nil {
		return jsonrpc.Message{}, err
	}
	return t.awaitReply(ctx, call)
}

// Send implements Transport.
func (t *stdio) Send(ctx context.Context, message []byte, _ http.Header) error {
	if t.isLost() {
		return fmt.Errorf("%w: %w", ErrDown, t.reason)
	}
	select {
	case t.queue <- append(jsonrpc.OneLine(message), '\n'):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.done:
		return fmt.Errorf("%w: %w", ErrDown, t.reason)
	}
}

func (t *stdio) writeLoop() {
	for {
		select {
		case line := <-t.queue:
			if err := t.write(line); err != nil {
				t.writeFailed(err)
				return
			}
		case <-t.done:
			return
		}
	}
}

func (t *stdio) write(line []byte) error {
	for chunk := range slices.Chunk(line, writeChunk) {
		_ = t.process.stdin.SetWriteDeadline(time.Now().Add(t.cfg.WriteTimeout))
		if _, err := t.process.stdin.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

func (t *stdio) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.lose(fmt.Errorf("it has read nothing for %s", t.cfg.WriteTimeout))
		return
	}
	t.loseAfterExit("it closed its standard input")
}

// loseAfterExit gives up a child that closed one of its pipes. Most likely it is about to exit: its exit status, which
// says more than reason, has a moment to become the reason of the loss.
func (t *stdio) loseAfterExit(reason string) {
	select {
	case <-t.process.exited:
	case <-t.done:
	case <-time.After(drainTimeout):
		t.lose(errors.New(reason))
	}
}

// readLoop reads the child's messages. Other lines are logged and skipped: many servers print to their standard output.
// The child of a client that is over its share of memory is not read, so it waits, too.
func (t *stdio) readLoop() {
	defer close(t.drained)
	r := &lineReader{in: bufio.NewReaderSize(t.process.stdout, readBuffer), limit: t.cfg.MaxMessage, patient: t.cfg.Own,
		done: t.process.exited}
	r.memory.On(t.cfg.Memory)
	document := &lineDocument{limit: t.cfg.MaxMessage}
	document.memory.On(t.cfg.Memory)
	defer document.memory.Release()
	for {
		if t.cfg.Own {
			t.cfg.Memory.Wait(context.Background(), t.process.exited)
		}
		l, err := r.next()
		r.memory.Release() // whose message it is decides who has memory for it
		if l.skipped != nil {
			t.handleAll(document.end())
			err = cmp.Or(t.handleSkipped(l), err)
		} else if len(l.text) > 0 {
			t.handleAll(document.add(l.text))
		}
		if err != nil {
			t.handleAll(document.end())
			t.readFailed(err)
			return
		}
	}
}

// handleSkipped ends the call whose response was skipped, or refuses the request that was. If nothing can be told of a
// line that was too long, it returns an error: some call would wait in vain.
func (t *stdio) handleSkipped(l line) error {
	if id := l.responseID(); id != "" {
		t.log.Debug("a response of the server was dropped", "bytes", l.size, "err", l.skipped)
		t.cfg.Handler.Deliver(dropped(id, l.skipped))
		return nil
	}
	u := jsonrpc.Oversized(l.text, l.tail, &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: l.skipped.Error()})
	switch {
	case len(u.IDs) > 0:
		t.cfg.giveUp(t.cfg.Context, u, l.text)
	case u.IsMethod || !errors.Is(l.skipped, errTooLong):
		t.log.Warn("a message of the server was dropped", "bytes", l.size, "err", l.skipped)
	default:
		return fmt.Errorf("%w: %w", ErrProtocol, l.skipped)
	}
	return nil
}

// isMessage reports whether a line of a child that has not sent a message yet is one. Other lines may say why it does not
// start. A program that sends back what it is sent is given up: its lines are messages, but those of the hub.
func (t *stdio) isMessage(line []byte) bool {
	m, err := jsonrpc.Parse(line)
	switch {
	case err != nil:
		t.cfg.LastLines.add(t.cfg.masked(string(line[:min(len(line), maxLogLine)])))
		if t.preface++; t.preface == maxPreface {
			t.lose(errNoMessage)
		}
	case m.Kind() == jsonrpc.Request && (m.Method == protocol.MethodInitialize || m.Method == protocol.MethodServerDiscover):
		t.lose(errEcho)
		return false
	default:
		t.spoke = true
	}
	return true
}

func (t *stdio) handleAll(texts [][]byte) {
	for _, text := range texts {
		if t.spoke || t.isMessage(text) {
			t.handle(text)
		}
	}
}

func (t *stdio) handle(line []byte) {
	if bytes.IndexByte(line, '\n') >= 0 { // otherwise valid, it counts as repaired
		if _, err := jsonrpc.Parse(line); err == nil {
			t.cfg.Repaired(jsonrpc.RepairedFraming)
		}
	}
	if u := t.cfg.read(line, t.cfg.dispatch); u != nil {
		t.cfg.giveUp(t.cfg.Context, u, line)
	}
}

func (t *stdio) readFailed(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
		t.loseAfterExit("it closed its standard output")
		return
	}
	t.lose(err)
}

// logLoop logs the lines that the child writes to stderr. A part of a line that is too long waits for what follows it:
// secrets are not recognized in parts.
func (t *stdio) logLoop() {
	r := bufio.NewReaderSize(t.process.stderr, maxLogLine-maxSecret)
	waiting := ""
	for {
		line, err := r.ReadSlice('\n')
		text := t.cfg.masked(waiting + string(trimLineEnd(line)))
		waiting = ""
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil // the rest of a long line becomes a line of its own
			cut := max(0, len(text)-maxSecret)
			text, waiting = text[:cut], text[cut:]
		}
		if text != "" {
			t.cfg.LastLines.add(text)
			t.output.Info("server stderr", "line", text)
		}
		if err != nil {
			return
		}
	}
}
