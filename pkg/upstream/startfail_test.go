package upstream

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument"
)

// startFailure returns why a server does not start.
func startFailure(t *testing.T, spec Spec) error {
	t.Helper()
	spec.Name, spec.ConnectTimeout, spec.StartTimeout = "bad", patience, patience
	if spec.Env == nil {
		spec.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	c, err := newEnv(t, spec).openFor(t.Context(), &recorder{}, hub, ServerSession{})
	if err == nil {
		c.close(true)
		t.Fatal("it has started")
	}
	return err
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// elfFor returns the header of a program for another machine.
func elfFor(machine elf.Machine) string {
	head := make([]byte, 64)
	copy(head, elf.ELFMAG)
	head[elf.EI_CLASS], head[elf.EI_DATA], head[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	binary.LittleEndian.PutUint16(head[16:], uint16(elf.ET_EXEC))
	binary.LittleEndian.PutUint16(head[18:], uint16(machine))
	binary.LittleEndian.PutUint32(head[20:], uint32(elf.EV_CURRENT))
	binary.LittleEndian.PutUint16(head[52:], 64)
	binary.LittleEndian.PutUint16(head[54:], 56)
	binary.LittleEndian.PutUint16(head[58:], 64)
	return string(head)
}

func TestErrorOfAChildThatCannotBeStartedNamesTheCause(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string { return write(t, filepath.Join(dir, name), text, 0o700) }
	foreign := elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		foreign = elf.EM_X86_64
	}
	for name, test := range map[string]struct {
		spec Spec
		want string
	}{
		"cwd does not exist": {Spec{Command: "sh", Dir: dir + "/gone"}, `its cwd "` + dir + `/gone" does not exist`},
		"cwd is a file":      {Spec{Command: "sh", Dir: file("plain", "x")}, `its cwd "` + dir + `/plain" is not a directory`},
		"arguments in command": {Spec{Command: "sh -c true"},
			"its command has arguments in it, which no shell takes apart: write command: sh, and the rest as args"},
		"arguments after a path": {Spec{Command: "/bin/sh -c true"}, "write command: /bin/sh, and the rest as args"},
		"not in PATH": {Spec{Command: "no-such-program"},
			`the program "no-such-program" is not in the PATH of the hub: install it, or write its whole path`},
		"not there, with spaces": {Spec{Command: "no-such-program --stdio"},
			`the program "no-such-program --stdio" is not in the PATH of the hub`},
		"no such file":        {Spec{Command: dir + "/gone"}, `there is no program "` + dir + `/gone"`},
		"no such file in cwd": {Spec{Command: "./gone", Dir: dir}, `there is no program "` + dir + `/gone"`},
		"home":                {Spec{Command: "~/bin/server"}, "nothing replaces ~ in a command, write the whole path"},
		"a directory":         {Spec{Command: dir}, `"` + dir + `" is a directory, not a program`},
		"not executable": {Spec{Command: write(t, dir+"/data", "#!/bin/sh\n", 0o600)},
			`"` + dir + `/data" is not executable: run chmod +x on it`},
		"no interpreter": {Spec{Command: file("py", "#!/opt/python9 -u\nx")},
			`the interpreter "/opt/python9" in the first line of "` + dir + `/py" does not exist`},
		"an empty first line": {Spec{Command: file("blank", "#!\n")}, `the first line of "` + dir + `/blank" names no interpreter`},
		"line ends of Windows": {Spec{Command: file("crlf", "#!/bin/sh\r\necho\r\n")},
			`"` + dir + `/crlf" has the line ends of Windows (CRLF)`},
		"and env": {Spec{Command: file("env", "#!/usr/bin/env sh\r\necho\r\n")},
			`"` + dir + `/env" has the line ends of Windows (CRLF)`},
		"and a shell": {Spec{Command: "sh", Args: []string{"-e", "run.sh"}, Dir: filepath.Dir(file("run.sh", "cd /\r\nexit 1\r\n"))},
			`/run.sh" has the line ends of Windows (CRLF)`},
		"no first line": {Spec{Command: file("text", "echo\n")},
			`"` + dir + `/text" is no program: it is not a binary, and does not begin with #! and its interpreter`},
		"empty":           {Spec{Command: file("empty", "")}, `"` + dir + `/empty" is empty`},
		"another machine": {Spec{Command: file("elf", elfFor(foreign))}, `/elf" is a program for `},
		"Windows":         {Spec{Command: file("exe", "MZ\x90")}, `"` + dir + `/exe" is a program for Windows`},
		"macOS":           {Spec{Command: file("mach", "\xcf\xfa\xed\xfe")}, `"` + dir + `/mach" is a program for macOS`},
		"secrets in command": {Spec{Command: "no-such-program sesame-open-please", Secrets: []string{"sesame-open-please"}},
			`the program "no-such-program ***" is not`},
		"no end of other lines": {Spec{Command: "yes"},
			"the program has printed 20000 lines and no message, so it is no MCP server; it printed: y | y"},
		"an echo": {Spec{Command: "cat"}, "the program sends back what it is sent, so it is no MCP server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "and env" {
				if _, err := os.Stat("/usr/bin/env"); err != nil {
					t.Skip(err)
				}
			}
			err := startFailure(t, test.spec)
			if !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), `server "bad" `) {
				t.Errorf("the error is %v\nwant %s", err, test.want)
			}
			if strings.Contains(err.Error(), "which client") {
				t.Errorf("the error speaks of clients: %v", err)
			}
		})
	}
}

func TestErrorOfAChildThatCannotBeStartedIsStillThatOfTheSystem(t *testing.T) {
	t.Parallel()
	if err := startFailure(t, Spec{Command: "/bin/sh", Dir: t.TempDir() + "/gone"}); !errors.Is(err, os.ErrNotExist) ||
		!errors.Is(err, ErrDown) {
		t.Errorf("error %v", err)
	}
}

func TestLastLinesOfAChildAreInTheErrorMaskedAndWithoutEscapes(t *testing.T) {
	t.Parallel()
	script := `printf '\033[31mError: Cannot find module\033[0m x\342\200\256\n    at Module._load (a.js:1:1)\n' >&2; ` +
		`echo "token is sesame-open-please"; sleep 0.1; exit 4`
	err := startFailure(t, Spec{Command: "sh", Args: []string{"-c", script}, Secrets: []string{"sesame-open-please"}})
	text := err.Error()
	for _, want := range []string{"its process ended: exit status 4", "; it printed: ", "Error: Cannot find module x", "token is ***"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if strings.ContainsAny(text, "\x1b\u202e\n") || strings.Contains(text, "Module._load") {
		t.Errorf("the error is %q", text)
	}
	if redacted := instrument.Redacted(err); strings.Contains(redacted, "module") {
		t.Errorf("spans have %q", redacted)
	}
}

func TestClientsAndTheAPIAreToldTheLastLinesOfAChildThatDoesNotStart(t *testing.T) {
	t.Parallel()
	spec := childSpec(t, "exit")
	r := run(t, []Spec{spec}).settled(t)
	const want = "its process ended: exit status 7; it printed: the configuration is wrong"
	if got := r.Server("child").Status().Error; !strings.Contains(got, want) {
		t.Errorf("the status is %q", got)
	}
	_, err := r.link(t, "child", LinkConfig{}).Call(t.Context(), toolCall("echo", ""))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v", err)
	}
}

// What a shared server prints during a call may be about another client.
func TestLastLinesAreNotInTheErrorOfACallWhoseServerCrashes(t *testing.T) {
	t.Parallel()
	c := newEnv(t, childSpec(t, "script")).connect(t, nil)
	_, err := c.Call(t.Context(), toolCall("crash", ""))
	if err == nil || strings.Contains(err.Error(), "about to crash") {
		t.Errorf("error %v", err)
	}
}
