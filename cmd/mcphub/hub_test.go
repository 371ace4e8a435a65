package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// built builds a program once per test run and returns its path.
func built(t *testing.T, name, pkg string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if path := builds.paths[name]; path != "" {
		return path
	}
	path := filepath.Join(builds.dir, name)
	out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	builds.paths[name] = path
	return path
}

var builds = struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string
}{paths: map[string]string{}}

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		os.Exit(driver(os.Args[1:]))
	}
	if about := os.Getenv(matrixVariable); about != "" {
		os.Exit(serveMatrix(context.Background(), about))
	}
	if file := os.Getenv(canaryVariable); file != "" {
		os.Exit(serveCanary(file))
	}
	dir, err := os.MkdirTemp("", "mcphub-e2e-")
	if err != nil {
		panic(err)
	}
	builds.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// proc is a running program whose log the test can read.
type proc struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a program until the test ends or stops it.
func start(t *testing.T, path string, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, cmd: exec.Command(path, args...), log: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// Copying the output must not wait for a grandchild that still holds the pipe.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(path), p.log)
		}
	})
	return p
}

// kill is kill -9.
func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate sends SIGTERM and returns the exit status.
func (p *proc) terminate(within time.Duration) int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("still running %s after SIGTERM\n%s", within, p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// hubProcess is a running mcphub.
type hubProcess struct {
	*proc
	listen, side, dataDir string
}

func (h *hubProcess) url() string { return "http://" + h.listen + "/mcp" }

// startHub runs mcphub serve with the configuration and waits until it is ready.
func startHub(t *testing.T, config, dataDir string, args ...string) *hubProcess {
	t.Helper()
	return startHubAt(t, freeAddress(t), freeAddress(t), config, dataDir, args...)
}

func startHubAt(t *testing.T, listen, side, config, dataDir string, args ...string) *hubProcess {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mcphub.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"serve", "--config", file, "--listen", listen, "--admin-listen", side, "--data-dir", dataDir,
		"--log-format", "json", "--log-level", "debug"}, args...)
	h := &hubProcess{proc: start(t, built(t, "mcphub", "."), args...), listen: listen, side: side, dataDir: dataDir}
	eventually(t, "the hub is ready", func() bool {
		select {
		case <-h.done:
			t.Fatalf("the hub ended\n%s", h.log)
		default:
		}
		status, _ := get(t, "http://"+side+"/readyz")
		return status == http.StatusOK
	})
	return h
}

// ports counts through the ports below those that outgoing connections get,
// so that no port is given out twice while nobody listens on it yet.
var ports = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(12000))
	return &n
}()

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+ports.Add(1)%12000))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at another process
	}
}

// get returns the status and the body; 0 if nobody answers.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// metric returns the value of a series as /metrics shows it, or "" if there is none.
func (h *hubProcess) metric(series string) string {
	h.t.Helper()
	_, body := get(h.t, "http://"+h.side+"/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// rawClient speaks MCP over Streamable HTTP and keeps every byte.
type rawClient struct {
	t             *testing.T
	url, token    string
	version       string
	notifications []string
}

// connect initializes a session.
func connect(t *testing.T, url string) *rawClient {
	t.Helper()
	c := &rawClient{t: t, url: url, version: "2025-11-25"}
	c.request("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}`)
	if c.token == "" {
		t.Fatal("no Mcp-Session-Id")
	}
	if status, body := c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d %s", status, body)
	}
	return c
}

func (c *rawClient) do(ctx context.Context, method, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if c.token != "" {
		r.Header.Set("Mcp-Session-Id", c.token)
		r.Header.Set("Mcp-Protocol-Version", c.version)
	}
	return http.DefaultClient.Do(r)
}

// post sends one message and returns what comes back: the body, or the last
// event of a stream.
func (c *rawClient) post(message string) (int, string) {
	c.t.Helper()
	response, err := c.do(c.t.Context(), http.MethodPost, message)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if token := response.Header.Get("Mcp-Session-Id"); token != "" && c.token == "" {
		c.token = token
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	last := ""
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "" {
			continue
		}
		if strings.Contains(data, `"id":`) && !strings.Contains(data, `"method":`) {
			last = data
		} else {
			c.notifications = append(c.notifications, data)
		}
	}
	return response.StatusCode, last
}

// answer is a response whose parts are the bytes that came.
type answer struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// request sends a request and returns the answer to it.
func (c *rawClient) request(method, params string) answer {
	c.t.Helper()
	_, body := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":%s}`, method, params))
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		c.t.Fatalf("%s: %v in %q", method, err, body)
	}
	return a
}
