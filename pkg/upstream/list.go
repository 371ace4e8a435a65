package upstream

import (
	"bytes"
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
	maxPages      = 1000
	maxItems      = 50_000
	maxEmptyPages = 10 // in a row
)

// list is one list that a server may offer.
type list struct {
	capability     string // by which the server declares it
	method, member string
	change         string // the notification of its changes
	into           func(*Inventory) (*[]json.RawMessage, *Hint)
}

// lists returns the lists in the order in which they are read.
func lists() []list {
	return []list{
		{"tools", protocol.MethodToolsList, "tools", protocol.MethodToolsListChanged,
			func(inv *Inventory) (*[]json.RawMessage, *Hint) { return &inv.Tools, &inv.Hints.Tools }},
		{"prompts", protocol.MethodPromptsList, "prompts", protocol.MethodPromptsListChanged,
			func(inv *Inventory) (*[]json.RawMessage, *Hint) { return &inv.Prompts, &inv.Hints.Prompts }},
		{"resources", protocol.MethodResourcesList, "resources", protocol.MethodResourcesListChanged,
			func(inv *Inventory) (*[]json.RawMessage, *Hint) { return &inv.Resources, &inv.Hints.Resources }},
		{"resources", protocol.MethodResourcesTemplatesList, "resourceTemplates", protocol.MethodResourcesListChanged,
			func(inv *Inventory) (*[]json.RawMessage, *Hint) { return &inv.Templates, &inv.Hints.Templates }},
	}
}

// listContent is what was read of a list.
type listContent struct {
	items []json.RawMessage
	hint  Hint  // the most restrictive of all pages
	cut   error // why the list was not read to its end, although the server answered well; nil: it was
}

// readList reads all pages of a list. With an error the content is that of the pages before.
func readList(ctx context.Context, c *Conn, l list) (listContent, error) {
	pages := listReader{conn: c, list: l, cursors: map[string]bool{}}
	// Modern, because call removes ttlMs and cacheScope for a legacy client.
	req := Request{Method: l.method, addMeta: true, tentative: true, Modern: true}
	for {
		response, err := c.Call(ctx, req)
		if err != nil {
			return pages.content, pages.failed(err)
		}
		if response.Error != nil {
			return pages.content, pages.failed(serverError(c.spec.Name, fmt.Errorf("refused: %w", c.spec.refusal(response.Error))))
		}
		cursor, err := pages.add(response.Result)
		if err != nil {
			return pages.content, serverError(c.spec.Name, fmt.Errorf("%w: %w", transport.ErrProtocol, err))
		}
		if cursor == nil || pages.content.cut != nil {
			return pages.content, nil //nolint:nilerr // what was read of a list that was cut is its content
		}
		req.Params = append(append(json.RawMessage(`{"cursor":`), cursor...), '}')
	}
}

// listReader collects the pages of one list, and stops where a server would lead it on for ever.
type listReader struct {
	conn    *Conn
	list    list
	content listContent

	cursors map[string]bool // that were followed
	last    []byte          // the items of the page before
	pages   int
	empty   int // pages without items, the last ones
	size    int64
}

// failed returns err, with which the next page failed. It says how much there was before.
func (r *listReader) failed(err error) error {
	if r.pages == 0 {
		return err
	}
	return fmt.Errorf("after %d pages: %w", r.pages, err)
}

// add adds a page and returns the cursor of the next one, which is nil after the last page. A page that is too much is
// not added: then content.cut is set.
func (r *listReader) add(result json.RawMessage) (cursor json.RawMessage, err error) {
	fields, err := jsonrpc.Fields(result, r.list.member, "nextCursor", "ttlMs", "cacheScope")
	if err != nil {
		return nil, fmt.Errorf("its answer is wrong: %w", err)
	}
	if fields[0] == nil {
		return nil, fmt.Errorf("its answer has no %q", r.list.member)
	}
	var items []json.RawMessage // null: a server in Go has no items
	if err := json.Unmarshal(fields[0], &items); err != nil {
		return nil, fmt.Errorf("%q is not an array", r.list.member)
	}
	next := fields[1]
	if string(next) == "null" || string(next) == `""` {
		next = nil
	}
	r.pages++
	r.content.cut = r.limit(items, fields[0], next)
	if r.content.cut != nil && !errors.Is(r.content.cut, errLastPage) {
		return nil, nil
	}
	r.content.items, r.last = append(r.content.items, items...), fields[0]
	if hint := parseHint(fields[2], fields[3]); r.pages == 1 {
		r.content.hint = hint
	} else {
		r.content.hint = Hint{min(r.content.hint.TTLMs, hint.TTLMs), r.content.hint.Public && hint.Public}
	}
	return next, nil
}

// errLastPage marks why a list is cut after a page that is still part of it.
var errLastPage = errors.New("the rest of the list was not read")

// limit returns why the list ends here, or nil.
func (r *listReader) limit(items []json.RawMessage, raw, next json.RawMessage) error {
	if r.empty++; len(items) > 0 {
		r.empty = 0
	}
	switch r.size += int64(len(raw)); {
	case len(r.content.items)+len(items) > maxItems:
		return fmt.Errorf("it has more than %d items; the rest was not read", maxItems)
	case r.size > r.conn.spec.maxMessage():
		return fmt.Errorf("it is longer than %d bytes; the rest was not read", r.conn.spec.maxMessage())
	case len(items) > 0 && bytes.Equal(raw, r.last):
		return errors.New("the server sends the same page again; it ignores the cursor")
	case next == nil:
		return nil
	case next[0] != '"':
		return fmt.Errorf("nextCursor is not a string: %w", errLastPage)
	case r.cursors[string(next)]:
		return fmt.Errorf("the server repeats a cursor: %w", errLastPage)
	case r.pages == maxPages:
		return fmt.Errorf("it has more than %d pages: %w", maxPages, errLastPage)
	case r.empty == maxEmptyPages:
		return fmt.Errorf("%d pages in a row have no items: %w", maxEmptyPages, errLastPage)
	}
	r.cursors[string(next)] = true
	return nil
}

func parseHint(ttl, scope json.RawMessage) Hint {
	var h Hint
	if json.Unmarshal(ttl, &h.TTLMs) != nil || h.TTLMs < 0 {
		h.TTLMs = 0
	}
	h.Public = string(scope) == `"public"`
	return h
}
