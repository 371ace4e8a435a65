package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// fifo makes a named pipe that nobody writes to.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // lets go of what waits for a writer
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			_ = f.Close()
		}
	})
	return path
}

// interrupted runs a command whose context ends while it waits, as with a signal, and
// returns its status and what it says.
func interrupted(t *testing.T, stdin io.Reader, stdout io.Writer, waits func() bool, args ...string) (status int, errs string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &hubtest.Buffer{}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, stdin, stdout, said) }()
	if waits != nil {
		hubtest.Eventually(t, "the command waits", waits)
	}
	cancel()
	select {
	case status = <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("mcphub %s goes on after the signal", strings.Join(args, " "))
	}
	return status, said.String()
}

func TestCommandsThatReadEndAtTheFirstSignal(t *testing.T) {
	dir := t.TempDir()
	if status, _, errs := mcphub(t, "", "sessions", "import", "--data-dir", dir); status != 0 {
		t.Fatal(errs)
	}
	hub := cannedHub(t)
	for name, tt := range map[string]struct {
		args string
		want string
	}{
		"config check of a pipe":       {"config check --config " + fifo(t), "interrupted while reading the configuration from "},
		"serve with a pipe":            {"serve --config " + fifo(t), "interrupted while reading the configuration from "},
		"export with a pipe":           {"sessions export --config " + fifo(t), "interrupted while reading"},
		"import from standard input":   {"sessions import --data-dir " + dir, "0 sessions imported, 0 left as they were\nmcphub: interrupted"},
		"import from a pipe":           {"sessions import --data-dir " + dir + " " + fifo(t), "mcphub: interrupted"},
		"the question whether to kill": {"sessions kill s1 --admin " + hub.URL, "mcphub: no session was ended"},
	} {
		t.Run(name, func(t *testing.T) {
			in, out := io.Pipe() // nobody writes to it
			defer func() { _ = out.Close() }()
			status, errs := interrupted(t, in, io.Discard, nil, strings.Fields(tt.args)...)
			if status != 1 && status != 2 || !strings.Contains(errs, tt.want) {
				t.Errorf("status %d:\n%s\nwant\n%s", status, errs, tt.want)
			}
		})
	}
	// The import that was interrupted has given the directory back.
	if status, _, errs := mcphub(t, "", "sessions", "import", "--data-dir", dir); status != 0 {
		t.Error(errs)
	}
}

func TestACommandWhoseOutputNobodyReadsEndsAtTheFirstSignal(t *testing.T) {
	hub := cannedHub(t)
	in, out := io.Pipe()
	defer func() { _ = in.Close() }()
	stuck := make(chan struct{})
	writes := writerFunc(func(p []byte) (int, error) {
		close(stuck)
		return out.Write(p)
	})
	status, errs := interrupted(t, strings.NewReader(""), writes, func() bool {
		select {
		case <-stuck:
			return true
		default:
			return false
		}
	}, "sessions", "show", "s1", "--json", "--admin", hub.URL)
	if status != 1 || !strings.Contains(errs, "interrupted") {
		t.Errorf("status %d: %s", status, errs)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestInterruptedReadLeavesTheBufferAlone(t *testing.T) {
	in, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := []byte("before")
	if n, err := interruptible(ctx, in).Read(p); n != 0 || err == nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	if _, err := out.Write([]byte("after!")); err != nil { // the read that stayed behind gets it
		t.Fatal(err)
	}
	if !bytes.Equal(p, []byte("before")) {
		t.Errorf("the buffer holds %q", p)
	}
}

func TestAHubWhoseBannerNobodyReadsRuns(t *testing.T) {
	in, out := io.Pipe() // nobody reads from it
	defer func() { _ = in.Close() }()
	admin := hubtest.FreeAddress(t)
	client := &http.Client{Timeout: time.Second} // a hub that hangs lets the connection wait
	ready := func() bool {
		response, err := client.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	status, errs := interrupted(t, strings.NewReader(""), out, ready, "serve", "--banner", "always", "--config",
		write(t, filepath.Join(t.TempDir(), "mcphub.json"), "{}", 0o600), "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0",
		"--admin-listen", admin)
	if status != 0 {
		t.Errorf("status %d: %s", status, errs)
	}
}
