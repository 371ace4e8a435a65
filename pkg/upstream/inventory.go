package upstream

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Inventory is everything that a server offers, item by item as it sent them.
type Inventory struct {
	Initialized Initialized
	Tools       []json.RawMessage
	Prompts     []json.RawMessage
	Resources   []json.RawMessage
	Templates   []json.RawMessage

	Hints Hints

	// Changed are the methods of the notifications by which the server reported that lists had changed. It is empty
	// for the first inventory of a connection.
	Changed []string
}

// shortestList returns the method of the shortest list that has items, or "".
func (inv Inventory) shortestList() (method string) {
	least := 0
	for _, list := range []struct {
		method string
		items  []json.RawMessage
	}{
		{protocol.MethodToolsList, inv.Tools}, {protocol.MethodPromptsList, inv.Prompts},
		{protocol.MethodResourcesList, inv.Resources}, {protocol.MethodResourcesTemplatesList, inv.Templates},
	} {
		if n := len(list.items); n > 0 && (least == 0 || n < least) {
			method, least = list.method, n
		}
	}
	return method
}

// Hint says how long a list may be cached, and by whom, specification 2026-07-28, server/utilities/caching. The zero
// Hint: not at all.
type Hint struct {
	TTLMs  int64 // ms
	Public bool  // by anybody; otherwise only by clients with the same authorization
}

// Hints are those of the lists of a server.
type Hints struct{ Tools, Prompts, Resources, Templates Hint }
