package gateway

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// A server can have a user open a page, by a question or by an error, and say
// later that this is done (URL mode, specification 2025-11-25,
// client/elicitation). It names an id then, and no request. Over a shared
// connection only the hub can know which client was given that id.

const (
	maxElicitations  = 64        // that one session remembers
	maxElicitationID = 256       // bytes of an id that is remembered
	elicitationTime  = time.Hour // that it is remembered

)

// elicited remembers which pages shared servers want the user of a session to
// open. The zero value is ready; it may be used concurrently.
type elicited struct {
	mu    sync.Mutex
	pages []page // the oldest first
}

// page is one of them.
type page struct {
	server, id string
	until      time.Time
}

// add notes that the client was given ids by server. Of too many the oldest is
// forgotten.
func (e *elicited) add(server string, ids ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	until := time.Now().Add(elicitationTime)
	for _, id := range ids {
		if id == "" || len(id) > maxElicitationID {
			continue
		}
		e.pages = slices.DeleteFunc(e.pages, func(p page) bool { return p.server == server && p.id == id })
		if len(e.pages) >= maxElicitations {
			e.pages = slices.Delete(e.pages, 0, 1)
		}
		e.pages = append(e.pages, page{server, id, until})
	}
}

// take reports whether the client was given id by server, and forgets it.
func (e *elicited) take(server, id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, given := time.Now(), false
	e.pages = slices.DeleteFunc(e.pages, func(p page) bool {
		over := !now.Before(p.until)
		this := p.server == server && p.id == id
		given = given || (this && !over)
		return this || over
	})
	return given
}

// asksForPage returns the id of the page that a question wants opened, or "".
func asksForPage(m jsonrpc.Message) string {
	if m.Method != protocol.MethodElicitationCreate {
		return ""
	}
	if mode, _ := jsonrpc.StringField(m.Params, "mode"); mode != "url" {
		return ""
	}
	id, _ := jsonrpc.StringField(m.Params, "elicitationId")
	return id
}

// needsPages returns the ids of the pages that a response wants opened before
// the request is repeated.
func needsPages(m jsonrpc.Message) []string {
	if !bytes.Contains(m.Error, []byte("-32042")) {
		return nil
	}
	e := jsonrpc.ParseError(m.Error)
	var data struct {
		Elicitations []struct {
			ID string `json:"elicitationId"`
		} `json:"elicitations"`
	}
	if e.Code != protocol.CodeURLElicitationRequired || json.Unmarshal(e.Data, &data) != nil {
		return nil
	}
	ids := make([]string, 0, len(data.Elicitations))
	for _, page := range data.Elicitations {
		ids = append(ids, page.ID)
	}
	return ids
}

// elicitationCompleted tells the sessions that were given the id by server, and
// nobody else. It reports whether there were any.
func (g *Gateway) elicitationCompleted(server string, m jsonrpc.Message) bool {
	id, ok := jsonrpc.StringField(m.Params, "elicitationId")
	if m.Method != protocol.MethodElicitationComplete || !ok {
		return false
	}
	told := false
	for _, cs := range g.openSessions() {
		if cs.elicited.take(server, id) {
			g.heard(cs.ctx, server, m)
			cs.push(m)
			told = true
		}
	}
	return told
}
