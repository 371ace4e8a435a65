package hubtest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// ports counts through the ports below those that outgoing connections get, so
// that no port is given out twice while nobody listens on it yet.
var ports = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(12000))
	return &n
}()

// FreeAddress returns a loopback address, host:port, on which nobody listens. It
// is for programs that have to be given their address; a handler is better
// served by Serve.
func FreeAddress(t testing.TB) string {
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

// Serve serves handler on a free port until the test ends and returns the URL.
func Serve(t testing.TB, handler http.Handler) (url string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // streams have no end of their own
	return server.URL
}

// Get returns the status and the body of a GET request; 0 if nobody answers.
func Get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}
