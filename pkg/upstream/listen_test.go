package upstream

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// Some servers send the requests that belong to a call on the GET stream, and drop them if it is not open yet.
func TestGETStreamIsOpenBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		get  time.Duration // until the GET is answered
		open bool          // before the first call
	}{
		"a slow stream": {200 * time.Millisecond, true},
		"no answer":     {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var open, early atomic.Bool
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					if transport.Pause(r.Context(), test.get) == nil {
						open.Store(true)
						w.Header().Set("Content-Type", protocol.TypeEventStream)
						w.WriteHeader(http.StatusOK)
						_ = http.NewResponseController(w).Flush()
						<-r.Context().Done()
					}
					return
				}
				body, _ := io.ReadAll(r.Body)
				m, _ := jsonrpc.Parse(body)
				if m.ID == "" {
					w.WriteHeader(http.StatusAccepted)
					return
				}
				result := []byte(`{}`)
				if m.Method == "initialize" {
					result = []byte(`{"protocolVersion":"2025-11-25","capabilities":{}}`)
				} else if !open.Load() {
					early.Store(true)
				}
				w.Header().Set("Content-Type", protocol.TypeJSON)
				_, _ = io.Copy(w, bytes.NewReader(jsonrpc.NewResult(m.ID, result).Encode()))
			}))
			t.Cleanup(srv.Close)
			c := newEnv(t, Spec{Name: "web", URL: srv.URL, Era: protocol.Legacy, ConnectTimeout: patience, CallTimeout: patience}).connect(t, nil)
			if m, err := c.Call(t.Context(), Request{Method: "ping"}); err != nil || m.Error != nil {
				t.Fatalf("ping: %s, %v", m.Error, err)
			}
			if early.Load() == test.open {
				t.Errorf("the call came before the stream was open: %v", early.Load())
			}
		})
	}
}
