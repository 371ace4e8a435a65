package upstream

import "encoding/json"

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

// Hint says how long a list may be cached, and by whom, specification 2026-07-28, server/utilities/caching. The zero
// Hint: not at all.
type Hint struct {
	TTLMs  int64 // ms
	Public bool  // by anybody; otherwise only by clients with the same authorization
}

// Hints are those of the lists of a server.
type Hints struct{ Tools, Prompts, Resources, Templates Hint }
