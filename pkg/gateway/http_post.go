package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

const (
	bodyTimeout = 30 * time.Second // for a client to send its request
)

// post handles a POST: one message of a client, or a batch.
func (d *door) post(w http.ResponseWriter, r *http.Request) {
	body, ok := d.readBody(w, r)
	if !ok {
		return
	}
	if jsonrpc.IsBatch(body) {
		d.batch(w, r, body)
		return
	}
	m, err := jsonrpc.Parse(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, m.ID, jsonrpc.AsError(err))
		return
	}
	if isModern(r, m) {
		d.modern.serve(w, r, m)
		return
	}
	if !d.checkHeaders(w, r, m) {
		return
	}
	if m.Kind() == jsonrpc.Request && m.Method == protocol.MethodInitialize {
		d.legacy.initialize(w, r, m)
		return
	}
	cs, lease, ok := d.enter(w, r, m)
	if !ok {
		return
	}
	if m.Kind() == jsonrpc.Request {
		cs.serve(w, r, lease, m)
		return
	}
	defer lease.Release()
	if !cs.accept(r, m) {
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "no request with this id waits for a response"))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// readBody returns the body of a POST. If it is not acceptable readBody answers the request and returns
// false.
func (d *door) readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	fail := func(status int, e *jsonrpc.Error) ([]byte, bool) {
		refuse(w, status, "", e)
		return nil, false
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != protocol.TypeJSON {
		return fail(http.StatusUnsupportedMediaType, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "Content-Type must be application/json"))
	}
	if !accepts(r, protocol.TypeJSON) || !accepts(r, protocol.TypeEventStream) {
		return fail(http.StatusNotAcceptable, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"Accept must list both application/json and text/event-stream"))
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.cfg.maxRequestBytes()))
	if err == nil { // otherwise net/http reads on before it answers
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fail(http.StatusRequestEntityTooLarge, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the message is longer than %d bytes", tooLong.Limit))
	} else if err != nil {
		return fail(http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeParse, "the message could not be read"))
	}
	return body, true
}
