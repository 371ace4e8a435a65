package upstream

import "github.com/mark3labs/mcp-go/mcp"

// Other is the label value of whatever has no label value of its own.
const Other = "_OTHER"

var methods = func() map[string]bool {
	known := map[string]bool{"server/discover": true, "subscriptions/listen": true}
	for _, m := range []mcp.MCPMethod{
		mcp.MethodInitialize, mcp.MethodPing, mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList,
		mcp.MethodResourcesRead, mcp.MethodPromptsList, mcp.MethodPromptsGet, mcp.MethodToolsList, mcp.MethodToolsCall,
		mcp.MethodSetLogLevel,
	} {
		known[string(m)] = true
	}
	for _, m := range []string{
		"completion/complete", "resources/subscribe", "resources/unsubscribe", "sampling/createMessage",
		"elicitation/create", "roots/list", "tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update",
		"notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/message",
		"notifications/roots/list_changed", "notifications/tools/list_changed", "notifications/prompts/list_changed",
		"notifications/resources/list_changed", "notifications/resources/updated", "notifications/elicitation/complete",
		"notifications/tasks/status", methodAcknowledged,
	} {
		known[m] = true
	}
	return known
}()

// Requests returns the methods that clients call, and Other, for label sets that
// exist from the start.
func Requests() []string {
	return []string{"initialize", "ping", "server/discover", "subscriptions/listen", "tools/list", "tools/call", "prompts/list", "prompts/get",
		"resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe",
		"completion/complete", "logging/setLevel", "tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update", Other}
}

// MethodLabel returns method if it is a method of MCP, and Other if not:
// strangers choose methods, and a label must not grow with what they choose.
func MethodLabel(method string) string {
	if methods[method] {
		return method
	}
	return Other
}
