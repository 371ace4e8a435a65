//go:build !linux

package persist

import "errors"

// barrier is not to be had here: each file is synced by itself.
func (o osFiles) barrier() (func() error, error) { return nil, errors.ErrUnsupported }
