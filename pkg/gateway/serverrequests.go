package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// maxServerRequests is the limit of the requests to one client that wait for an answer.
const maxServerRequests = 64

// serverRequests holds the requests to one client that wait for its answer: those of servers, which
// the client gets under ids of the hub, and the hub's own. Its methods may be called concurrently.
type serverRequests struct {
	prefix string // of the ids; set before first use

	mu       sync.Mutex
	last     int64                               // number of the newest id
	waiting  map[jsonrpc.ID]chan jsonrpc.Message // each receives one response
	progress map[jsonrpc.ID]answerProgress       // of the waiting requests whose server wants progress
}

// answerProgress forwards the progress of an answer to the server that waits for the answer. Several servers may use
// the same token, so the client gets a token of the hub instead: the id of the request.
type answerProgress struct {
	token  json.RawMessage // of the server
	report upstream.Reporter
}

// id returns the id of the nth request.
func (x *serverRequests) id(n int64) jsonrpc.ID {
	return jsonrpc.ID(fmt.Sprintf(`"hub-%s-%d"`, x.prefix, n))
}

// add returns a new id and the channel that receives the response; nil if too many requests wait.
// The caller removes the id.
func (x *serverRequests) add() (jsonrpc.ID, chan jsonrpc.Message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.waiting) >= maxServerRequests {
		return "", nil
	}
	x.last++
	id := x.id(x.last)
	response := make(chan jsonrpc.Message, 1)
	put(&x.waiting, id, response)
	return id, response
}

// remove removes a request. It reports whether the request was still waiting. If it was not, its channel has the
// response, unless the response was received from it already.
func (x *serverRequests) remove(id jsonrpc.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	waited := x.waiting[id] != nil
	delete(x.waiting, id)
	delete(x.progress, id)
	return waited
}

// deliver hands a response of the client to its request. It reports whether that was waiting. The
// first response counts.
func (x *serverRequests) deliver(m jsonrpc.Message) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	response := x.waiting[m.ID]
	if response == nil {
		return false
	}
	delete(x.waiting, m.ID)
	response <- m // it has room for one
	return true
}

// issued reports whether id is that of a request, which may have ended.
func (x *serverRequests) issued(id jsonrpc.ID) bool {
	number, ours := strings.CutPrefix(string(id), `"hub-`+x.prefix+`-`)
	n, err := strconv.ParseInt(strings.TrimSuffix(number, `"`), 10, 64)
	x.mu.Lock()
	defer x.mu.Unlock()
	return ours && err == nil && 0 < n && n <= x.last && id == x.id(n)
}

// replaceToken replaces the progress token of a request that has its id by one of the hub.
func (x *serverRequests) replaceToken(ctx context.Context, m jsonrpc.Message) jsonrpc.Message {
	report := upstream.ReporterOf(ctx)
	if report == nil || !bytes.Contains(m.Params, []byte(`"progressToken"`)) {
		return m
	}
	params, err := jsonrpc.Fields(m.Params, "_meta")
	if err != nil {
		return m
	}
	meta, err := jsonrpc.Fields(params[0], "progressToken")
	if err != nil || meta[0] == nil {
		return m
	}
	replaced, err := jsonrpc.Rewrite(params[0], jsonrpc.Edit{Name: "progressToken", Value: json.RawMessage(m.ID)})
	if err != nil {
		return m
	}
	if m.Params, err = jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta", Value: replaced}); err != nil {
		return m
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	put(&x.progress, m.ID, answerProgress{meta[0], report})
	return m
}

// progressOf returns the waiting request that has this progress token; the zero value if there is none.
func (x *serverRequests) progressOf(token json.RawMessage) answerProgress {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.progress[jsonrpc.ID(token)]
}
