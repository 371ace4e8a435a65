package transport

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// startError says why a child could not be started. The system often blames the program for what is wrong elsewhere.
type startError struct {
	why   string
	cause error // of the system
}

// Error implements error.
func (e startError) Error() string { return "could not be started: " + e.why }

// Unwrap returns the error of the system.
func (e startError) Unwrap() error { return e.cause }

// newStartError explains the error with which the command of cfg could not be started.
func newStartError(cfg Config, err error) error {
	for _, explain := range []func(Config, error) string{wrongDirectory, wrongCommand, wrongFile, wrongLimit} {
		if why := explain(cfg, err); why != "" {
			return startError{cfg.masked(why), err} // the command may have arguments in it
		}
	}
	return startError{cfg.masked(err.Error()), err}
}

// StartProblem says why the command of cfg cannot be started, as far as that can be known without a try; "" if nothing
// is known to be wrong.
func StartProblem(cfg Config) string {
	for _, explain := range []func(Config, error) string{wrongDirectory, wrongCommand, wrongFile} {
		if why := explain(cfg, nil); why != "" {
			return why
		}
	}
	return ""
}

// wrongDirectory explains what is wrong with the working directory.
func wrongDirectory(cfg Config, _ error) string {
	if cfg.Dir == "" {
		return ""
	}
	info, err := os.Stat(cfg.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("its cwd %q does not exist", cfg.Dir)
	case err != nil:
		return fmt.Sprintf("its cwd %q cannot be used: %v", cfg.Dir, errno(err))
	case !info.IsDir():
		return fmt.Sprintf("its cwd %q is not a directory", cfg.Dir)
	}
	return ""
}

// wrongCommand explains why there is no file with the name of the command.
func wrongCommand(cfg Config, _ error) string {
	path, err := pathOf(cfg)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err == nil {
		return ""
	}
	first, _, more := strings.Cut(strings.TrimSpace(cfg.Command), " ")
	if more {
		if found, err := pathOf(Config{Command: first, Dir: cfg.Dir}); err == nil && isFile(found) {
			return fmt.Sprintf("its command has arguments in it, which no shell takes apart: write command: %s, and the rest as args",
				first)
		}
	}
	switch {
	case strings.HasPrefix(cfg.Command, "~"):
		return fmt.Sprintf("there is no program %q: nothing replaces ~ in a command, write the whole path", cfg.Command)
	case errors.Is(err, exec.ErrDot):
		return fmt.Sprintf("the program %q is in the current directory only: write ./%s", cfg.Command, cfg.Command)
	case !strings.Contains(cfg.Command, "/"):
		return fmt.Sprintf("the program %q is not in the PATH of the hub: install it, or write its whole path", cfg.Command)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("there is no program %q", path)
	}
	return fmt.Sprintf("the program %q cannot be used: %v", path, errno(err))
}

// wrongFile explains why the file of the command is not one that the system can run.
func wrongFile(cfg Config, err error) string {
	path, perr := pathOf(cfg)
	if perr != nil {
		return ""
	}
	info, serr := os.Stat(path)
	switch {
	case serr != nil:
		return ""
	case info.IsDir():
		return fmt.Sprintf("%q is a directory, not a program", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Sprintf("%q is not executable: run chmod +x on it, or name the program that runs it as command", path)
	}
	head := headOf(path)
	switch {
	case len(head) == 0 && errors.Is(err, syscall.ENOEXEC):
		return fmt.Sprintf("%q is empty", path)
	case bytes.HasPrefix(head, []byte("#!")):
		return wrongInterpreter(path, head)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return wrongMachine(path)
	case bytes.HasPrefix(head, []byte("MZ")):
		return fmt.Sprintf("%q is a program for Windows", path)
	case isMachO(head):
		return fmt.Sprintf("%q is a program for macOS", path)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Sprintf("%q is no program: it is not a binary, and does not begin with #! and its interpreter", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("%q must not be run: is its file system mounted with noexec?", path)
	}
	return ""
}

// wrongInterpreter explains what is wrong with the first line of a script.
func wrongInterpreter(path string, head []byte) string {
	interpreter, crlf := interpreterOf(head)
	switch {
	case crlf:
		return windowsLines(path)
	case interpreter == "":
		return fmt.Sprintf("the first line of %q names no interpreter", path)
	case !isFile(interpreter):
		return fmt.Sprintf("the interpreter %q in the first line of %q does not exist", interpreter, path)
	}
	return ""
}

func windowsLines(path string) string {
	return fmt.Sprintf(`%q has the line ends of Windows (CRLF): convert it, for example with sed -i 's/\r$//'`, path)
}

// interpreterOf returns the interpreter in the first line of a script, and whether that line has the end of Windows.
func interpreterOf(head []byte) (interpreter string, crlf bool) {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	line, crlf = bytes.CutSuffix(line, []byte("\r"))
	if fields := bytes.Fields(bytes.TrimPrefix(line, []byte("#!"))); len(fields) > 0 {
		interpreter = string(fields[0])
	}
	return interpreter, crlf
}

// machines are the names that Go has for those of ELF files.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64",
}

// wrongMachine explains why an ELF file cannot be run: it is for another machine, or its loader is missing.
func wrongMachine(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Sprintf("%q is a damaged program", path)
	}
	defer func() { _ = f.Close() }()
	if name := machines[f.Machine]; name != runtime.GOARCH {
		if name == "" {
			name = f.Machine.String()
		}
		return fmt.Sprintf("%q is a program for %s, and this machine is %s", path, name, runtime.GOARCH)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		if name := string(bytes.TrimRight(loader, "\x00")); err == nil && !isFile(name) {
			return fmt.Sprintf("%q needs the loader %q, which does not exist: it was built for another system", path, name)
		}
	}
	return ""
}

func isMachO(head []byte) bool {
	return slices.ContainsFunc([]string{"\xcf\xfa\xed\xfe", "\xce\xfa\xed\xfe", "\xca\xfe\xba\xbe"}, func(magic string) bool {
		return bytes.HasPrefix(head, []byte(magic))
	})
}

// wrongLimit explains the limits of the system that a start can meet.
func wrongLimit(_ Config, err error) string {
	switch {
	case errors.Is(err, syscall.E2BIG):
		return "its arguments and environment are longer than the system permits"
	case errors.Is(err, syscall.EAGAIN):
		return "there are too many processes (ulimit -u, or the limit of the container)"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many files are open (ulimit -n)"
	case errors.Is(err, syscall.ENOMEM):
		return "there is not enough memory"
	case errors.Is(err, syscall.ETXTBSY):
		return "its program is being written"
	}
	return ""
}

// badLines explains why a child may have ended that was started and said nothing: it is a script with the line ends of
// Windows, or a shell runs one. "" if it is not.
func badLines(cfg Config) string {
	path, err := pathOf(cfg)
	if err != nil {
		return ""
	}
	if head := headOf(path); bytes.HasPrefix(head, []byte("#!")) {
		if _, crlf := interpreterOf(head); crlf {
			return windowsLines(path)
		}
	}
	switch filepath.Base(cfg.Command) {
	case "sh", "bash", "dash", "ash", "ksh", "zsh":
		for _, script := range cfg.Args {
			if !filepath.IsAbs(script) {
				script = filepath.Join(cfg.Dir, script)
			}
			if line, _, _ := bytes.Cut(headOf(script), []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
				return windowsLines(script)
			}
		}
	}
	return ""
}

// pathOf returns the path of the program of cfg.
func pathOf(cfg Config) (string, error) {
	if strings.Contains(cfg.Command, "/") {
		if cfg.Dir != "" && !filepath.IsAbs(cfg.Command) {
			return filepath.Join(cfg.Dir, cfg.Command), nil // the child changes to its directory first
		}
		return cfg.Command, nil
	}
	return exec.LookPath(cfg.Command)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// headOf returns the first bytes of a file; none if it is not a regular one.
func headOf(path string) []byte {
	if !isFile(path) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head)
	return head[:n]
}

// errno returns the error of the system without the path, which the caller has named.
func errno(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}
