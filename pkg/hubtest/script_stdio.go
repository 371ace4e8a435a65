package hubtest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// ServeStdio serves one client over two pipes until in ends. A test program that
// is to be its own server calls it in TestMain with os.Stdin and os.Stdout, if an
// environment variable says so, and puts os.Executable() into the configuration
// of the hub.
func (s *Script) ServeStdio(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	var mu sync.Mutex
	send := func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = out.Write(append(line, '\n')) // a client that is gone has closed in, too
	}
	calls.Go(func() { s.announce(ctx, &announcements{send: send}) })
	session := s.unique("stdio")
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		m, err := jsonrpc.Parse(bytes.Clone(lines.Bytes()))
		if err != nil {
			send(jsonrpc.NewError(m.ID, jsonrpc.AsError(err)).Encode())
			continue
		}
		got := Received{Message: m}
		s.record(got)
		if answer := s.accept(ctx, session, got, send); answer != nil {
			calls.Go(func() {
				if reply := answer(); reply != nil {
					send(reply)
				}
			})
		}
	}
	return lines.Err()
}
