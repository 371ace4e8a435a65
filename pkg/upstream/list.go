package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// The limits of one list. Besides, it may not have more bytes than a message.
const (
	maxPages = 1000
	maxItems = 50_000
)

// readInventory reads everything that a server offers. A list is not requested if the server does not declare the
// capability.
func readInventory(ctx context.Context, c *Conn) (Inventory, error) {
	inv := Inventory{Initialized: c.Initialized()}
	has, err := jsonrpc.Fields(inv.Initialized.Capabilities, "tools", "prompts", "resources")
	if err != nil {
		return inv, serverError(c.spec.Name, fmt.Errorf("%w: its capabilities are not an object", transport.ErrProtocol))
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
		items, hint, err := readList(ctx, c, l.method, l.member)
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok && e.Code == jsonrpc.CodeMethodNotFound {
			continue
		}
		if err != nil {
			return inv, fmt.Errorf("%s: %w", l.method, err)
		}
		*l.into, *l.hint = items, hint
	}
	if !protocol.Declares(inv.Initialized.Capabilities, "tasks", "requests", "tools", "call") {
		for i, tool := range inv.Tools { // clients see them beside the tools of servers that declare it
			inv.Tools[i] = protocol.ToolWithoutTaskSupport(tool)
		}
	}
	return inv, nil
}

// readList reads all pages of a list. The hint is the most restrictive of all pages.
func readList(ctx context.Context, c *Conn, method, member string) (items []json.RawMessage, hint Hint, err error) {
	var size int64
	req := Request{Method: method, addMeta: true, Modern: true} // otherwise call removes ttlMs and cacheScope for a legacy client
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
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: %w", transport.ErrProtocol, err))
		}
		var page []json.RawMessage
		if fields[0] != nil {
			if err := json.Unmarshal(fields[0], &page); err != nil {
				return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: %q is not an array", transport.ErrProtocol, member))
			}
		}
		if items = append(items, page...); len(items) > maxItems {
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: it lists more than %d items", transport.ErrProtocol, maxItems))
		}
		if size += int64(len(fields[0])); size > c.spec.maxMessage() {
			return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: its list is longer than %d bytes",
				transport.ErrProtocol, c.spec.maxMessage()))
		}
		if pageHint := parseHint(fields[2], fields[3]); n == 0 {
			hint = pageHint
		} else {
			hint = Hint{min(hint.TTLMs, pageHint.TTLMs), hint.Public && pageHint.Public}
		}
		if fields[1] == nil || string(fields[1]) == "null" || string(fields[1]) == `""` {
			return items, hint, nil
		}
		req.Params = append(append(json.RawMessage(`{"cursor":`), fields[1]...), '}')
	}
	return nil, hint, serverError(c.spec.Name, fmt.Errorf("%w: its list has more than %d pages", transport.ErrProtocol, maxPages))
}

func parseHint(ttl, scope json.RawMessage) Hint {
	var h Hint
	if json.Unmarshal(ttl, &h.TTLMs) != nil || h.TTLMs < 0 {
		h.TTLMs = 0
	}
	h.Public = string(scope) == `"public"`
	return h
}
