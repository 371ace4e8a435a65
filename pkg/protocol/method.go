package protocol

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// The requests that clients send.
const (
	MethodInitialize             = "initialize" // legacy
	MethodPing                   = "ping"       // legacy; servers send it too
	MethodServerDiscover         = "server/discover"
	MethodSubscriptionsListen    = "subscriptions/listen"
	MethodToolsList              = "tools/list"
	MethodToolsCall              = "tools/call"
	MethodPromptsList            = "prompts/list"
	MethodPromptsGet             = "prompts/get"
	MethodResourcesList          = "resources/list"
	MethodResourcesTemplatesList = "resources/templates/list"
	MethodResourcesRead          = "resources/read"
	MethodResourcesSubscribe     = "resources/subscribe"   // legacy
	MethodResourcesUnsubscribe   = "resources/unsubscribe" // legacy
	MethodCompletionComplete     = "completion/complete"
	MethodLoggingSetLevel        = "logging/setLevel" // legacy
	MethodTasksGet               = "tasks/get"
	MethodTasksList              = "tasks/list"   // legacy
	MethodTasksResult            = "tasks/result" // legacy
	MethodTasksCancel            = "tasks/cancel"
	MethodTasksUpdate            = "tasks/update"
)

// The requests that servers send, all of them legacy. A modern server puts them into the result of a client's
// request instead (specification 2026-07-28, basic/utilities/mrtr).
const (
	MethodSamplingCreateMessage = "sampling/createMessage"
	MethodElicitationCreate     = "elicitation/create"
	MethodRootsList             = "roots/list"
)

// The notifications of clients and servers.
const (
	MethodInitialized               = "notifications/initialized"
	MethodCancelled                 = "notifications/cancelled"
	MethodProgress                  = "notifications/progress"
	MethodLogMessage                = "notifications/message"
	MethodRootsListChanged          = "notifications/roots/list_changed"
	MethodToolsListChanged          = "notifications/tools/list_changed"
	MethodPromptsListChanged        = "notifications/prompts/list_changed"
	MethodResourcesListChanged      = "notifications/resources/list_changed"
	MethodResourcesUpdated          = "notifications/resources/updated"
	MethodElicitationComplete       = "notifications/elicitation/complete" // specification 2025-11-25, client/elicitation
	MethodTasksStatus               = "notifications/tasks/status"
	MethodSubscriptionsAcknowledged = "notifications/subscriptions/acknowledged"
)

// ClientRequests returns the methods of the requests that clients send, of both eras.
func ClientRequests() []string {
	return []string{
		MethodInitialize, MethodPing, MethodServerDiscover, MethodSubscriptionsListen,
		MethodToolsList, MethodToolsCall, MethodPromptsList, MethodPromptsGet,
		MethodResourcesList, MethodResourcesTemplatesList, MethodResourcesRead,
		MethodResourcesSubscribe, MethodResourcesUnsubscribe,
		MethodCompletionComplete, MethodLoggingSetLevel,
		MethodTasksGet, MethodTasksList, MethodTasksResult, MethodTasksCancel, MethodTasksUpdate,
	}
}

// IsMethod reports whether method is a request or notification of MCP, of either era, sent by clients or servers.
func IsMethod(method string) bool {
	switch method {
	case MethodInitialize, MethodPing, MethodServerDiscover, MethodSubscriptionsListen,
		MethodToolsList, MethodToolsCall, MethodPromptsList, MethodPromptsGet,
		MethodResourcesList, MethodResourcesTemplatesList, MethodResourcesRead,
		MethodResourcesSubscribe, MethodResourcesUnsubscribe,
		MethodCompletionComplete, MethodLoggingSetLevel,
		MethodTasksGet, MethodTasksList, MethodTasksResult, MethodTasksCancel, MethodTasksUpdate,

		MethodSamplingCreateMessage, MethodElicitationCreate, MethodRootsList,

		MethodInitialized, MethodCancelled, MethodProgress, MethodLogMessage, MethodRootsListChanged,
		MethodToolsListChanged, MethodPromptsListChanged, MethodResourcesListChanged, MethodResourcesUpdated,
		MethodElicitationComplete, MethodTasksStatus, MethodSubscriptionsAcknowledged:
		return true
	}
	return false
}

// IsListChanged reports whether method is a notification that a list of the server has changed.
func IsListChanged(method string) bool {
	switch method {
	case MethodToolsListChanged, MethodPromptsListChanged, MethodResourcesListChanged:
		return true
	}
	return false
}

// LevelParams returns the params of logging/setLevel.
func LevelParams(level string) json.RawMessage {
	return append(append(json.RawMessage(`{"level":`), jsonrpc.String(level)...), '}')
}

// URIParams returns the params of resources/subscribe, resources/unsubscribe and notifications/resources/updated.
func URIParams(uri string) json.RawMessage {
	return append(append(json.RawMessage(`{"uri":`), jsonrpc.String(uri)...), '}')
}
