package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestBackgroundWaitEndsWithTheLastFunction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b background
		if err := b.wait(t.Context()); err != nil {
			t.Errorf("wait without functions: %v", err)
		}
		first, second := make(chan struct{}), make(chan struct{})
		b.Go(func() { <-first })
		waited := make(chan error, 2)
		for range 2 {
			go func() { waited <- b.wait(t.Context()) }()
		}
		synctest.Wait()
		b.Go(func() { <-second }) // begun while wait waits
		close(first)
		synctest.Wait()
		if len(waited) != 0 {
			t.Error("wait ended although a function is running")
		}
		close(second)
		for range 2 {
			if err := <-waited; err != nil {
				t.Errorf("wait: %v", err)
			}
		}
		if err := b.wait(t.Context()); err != nil {
			t.Errorf("wait afterwards: %v", err)
		}
	})
}

func TestBackgroundWaitCanBeGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b background
		running := make(chan struct{})
		b.Go(func() { <-running })
		ctx, cancel := context.WithCancelCause(t.Context())
		waited := make(chan error, 1)
		go func() { waited <- b.wait(ctx) }()
		synctest.Wait()
		cause := errors.New("too slow")
		cancel(cause)
		if err := <-waited; !errors.Is(err, cause) {
			t.Errorf("wait: %v, want the cause of its context", err)
		}
		close(running)
		if err := b.wait(t.Context()); err != nil {
			t.Errorf("a later wait: %v", err)
		}
	})
}
