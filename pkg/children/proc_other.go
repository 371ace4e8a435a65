//go:build unix && !linux

package children

import "errors"

// system is empty: there is no proc file system.
type system struct{ bootID, namespace string }

type process struct {
	pid, group int
	zombie     bool
	startTime  uint64
}

func thisSystem() (system, error) { return system{}, errors.ErrUnsupported }

func (system) process(int) (process, error) { return process{}, errors.ErrUnsupported }

func (system) groups() (map[int][]process, error) { return nil, errors.ErrUnsupported }

func (system) hasVariable(int, string) bool { return false }

// isInit is false: on other systems nobody runs a hub as process 1.
func isInit() bool { return false }

func zombie() (pid int, err error) { return 0, errors.ErrUnsupported }

func waitFor(int) error { return errors.ErrUnsupported }
