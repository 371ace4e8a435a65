//go:build !linux

package persist

import "errors"

// barrier is not supported on this system: each file is synced individually.
func (o osFiles) barrier() (func() error, error) { return nil, errors.ErrUnsupported }
