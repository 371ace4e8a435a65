// Package routing decides which server gets a request, and merges lists and capabilities of all servers.
//
//	Router     finds the server for a request by its name or URI, answers lists from the catalog, merges capabilities
//	Interests  knows what clients want of servers whose connection they share: subscriptions and log levels
//
// The package does not know eras, sessions or HTTP: a Caller forwards the request, and a Subscriber gets the updates. A
// Router and an Interests live as long as the hub. The package starts no goroutine itself; the caller of NewInterests
// decides where work in the background runs.
package routing
