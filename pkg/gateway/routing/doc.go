// Package routing decides which server gets a request, and what clients are told of all servers together.
//
//	Router     finds the server for a request by its name or URI, answers lists from the catalog, merges capabilities
//	Interests  knows what clients want of servers whose connection they share: subscriptions and log levels
//
// It does not know eras, sessions or HTTP: a Caller forwards the request, and a Subscriber gets the updates. Both types live as long
// as the hub. The package starts no goroutine itself; the caller of NewInterests says where work in the background runs.
package routing
