package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The values of cacheScope, specification 2026-07-28, server/utilities/caching.
const (
	CacheScopePrivate = "private" // a cache may reuse the result for the same authorization only
	CacheScopePublic  = "public"
)

// extensionTasks is the name of the tasks extension in capabilities.extensions of the modern protocol.
const extensionTasks = "io.modelcontextprotocol/tasks"

// ModernCapabilities returns the capabilities of a legacy client as the hub declares them in a modern request:
// without the tasks of specification 2025-11-25, without the tasks extension, and with roots that do not change.
func ModernCapabilities(legacy json.RawMessage) json.RawMessage {
	fields, err := jsonrpc.Fields(legacy, "roots", "tasks", "extensions")
	if err != nil || len(legacy) == 0 {
		return json.RawMessage(`{}`)
	}
	edits := []jsonrpc.Edit{{Name: "tasks"}, {Name: "extensions", Value: withoutTasks(fields[2])}}
	if fields[0] != nil {
		edits = append(edits, jsonrpc.Edit{Name: "roots", Value: json.RawMessage(`{}`)})
	}
	out, err := jsonrpc.Rewrite(legacy, edits...)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return out
}

// withoutTasks removes the tasks extension from extensions: the hub does not poll tasks on behalf of clients
// that do not know the extension.
func withoutTasks(extensions json.RawMessage) json.RawMessage {
	if extensions == nil {
		return nil
	}
	out, err := jsonrpc.Rewrite(extensions, jsonrpc.Edit{Name: extensionTasks})
	if err != nil {
		return nil
	}
	return out
}

// ToModernError replaces the code of a legacy error by the code that the modern protocol has for it:
// CodeResourceNotFound becomes CodeInvalidParams (SEP-2164). CodeURLElicitationRequired, which the modern protocol
// does not have, becomes CodeInternal with a message that says so. Every other error is returned as it is.
func ToModernError(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte("-320")) { // avoids parsing most errors
		return raw
	}
	var edits []jsonrpc.Edit
	switch jsonrpc.ParseError(raw).Code {
	case CodeResourceNotFound:
		edits = []jsonrpc.Edit{{Name: "code", Value: json.RawMessage(strconv.Itoa(jsonrpc.CodeInvalidParams))}}
	case CodeURLElicitationRequired:
		edits = []jsonrpc.Edit{
			{Name: "code", Value: json.RawMessage(strconv.Itoa(jsonrpc.CodeInternal))},
			{Name: "message", Value: jsonrpc.String("the server wants the user to open a page first, in a way that protocol version " +
				ModernVersion + " does not have")},
		}
	default:
		return raw
	}
	out, err := jsonrpc.Rewrite(raw, edits...)
	if err != nil {
		return raw
	}
	return out
}
