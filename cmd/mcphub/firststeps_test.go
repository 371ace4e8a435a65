package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVersionIsPrintedByTheFlagToo(t *testing.T) {
	_, want, _ := mcphub(t, "", "version")
	if status, out, errs := mcphub(t, "", "--version"); status != 0 || out != want || !strings.HasPrefix(out, "mcphub ") {
		t.Errorf("%d %q %q; want %q", status, out, errs, want)
	}
	if strings.Contains(want, "(devel)") { // what Go says of a build without the data of a checkout
		t.Errorf("%q is no version", want)
	}
}

func TestConfigCheckWarnsOfACommandThatDoesNotExist(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	write(t, filepath.Join(dir, "there"), "", 0o700)
	write(t, filepath.Join(dir, "plain"), "", 0o600)
	write(t, filepath.Join(dir, "script"), "#!/nowhere/python\n", 0o700)
	for name, tt := range map[string]struct{ server, want string }{
		"in PATH":            {"{command: there}", ""},
		"the hub itself":     {"{command: mcphub}", ""},
		"by path":            {"{command: " + dir + "/there}", ""},
		"relative to cwd":    {"{command: ./there, cwd: " + dir + "}", ""},
		"of a disabled one":  {"{command: missing, disabled: true}", ""},
		"over HTTP":          {"{url: 'http://127.0.0.1:1/'}", ""},
		"not in PATH":        {"{command: missing}", `the program "missing" is not in the PATH of the hub`},
		"with arguments":     {"{command: there -y}", "its command has arguments in it"},
		"no file":            {"{command: " + dir + "/missing}", "there is no program"},
		"not relative to us": {"{command: ./there}", "there is no program"},
		"a directory":        {"{command: " + dir + "}", `"` + dir + `" is a directory`},
		"not executable":     {"{command: " + dir + "/plain}", `"` + dir + `/plain" is not executable: run chmod +x`},
		"no cwd":             {"{command: ./there, cwd: " + dir + "/missing}", `its cwd "` + dir + `/missing" does not exist`},
		"no interpreter":     {"{command: script}", `the interpreter "/nowhere/python"`},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "mcphub.yaml"), "mcpServers: {a: "+tt.server+"}\n", 0o600)
			status, out, errs := mcphub(t, "", "config", "check", "--config", file)
			first, last := "", file+": ok, 1 server\n"
			if tt.want != "" {
				first, last = file+": warning: mcpServers.a: cannot be started here: "+tt.want, file+": ok, 1 server, 1 warning\n"
			}
			if status != 0 || errs != "" || !strings.HasPrefix(out, first) || !strings.HasSuffix(out, last) || first == "" && out != last {
				t.Errorf("%d %s\n%s\nwant\n%s ...\n%s", status, errs, out, first, last)
			}
		})
	}
}

func TestAHubWithoutServersSaysWhatToWrite(t *testing.T) {
	const lines = "mcpServers:\n      demo: {command: mcphub, args: [demo-server]}\n"
	program := hubtest.HubProgram(t)
	for name, tt := range map[string]struct{ file, want string }{
		"no file":      {"", "0 servers: there is no configuration file; write these two lines to mcphub.yaml here"},
		"empty file":   {"naming: bare\n", "0 servers: the configuration file has none; write two lines such as these"},
		"all disabled": {"mcpServers: {a: {command: x, disabled: true}}\n", "0 servers: all servers in the configuration file are disabled"},
		"a server":     {"mcpServers: {a: {command: mcphub, args: [demo-server]}}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			t.Chdir(t.TempDir())
			if tt.file != "" {
				write(t, "mcphub.yaml", tt.file, 0o600)
			}
			p := hubtest.StartProcess(t, program, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--banner", "always")
			said := func(text string) bool { return strings.Contains(p.Log.String(), text) }
			hubtest.Eventually(t, "the hub says how to connect", func() bool { return said("For your MCP client:") })
			if tt.want != "" {
				hubtest.Eventually(t, "the banner says what to write", func() bool { return said("  "+tt.want) && said(lines) })
				hubtest.Eventually(t, "the log says it too", func() bool {
					return said(`"msg":"`+tt.want) && said(`"line1":"mcpServers:","line2":"  demo: {command: mcphub, args: [demo-server]}"`)
				})
			}
			if p.Terminate(20*time.Second) != 0 || tt.want == "" && said("0 servers") {
				t.Error("it did not end well, or has servers and says that it has none")
			}
		})
	}
	// The two lines are a configuration.
	file := write(t, filepath.Join(t.TempDir(), "mcphub.yaml"), firstLines[0]+"\n"+firstLines[1]+"\n", 0o600)
	status, out, errs := mcphub(t, "", "config", "check", "--config", file)
	if status != 0 || !strings.Contains(out, "ok, 1 server") || errs != "" {
		t.Errorf("%d %s%s", status, out, errs)
	}
}

func TestHelpAndReadmeNameTheVariablesThatTurnTracingOn(t *testing.T) {
	_, help, _ := mcphub(t, "", "serve", "--help")
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"serve --help": help, "the README": string(readme)} {
		for _, variable := range []string{"OTEL_TRACES_EXPORTER=console", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"} {
			if !strings.Contains(text, variable) {
				t.Errorf("%s does not name %s", what, variable)
			}
		}
	}
}

func TestAFirstTraceIsShownWithoutACollector(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "60000") // one batch, at the end: a tick in between would part the two spans
	hub := hubtest.StartHub(t, hubtest.Options{Config: hubtest.DemoConfig})
	hub.AwaitServers(1)
	c := hubtest.Connect(t, hub.URL())
	c.Request("tools/call", `{"name":"demo__echo","arguments":{"text":"x"}}`)
	hub.Terminate(20 * time.Second)
	var tree []string
	for line := range strings.Lines(hub.Log.String()) {
		if strings.HasPrefix(strings.TrimSpace(line), "tools/call ") {
			tree = append(tree, strings.Join(strings.Fields(line)[:3], " "))
		}
	}
	if got := strings.Join(tree, ", "); got != "tools/call demo__echo server, tools/call echo client" {
		t.Errorf("shown is %q", got)
	}
}

func TestTheFirstBuildSaysWhatItDoes(t *testing.T) {
	make, err := exec.LookPath("make")
	if err != nil {
		t.Skip("make is not installed")
	}
	out, err := exec.CommandContext(t.Context(), make, "-C", "../..", "build", "GO=true").CombinedOutput() // builds nothing
	if err != nil || !strings.Contains(string(out), "Compiling bin/mcphub. The first time, this takes two to three minutes") ||
		!strings.Contains(string(out), "Compiled in 0 s.") && !strings.Contains(string(out), "Compiled in 1 s.") {
		t.Errorf("make build says\n%s%v", out, err)
	}
}
