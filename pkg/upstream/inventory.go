package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Inventory is everything a server offers, item by item as it sent them.
type Inventory struct {
	Initialized Initialized
	Tools       []json.RawMessage
	Prompts     []json.RawMessage
	Resources   []json.RawMessage
	Templates   []json.RawMessage

	// Changed are the methods of the notifications by which the server said
	// that lists had changed; none when it was connected to.
	Changed []string
}

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
	}{
		{has[0] != nil, "tools/list", "tools", &inv.Tools},
		{has[1] != nil, "prompts/list", "prompts", &inv.Prompts},
		{has[2] != nil, "resources/list", "resources", &inv.Resources},
		{has[2] != nil, "resources/templates/list", "resourceTemplates", &inv.Templates},
	} {
		if !l.offered {
			continue
		}
		items, err := pages(ctx, c, l.method, l.member)
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok && e.Code == jsonrpc.CodeMethodNotFound {
			continue
		}
		if err != nil {
			return inv, fmt.Errorf("%s: %w", l.method, err)
		}
		*l.into = items
	}
	return inv, nil
}

// pages reads a list to its end.
func pages(ctx context.Context, c *Conn, method, member string) ([]json.RawMessage, error) {
	var items []json.RawMessage
	var params json.RawMessage
	var size int64
	for range maxPages {
		response, err := c.Call(ctx, Request{Method: method, Params: params})
		if err != nil {
			return nil, err
		}
		if response.Error != nil {
			return nil, serverError(c.spec.Name, fmt.Errorf("refused: %w", refusal(response.Error)))
		}
		fields, err := jsonrpc.Fields(response.Result, member, "nextCursor")
		if err != nil {
			return nil, serverError(c.spec.Name, fmt.Errorf("%w: %w", ErrProtocol, err))
		}
		var page []json.RawMessage
		if fields[0] != nil {
			if err := json.Unmarshal(fields[0], &page); err != nil {
				return nil, serverError(c.spec.Name, fmt.Errorf("%w: %q is no list", ErrProtocol, member))
			}
		}
		if items = append(items, page...); len(items) > maxItems {
			return nil, serverError(c.spec.Name, fmt.Errorf("%w: it lists more than %d items", ErrProtocol, maxItems))
		}
		if size += int64(len(fields[0])); size > c.spec.maxMessage() {
			return nil, serverError(c.spec.Name, fmt.Errorf("%w: its list is longer than %d bytes", ErrProtocol, c.spec.maxMessage()))
		}
		if fields[1] == nil || string(fields[1]) == "null" || string(fields[1]) == `""` {
			return items, nil
		}
		params = append(append(json.RawMessage(`{"cursor":`), fields[1]...), '}')
	}
	return nil, serverError(c.spec.Name, fmt.Errorf("%w: its list has more than %d pages", ErrProtocol, maxPages))
}
