package gateway

import (
	"errors"
	"mime"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// bodyTimeout is the time in which a client must send the body of a request.
const bodyTimeout = 30 * time.Second

// post handles a POST: one message of a client, or a batch. The session comes before the body: nobody makes the hub hold
// a body for a session that does not exist, and a body counts towards the memory of its session.
func (d *door) post(w http.ResponseWriter, r *http.Request) {
	if !d.checkMedia(w, r) {
		return
	}
	var v visitor
	d.lookUp(r, &v)
	defer v.leave()
	body, ok := d.readBody(w, r, &v)
	if !ok {
		return
	}
	if jsonrpc.IsBatch(body) {
		d.batch(w, r, &v, body)
		return
	}
	m, err := d.parse(body)
	if err != nil {
		if v.cs != nil && m.ID != "" { // if it was to be the response to a request of a server, that must not wait for another
			v.cs.requests.deliver(jsonrpc.NewError(m.ID, jsonrpc.AsError(err)))
		}
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
	if !d.admit(w, r, m, &v) {
		return
	}
	if m.Kind() == jsonrpc.Request {
		v.cs.serve(w, r, &v, m)
		return
	}
	if !v.cs.accept(r, m) {
		refuse(w, http.StatusBadRequest, "", jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "no request with this id waits for a response"))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// checkMedia checks the media types that a POST names. If they are not acceptable, or the hub has no memory left, it
// answers the request and returns false.
func (d *door) checkMedia(w http.ResponseWriter, r *http.Request) bool {
	fail := func(status int, e *jsonrpc.Error) bool {
		refuse(w, status, "", e)
		return false
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != protocol.TypeJSON {
		return fail(http.StatusUnsupportedMediaType, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "Content-Type must be application/json"))
	}
	if !accepts(r, protocol.TypeJSON) || !accepts(r, protocol.TypeEventStream) {
		return fail(http.StatusNotAcceptable, jsonrpc.Errorf(jsonrpc.CodeInvalidRequest,
			"Accept must list both application/json and text/event-stream"))
	}
	if d.cfg.Memory.Full() {
		return fail(memoryStatus(w.Header(), errMemoryFull), errMemoryFull)
	}
	return true
}

// readBody returns the body of a POST. If it is not acceptable, readBody answers the request and returns false.
func (d *door) readBody(w http.ResponseWriter, r *http.Request, v *visitor) ([]byte, bool) {
	fail := func(status int, e *jsonrpc.Error) ([]byte, bool) {
		refuse(w, status, "", e)
		return nil, false
	}
	if v.err != nil && (r.ContentLength < 0 || r.ContentLength > maxStrangerBody) {
		w.Header().Set("Connection", "close") // otherwise net/http reads on
		d.refuseSession(w, jsonrpc.Message{}, v.err)
		return nil, false
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := v.body.ReadAll(http.MaxBytesReader(w, r.Body, d.cfg.maxRequestBytes()), r.ContentLength)
	if err == nil { // otherwise net/http reads on before it answers
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		return body, true
	}
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fail(http.StatusRequestEntityTooLarge,
			jsonrpc.Errorf(jsonrpc.CodeInvalidRequest, "the message is longer than %d bytes (limits.maxRequestBytes)", tooLong.Limit))
	}
	if isMemoryError(err) {
		w.Header().Set("Connection", "close")
		memoryStatus(w.Header(), errMemoryFull)
		return fail(http.StatusServiceUnavailable, memoryError(err))
	}
	return fail(http.StatusBadRequest, jsonrpc.Errorf(jsonrpc.CodeParse, "the message could not be read"))
}
