// Package protocol is the vocabulary of MCP: methods, protocol versions and eras, headers, error codes,
// capabilities and log levels. It also converts messages between the shapes of the two eras.
//
// The package works on raw JSON: a function that changes a message keeps every byte that it does not have to
// change. It keeps no state, does no I/O and starts no goroutine. All functions may be called concurrently.
package protocol
