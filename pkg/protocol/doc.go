// Package protocol is the vocabulary of MCP: methods, protocol versions and eras, headers, error codes,
// capabilities, log levels, and the conversions between the shapes of the two eras. It works on raw JSON, keeps
// no state, does no I/O and starts no goroutine.
package protocol
