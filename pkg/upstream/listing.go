package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// listPatience is the longest share of the time that a list which is not answered can take from the others. It is read
// again alone, with all of the time.
const listPatience = 5 * time.Second

// listing is what was read of a server's lists at one time.
type listing struct {
	Inventory
	failed map[string]error // why lists could not be read, by method; they are as they were before
	cut    map[string]error // why lists were not read to their end, by method
}

// hasFailed reports whether a list whose changes this notification reports could not be read.
func (x listing) hasFailed(change string) bool {
	return slices.ContainsFunc(lists(), func(l list) bool { return l.change == change && x.failed[l.method] != nil })
}

// listingOf is one reading of the lists of a server.
type listingOf struct {
	conn   *Conn
	before Inventory        // what the server offered before; a list that fails stays as it was
	only   map[string]error // the lists that are read, by method; nil: all
}

// read reads the lists that the server declares. A list that fails costs the others nothing. It is an error if the
// server is gone, or if no list could be read at all.
func (x listingOf) read(ctx context.Context) (listing, error) {
	c := x.conn
	out := listing{Inventory: Inventory{Initialized: c.Initialized()}, failed: map[string]error{}, cut: map[string]error{}}
	declared, err := declaredLists(out.Initialized.Capabilities)
	if err != nil {
		return out, serverError(c.spec.Name, fmt.Errorf("%w: %w", transport.ErrProtocol, err))
	}
	for _, l := range declared {
		items, hint := l.into(&out.Inventory)
		oldItems, oldHint := l.into(&x.before)
		*items, *hint = *oldItems, *oldHint
	}
	var first error
	read := 0
	wanted := x.wanted(declared)
	for i, l := range wanted {
		items, hint := l.into(&out.Inventory)
		content, err := x.readOne(ctx, l, len(wanted)-i)
		if err == nil {
			read++
			*items, *hint = content.items, content.hint
			if content.cut != nil {
				out.cut[l.method] = content.cut
			}
			continue
		}
		named := fmt.Errorf("%s: %w", l.method, err)
		switch {
		case isGone(ctx, c, err):
			return out, named
		case isUnknownMethod(err):
			read++
			*items, *hint = nil, Hint{}
			if l.method == protocol.MethodResourcesTemplatesList {
				continue // there is no capability of its own for it
			}
		case first == nil:
			first = named
		}
		out.failed[l.method] = err
		if len(*items) == 0 {
			*items, *hint = content.items, content.hint
		}
	}
	if read == 0 && first != nil {
		return out, first
	}
	return out, nil
}

// wanted returns those of the declared lists that are to be read.
func (x listingOf) wanted(declared []list) []list {
	if x.only == nil {
		return declared
	}
	return slices.DeleteFunc(slices.Clone(declared), func(l list) bool {
		_, wanted := x.only[l.method]
		return !wanted
	})
}

// listTime returns a context for reading one list, of left ones that have to be read until ctx ends. The list may take its
// share of the time, so that one that is not answered leaves time for the others.
func listTime(ctx context.Context, l list, left int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok || left == 1 {
		return context.WithCancel(ctx)
	}
	share := time.Until(end) / time.Duration(left)
	if l.method != protocol.MethodToolsList { // the list that clients need most
		share = min(share, listPatience)
	}
	return context.WithTimeoutCause(ctx, share, ErrTimeout)
}

// readOne reads one list, of left ones.
func (x listingOf) readOne(ctx context.Context, l list, left int) (listContent, error) {
	ctx, cancel := listTime(ctx, l, left)
	defer cancel()
	content, err := readList(ctx, x.conn, l)
	if err != nil {
		err = x.verified(ctx, err)
	}
	if l.method == protocol.MethodToolsList &&
		!protocol.Declares(x.conn.Initialized().Capabilities, "tasks", "requests", "tools", "call") {
		for i, tool := range content.items { // clients see them beside the tools of servers that declare it
			content.items[i] = protocol.ToolWithoutTaskSupport(tool)
		}
	}
	return content, err
}

// verified returns err, with which a list failed. Some servers answer a list that they do not have with 404, which also
// means that the session is gone: a request that they must know shows which it is.
func (x listingOf) verified(ctx context.Context, err error) error {
	if !errors.Is(err, transport.ErrSessionGone) || x.conn.isLost() {
		return err
	}
	if _, _ = x.conn.Call(ctx, Request{Method: protocol.MethodPing}); x.conn.isLost() {
		return err
	}
	status, _ := errors.AsType[transport.StatusError](err)
	return serverError(x.conn.spec.Name, fmt.Errorf("%w: %w", transport.ErrProtocol, status))
}

// declaredLists returns the lists that a server with these capabilities offers.
func declaredLists(capabilities json.RawMessage) ([]list, error) {
	all := lists()
	names := make([]string, 0, len(all))
	for _, l := range all {
		if !slices.Contains(names, l.capability) {
			names = append(names, l.capability)
		}
	}
	has, err := jsonrpc.Fields(capabilities, names...)
	if err != nil {
		return nil, errors.New("its capabilities are not an object")
	}
	return slices.DeleteFunc(all, func(l list) bool {
		value := has[slices.Index(names, l.capability)]
		return value == nil || string(value) == "null" // some servers write out what they do not have
	}), nil
}

// isGone reports whether a list failed with err because there is no server, or no hub, to read it.
func isGone(ctx context.Context, c *Conn, err error) bool {
	return c.isLost() || errors.Is(err, ErrDown) || errors.Is(err, errOtherEra) ||
		(ctx.Err() != nil && !transport.IsTimeout(context.Cause(ctx)))
}

func isUnknownMethod(err error) bool {
	e, ok := errors.AsType[*jsonrpc.Error](err)
	return ok && e.Code == jsonrpc.CodeMethodNotFound
}

// sameLists reports whether two inventories have the same items and hints.
func sameLists(a, b Inventory) bool {
	if a.Hints != b.Hints {
		return false
	}
	for _, l := range lists() {
		itemsA, _ := l.into(&a)
		itemsB, _ := l.into(&b)
		if !slices.EqualFunc(*itemsA, *itemsB, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) }) {
			return false
		}
	}
	return true
}

// reportsAllChanges reports whether a server declares for each of its lists that it reports changes.
func reportsAllChanges(capabilities json.RawMessage) bool {
	declared, err := declaredLists(capabilities)
	return err == nil && !slices.ContainsFunc(declared, func(l list) bool {
		return !reportsChanges(capabilities, l.capability)
	})
}

// reportsChanges reports whether a server declares that it reports changes of the lists of one capability.
func reportsChanges(capabilities json.RawMessage, capability string) bool {
	declared, err := jsonrpc.Fields(capabilities, capability)
	if err != nil {
		return false
	}
	changed, err := jsonrpc.Field(declared[0], "listChanged")
	return err == nil && string(changed) == "true"
}
