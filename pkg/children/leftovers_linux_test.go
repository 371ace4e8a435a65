package children

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// rig is the directory of the records, and what the last ledger logged and counted.
type rig struct {
	dir string
	log *strings.Builder
	reg *prometheus.Registry
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return &rig{dir: filepath.Join(t.TempDir(), "data", "children")}
}

// open opens a ledger as a new hub does.
func (r *rig) open(t *testing.T) *Ledger {
	t.Helper()
	r.log, r.reg = &strings.Builder{}, prometheus.NewRegistry()
	l, err := Open(r.dir, Config{Logger: slog.New(slog.NewTextHandler(r.log, nil)), Registerer: r.reg})
	if err != nil {
		t.Fatal(err)
	}
	if !l.keeps {
		t.Skip("/proc is not that of this process namespace")
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// count returns the number of process groups that were counted with that outcome.
func (r *rig) count(t *testing.T, outcome string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "mcphub_leftover_process_groups_total" && labelOf(m) == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no series for %s", outcome)
	return 0
}

func labelOf(m *dto.Metric) string { return m.GetLabel()[0].GetValue() }

func (r *rig) files(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// start starts a command of the shell as a child of the hub of l, in a process group of its own.
func start(t *testing.T, l *Ledger, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), l.Mark()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	started := l.Starting("s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started(cmd.Process.Pid)
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd
}

// members returns how many processes of a group run.
func members(t *testing.T, l *Ledger, group int) int {
	t.Helper()
	groups, err := l.system.groups()
	if err != nil {
		t.Fatal(err)
	}
	return len(groups[group])
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// orphaned starts a process behind a launcher, which is killed as the kernel kills the children of a killed hub.
func orphaned(t *testing.T, l *Ledger, script string) (group int) {
	t.Helper()
	cmd := start(t, l, "("+script+") & wait; true")
	group = cmd.Process.Pid
	await(t, "the launcher has started the process", func() bool { return members(t, l, group) >= 2 })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return group
}

func TestWhatAKilledHubHasLeftIsEndedAtTheNextStart(t *testing.T) {
	for name, script := range map[string]string{
		"that ends at SIGTERM": "exec sleep 60",
		"that ignores SIGTERM": "trap '' TERM; while :; do sleep 60; done",
	} {
		r := newRig(t)
		killed := r.open(t)
		groups := []int{orphaned(t, killed, script), orphaned(t, killed, script)}
		next := r.open(t)
		start := time.Now()
		next.EndLeftovers(t.Context())
		if took := time.Since(start); took > termGrace+killGrace+time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
		for _, group := range groups {
			if n := members(t, next, group); n != 0 {
				t.Errorf("%s: %d processes are left", name, n)
			}
		}
		if n := r.count(t, ended); n != 2 {
			t.Errorf("%s: %v are counted", name, n)
		}
		if files := r.files(t); files != nil {
			t.Errorf("%s: the records are %v", name, files)
		}
		if !strings.Contains(r.log.String(), "upstream=s") {
			t.Errorf("%s: the log is %s", name, r.log)
		}
	}
}

// A hub that is not killed with its children, as on other systems or if the child dropped the signal.
func TestChildOfAKilledHubThatStillRunsIsEnded(t *testing.T) {
	r := newRig(t)
	cmd := start(t, r.open(t), "unset MCPHUB_CHILD; exec sleep 60")
	next := r.open(t)
	next.EndLeftovers(t.Context())
	if n := members(t, next, cmd.Process.Pid); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestProcessWhoseNumberWasUsedAgainIsNotEnded(t *testing.T) {
	for name, change := range map[string]func(*record){
		"the leader was started at another time": func(r *record) { r.StartTime--; r.Mark = "of another hub" },
		"the machine was started again":          func(r *record) { r.BootID = "another" },
		"the container is another one":           func(r *record) { r.Namespace = "pid:[1]" },
	} {
		r := newRig(t)
		l := r.open(t)
		cmd := start(t, l, "exec sleep 60")
		pid := cmd.Process.Pid
		rec, err := l.records.read(strconv.Itoa(pid))
		if err != nil {
			t.Fatal(err)
		}
		change(&rec)
		if err := l.records.write(rec); err != nil {
			t.Fatal(err)
		}
		next := r.open(t)
		next.EndLeftovers(t.Context())
		if n := members(t, next, pid); n != 1 {
			t.Errorf("%s: %d processes run", name, n)
		}
		if files := r.files(t); files != nil {
			t.Errorf("%s: the records are %v", name, files)
		}
		if n := r.count(t, notProved); n != 0 != (rec.Mark == "of another hub") {
			t.Errorf("%s: %v are counted as not proved", name, n)
		}
	}
}

// The leader has ended, so only the environment can prove whose they are.
func TestProcessesInAGroupOfThatNumberWithoutTheMarkAreNotEnded(t *testing.T) {
	r := newRig(t)
	l := r.open(t)
	group := orphaned(t, l, "exec env -i /bin/sleep 60")
	await(t, "the environment is empty", func() bool {
		groups, _ := l.system.groups()
		return len(groups[group]) == 1 && !l.system.hasVariable(groups[group][0].pid, l.Mark())
	})
	next := r.open(t)
	next.EndLeftovers(t.Context())
	if n := members(t, next, group); n != 1 {
		t.Errorf("%d processes run", n)
	}
	if !strings.Contains(r.log.String(), "process_group="+strconv.Itoa(group)) || r.count(t, notProved) != 1 {
		t.Errorf("nobody is told: %s", r.log)
	}
}

func TestHubDoesNotEndItself(t *testing.T) {
	r := newRig(t)
	l := r.open(t)
	self, err := l.system.process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	rec := record{"s", self.group, self.startTime, l.system.bootID, l.system.namespace, l.mark}
	if l.isOf(rec, []process{{pid: self.group, group: self.group, startTime: self.startTime}}) {
		t.Error("its own process group is taken for one of an earlier hub")
	}
}

func TestRecordIsThereWhileTheChildRunsAndOnlyForItsOwner(t *testing.T) {
	r := newRig(t)
	l := r.open(t)
	started := l.Starting("s")
	ended := started(os.Getpid())
	info, err := os.Stat(filepath.Join(r.dir, strconv.Itoa(os.Getpid())))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record: %v, %v", info, err)
	}
	if dir, err := os.Stat(r.dir); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", dir, err)
	}
	ended()
	if files := r.files(t); files != nil {
		t.Errorf("the records are %v", files)
	}
	l.Starting("s")(0)()
	if len(l.alive) != 0 || l.starting != 0 || r.files(t) != nil {
		t.Errorf("a start that failed leaves %v, %d, %v", l.alive, l.starting, r.files(t))
	}
}

func TestDamagedRecordsAreRemovedAndOtherFilesLeftAlone(t *testing.T) {
	r := newRig(t)
	r.open(t)
	outside := filepath.Join(t.TempDir(), "outside")
	for name, text := range map[string]string{"12": `{"pid":`, "13": `{"pid":14,"mark":"x"}`, "15": "", "1": "{}", "notes": "{}", "-5": "{}"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(outside, []byte(`{"pid":16,"mark":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(r.dir, "16")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(r.dir, "17"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	next := r.open(t)
	next.EndLeftovers(t.Context())
	if got := strings.Join(r.files(t), " "); got != "-5 1 notes" {
		t.Errorf("the files are %s", got)
	}
	if dir, err := os.Stat(r.dir); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("the directory is open to others: %v, %v", dir, err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestStatOfAProcessWithAnOddNameIsRead(t *testing.T) {
	text := "42 (a) R (b) S 1 77 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0"
	p, err := parseStat(42, []byte(text))
	if want := (process{pid: 42, group: 77, startTime: 123456}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := parseStat(42, []byte("42 (a) S 1")); err == nil {
		t.Error("a line that is too short is read")
	}
}
