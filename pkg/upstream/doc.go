// Package upstream keeps the hub connected to its servers and carries out calls to them.
//
//	Pool ── Server ──┬─ supervisor ── the hub's own Conn: reads what the server offers, notices when it is gone
//	                 └─ Link, one per client session ── the hub's own Conn if it is shared, or a Conn of the Link
//
// A Conn is one initialized JSON-RPC connection over a transport of package transport: a child process, or a session
// over Streamable HTTP or HTTP+SSE. It gives every request an id and a progress token of its own, so that calls of
// several clients over one Conn cannot be confused, and forwards raw bytes. What the two eras of the protocol do
// differently is in its dialect.
//
// A Pool, its Servers and their dialer, state and supervisor live as long as the hub. A Link lives as long as its
// client session. A Conn lives until its server is lost or it is closed; a Link or the supervisor then makes a new one.
//
// Pool.Run has one goroutine for each server, which supervises it. A Conn has goroutines for the requests of its server
// that wait for an answer (64 at most), for responses and cancellations that are being sent, for the stream of
// subscriptions of a modern server, and those of its transport; Conn.close waits for all of them. Calls run on the
// goroutines of their callers.
//
// A file uses only files below it. A lower type reaches the connection that it belongs to by function fields
// (serverRequests) or by an interface (dialect, transport.Handler).
//
//	pool.go                                            all servers
//	link.go                                            a client session's way to one server
//	server.go                                          one server
//	supervisor.go                                      reconnects, pings, reads the lists
//	sessioncheck.go                                    whether a server has forgotten a session
//	server_state.go                                    up or down, inventory, era
//	relister.go ── relistplan.go, relistrequests.go    when lists are read again, and why
//	listing.go ── list.go                              reads the lists, and one list page by page
//	dialer.go, owners.go                               makes connections; whose they are
//	inbound.go, negotiate.go                           routes what a server sends; agrees on an era
//	modern_call.go ── modern_input.go, modern_headers.go ── modern.go    the modern dialect
//	modern_listen.go, modern_subscriptions.go          its subscriptions
//	result.go                                          results as clients get them
//	discovery.go, legacy.go                            server/discover; the legacy dialect
//	conn.go                                            one connection: calls, notifications
//	dialect.go
//	serverrequest.go, pending.go                       requests in both directions that wait for a response
//	requestspan.go, callspan.go, telemetry.go          spans and measurements
//	outcome.go, opener.go, metrics.go, warnings.go
//	background.go, toolheaders.go
//	startlimit.go, restarts.go                         how long a start may take; pauses between starts
//	config.go, request.go, refusal.go, sink.go, inventory.go, secrets.go, spec.go, errors.go
package upstream
