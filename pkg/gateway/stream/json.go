package stream

import (
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// WriteJSON writes a response that is one JSON text.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", protocol.TypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(WriteTimeout + time.Duration(len(body))*time.Microsecond))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}
