//go:build !linux

package session

// MachineClock returns the Clock of this machine. Outside Linux only the wall clock is
// known.
func MachineClock() Clock { return Clock{} }
