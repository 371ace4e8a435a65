package stream

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// WriteJSON writes a response that is one JSON text.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	startJSON(w, status, len(body))
	_, _ = w.Write(body)
	endJSON(w)
}

// writeList writes a response that is a list of JSON texts, without putting them together in memory.
func writeList(w http.ResponseWriter, list [][]byte) {
	size := len(list) + 1 // commas and brackets
	for _, text := range list {
		size += len(text)
	}
	startJSON(w, http.StatusOK, size)
	before := "["
	for _, text := range list {
		_, _ = io.WriteString(w, before)
		_, _ = w.Write(text)
		before = ","
	}
	_, _ = io.WriteString(w, "]")
	endJSON(w)
}

// startJSON sends the headers of a response of so many bytes, and limits the time to write it.
func startJSON(w http.ResponseWriter, status, size int) {
	w.Header().Set("Content-Type", protocol.TypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(size))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(size)*time.Microsecond))
	w.WriteHeader(status)
}

// endJSON takes the limit off the connection, which the next response may use.
func endJSON(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
}
