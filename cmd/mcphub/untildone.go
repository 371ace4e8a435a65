package main

import (
	"context"
	"errors"
	"io"
	"time"
)

// errInterrupted is the error of a command that a signal ended before its time.
var errInterrupted = errors.New("interrupted")

// untilDone returns the result of wait, or errInterrupted when ctx ends first. wait
// then stays behind, in a system call that nobody can cancel, such as the opening of a
// pipe that nobody writes to. It ends with the process, so it must not own anything.
func untilDone[T any](ctx context.Context, wait func() (T, error)) (result T, err error) {
	type outcome struct {
		result T
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := wait()
		done <- outcome{result, err}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return result, errInterrupted
	}
}

// interruptible returns a reader of in whose Read returns errInterrupted when ctx ends.
func interruptible(ctx context.Context, in io.Reader) io.Reader { return ctxReader{ctx, in} }

type ctxReader struct {
	ctx context.Context //nolint:containedctx // of the command that reads
	in  io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	b, err := untilDone(r.ctx, func() ([]byte, error) {
		own := make([]byte, len(p)) // a Read that stays behind must not write into p
		n, err := r.in.Read(own)
		return own[:n], err
	})
	return copy(p, b), err
}

// timeToEnd is how long a command may go on after a signal: for what it prints and
// closes at its end. Then it hangs, on an output that nobody reads for example.
const timeToEnd = 2 * time.Second

// endsByItself marks a command that has a time limit of its own for its end.
const endsByItself = "ends by itself"

// bounded runs command, and goes on without it if it does not return within timeToEnd
// after ctx has ended.
func bounded(ctx context.Context, command func() error) error {
	done := make(chan error, 1)
	go func() { done <- command() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(timeToEnd):
		return errInterrupted
	}
}
