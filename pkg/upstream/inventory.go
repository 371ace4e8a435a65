package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Inventory is everything a server offers, item by item as it sent them.
type Inventory struct {
	Initialized Initialized
	Tools       []json.RawMessage
	Prompts     []json.RawMessage
	Resources   []json.RawMessage
	Templates   []json.RawMessage

	Hints Hints

	// Changed are the methods of the notifications by which the server said
	// that lists had changed; none when it was connected to.
	Changed []string
}

// Hint says how long a list may be kept, and by whom, specification 2026-07-28,
// server/utilities/caching. The zero Hint: not at all.
type Hint struct {
	TTLMs  int64
	Public bool // by anybody; otherwise by those with the same authorization
}

// Hints are those of the lists of a server.
type Hints struct{ Tools, Prompts, Resources, Templates Hint }

// Limits of what one server may list. Besides, a list may not be longer than a
// message.
const (
	maxPages = 1000
	maxItems = 50_000
)

// list asks a server for everything it offers. What its capabilities do not
// mention it is not asked for.
func list(ctx context.Context, c *Conn) (Inventory, error) {
	inv := Inventory{Initialized: c.Initialized()}
	has, err := jsonrpc.Fields(inv.Initialized.Capabilities, "tools", "prompts", "resources")
	if err != nil {
		return inv, serverError(c.spec.Name, fmt.Errorf("%w: its capabilities are no object", ErrProtocol))
	}
	for _, l := range []struct {
		offered        bool
		method, member string
		into           *[]json.RawMessage
		hint           *Hint
	}{
		{has[0] != nil, protocol.MethodToolsList, "tools", &inv.Tools, &inv.Hints.Tools},
		{has[1] != nil, protocol.MethodPromptsList, "prompts", &inv.Prompts, &inv.Hints.Prompts},
		{has[2] != nil, protocol.MethodResourcesList, "resources", &inv.Resources, &inv.Hints.Resources},
		{has[2] != nil, protocol.MethodResourcesTemplatesList, "resourceTemplates", &inv.Templates, &inv.Hints.Templates},
	} {
		if !l.offered {
			continue
		}
		items, hint, err := pages(ctx, c, l.method, l.member)
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok && e.Code == jsonrpc.CodeMethodNotFound {
			continue
		}
		if err != nil {
			return inv, fmt.Errorf("%s: %w", l.method, err)
		}
		*l.into, *l.hint = items, hint
	}
	if !protocol.Declares(inv.Initialized.Capabilities, "tasks", "requests", "tools", "call") {
		for i, tool := range inv.Tools { // next to the tools of others, whose servers declare it
			inv.Tools[i] = protocol.ToolWithoutTaskSupport(tool)
		}
	}
	return inv, nil
}

// pages reads a list to its end. The careful hint of all pages holds.
func pages(ctx context.Context, c *Conn, method, member string) (items []json.RawMessage, hint Hint, err error) {
	var size int64
	req := Request{Method: method, stamped: c.modern(), Modern: true} // so that the hints are not taken out
	for n := range maxPages {
		response, err := c.Call(ctx, req)
		if err != nil {
			return nil, hint, err
		}
		if response.Error != nil {
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("refused: %w", c.spec.refusal(response.Error)))
		}
		fields, err := jsonrpc.Fields(response.Result, member, "nextCursor", "ttlMs", "cacheScope")
		if err != nil {
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: %w", ErrProtocol, err))
		}
		var page []json.RawMessage
		if fields[0] != nil {
			if err := json.Unmarshal(fields[0], &page); err != nil {
				return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: %q is no list", ErrProtocol, member))
			}
		}
		if items = append(items, page...); len(items) > maxItems {
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: it lists more than %d items", ErrProtocol, maxItems))
		}
		if size += int64(len(fields[0])); size > c.spec.maxMessage() {
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: its list is longer than %d bytes", ErrProtocol, c.spec.maxMessage()))
		}
		if here := readHint(fields[2], fields[3]); n == 0 {
			hint = here
		} else {
			hint = Hint{min(hint.TTLMs, here.TTLMs), hint.Public && here.Public}
		}
		if fields[1] == nil || string(fields[1]) == "null" || string(fields[1]) == `""` {
			return items, hint, nil
		}
		req.Params = append(append(json.RawMessage(`{"cursor":`), fields[1]...), '}')
	}
	return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: its list has more than %d pages", ErrProtocol, maxPages))
}

func readHint(ttl, scope json.RawMessage) Hint {
	var h Hint
	if json.Unmarshal(ttl, &h.TTLMs) != nil || h.TTLMs < 0 {
		h.TTLMs = 0
	}
	h.Public = string(scope) == `"public"`
	return h
}
