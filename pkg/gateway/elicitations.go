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

// A server can ask a user to open a page (URL mode, specification 2025-11-25, client/elicitation), by a
// request or by an error, and send notifications/elicitation/complete later. That names the id of the elicitation and no
// request. Over a shared connection only the hub knows which client got the id.

const (
	maxElicitations  = 64        // remembered for one session
	maxElicitationID = 256       // bytes of an id; a longer one is not remembered
	elicitationTime  = time.Hour // for which an id is remembered
)

// elicitations remembers the ids of elicitations that shared servers have given the client of one
// session. The zero value is ready. Its methods may be called concurrently.
type elicitations struct {
	mu   sync.Mutex
	open []elicitation // the oldest first
}

type elicitation struct {
	server, id string
	until      time.Time
}

// add remembers ids that the client got from server. If there are too many it forgets the oldest.
func (e *elicitations) add(server string, ids ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	until := time.Now().Add(elicitationTime)
	for _, id := range ids {
		if id == "" || len(id) > maxElicitationID {
			continue
		}
		e.open = slices.DeleteFunc(e.open, func(p elicitation) bool { return p.server == server && p.id == id })
		if len(e.open) >= maxElicitations {
			e.open = slices.Delete(e.open, 0, 1)
		}
		e.open = append(e.open, elicitation{server, id, until})
	}
}

// take reports whether the client got id from server, and forgets the id.
func (e *elicitations) take(server, id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, given := time.Now(), false
	e.open = slices.DeleteFunc(e.open, func(p elicitation) bool {
		over := !now.Before(p.until)
		this := p.server == server && p.id == id
		given = given || (this && !over)
		return this || over
	})
	return given
}

// requestedElicitation returns the id of the elicitation by URL that a request of a server asks for,
// or an empty string.
func requestedElicitation(m jsonrpc.Message) string {
	if m.Method != protocol.MethodElicitationCreate {
		return ""
	}
	if mode, _ := jsonrpc.StringField(m.Params, "mode"); mode != "url" {
		return ""
	}
	id, _ := jsonrpc.StringField(m.Params, "elicitationId")
	return id
}

// requiredElicitations returns the ids of the elicitations that an error asks for before the request is
// sent again.
func requiredElicitations(m jsonrpc.Message) []string {
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
	for _, e := range data.Elicitations {
		ids = append(ids, e.ID)
	}
	return ids
}
