package children

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// system is what tells the processes of one run of one machine from others.
type system struct {
	proc      string // where the proc file system is
	bootID    string
	namespace string // of process ids
}

// process is what is known of one process.
type process struct {
	pid, group int
	zombie     bool
	startTime  uint64 // clock ticks since the boot
}

// thisSystem fails if /proc does not show the processes of this process's namespace.
func thisSystem() (system, error) {
	s := system{proc: "/proc"}
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return s, err
	}
	if self != strconv.Itoa(os.Getpid()) {
		return s, errors.New("/proc is that of another process namespace")
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return s, err
	}
	s.bootID = strings.TrimSpace(string(boot))
	s.namespace, err = os.Readlink("/proc/self/ns/pid")
	return s, err
}

func (s system) process(pid int) (process, error) {
	text, err := os.ReadFile(filepath.Join(s.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, text)
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The name of the program, in parentheses, may contain anything.
func parseStat(pid int, text []byte) (process, error) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	group, err := strconv.Atoi(fields[2])
	if err != nil {
		return process{}, err
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, err
	}
	return process{pid: pid, group: group, zombie: fields[0] == "Z" || fields[0] == "X", startTime: start}, nil
}

// groups returns the processes that run, by their process group.
func (s system) groups() (map[int][]process, error) {
	dir, err := os.Open(s.proc)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	groups := map[int][]process{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := s.process(pid); err == nil && !p.zombie { // otherwise it has ended meanwhile
			groups[p.group] = append(groups[p.group], p)
		}
	}
	return groups, nil
}

// hasVariable reports whether a process was started with that variable in its environment, NAME=VALUE. It is false for
// the processes of other users.
func (s system) hasVariable(pid int, variable string) bool {
	environ, err := os.ReadFile(filepath.Join(s.proc, strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if string(v) == variable {
			return true
		}
	}
	return false
}

func isInit() bool { return os.Getpid() == 1 }

// zombie returns a child of this process that has ended and was not waited for; 0 if there is none. It stays one.
func zombie() (pid int, err error) {
	var info unix.Siginfo
	err = unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if errors.Is(err, unix.ECHILD) {
		return 0, nil
	}
	if err != nil || info.Signo == 0 {
		return 0, err
	}
	// The id follows signo, errno and code; the union that it is in is aligned as a pointer is.
	const header = 3 * unsafe.Sizeof(int32(0))
	const offset = (header + unsafe.Sizeof(uintptr(0)) - 1) / unsafe.Sizeof(uintptr(0)) * unsafe.Sizeof(uintptr(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), offset))), nil //nolint:gosec // unix has no field for it
}

// waitFor waits for a child that has ended.
func waitFor(pid int) error {
	_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return err
}
