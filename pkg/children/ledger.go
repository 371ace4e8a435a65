package children

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// MarkVariable is the variable with the mark of a hub in the environment of its children.
const MarkVariable = "MCPHUB_CHILD"

// Config is what a Ledger needs besides its directory.
type Config struct {
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: metrics are not exported
}

// A Ledger knows the children of one hub and keeps their process groups on record. It may be used concurrently.
type Ledger struct {
	log     *slog.Logger
	metrics *metrics
	records records
	system  system
	mark    string
	keeps   bool // false: this system cannot say which process is which

	mu       sync.Mutex
	starting int          // processes that are being started, whose ids are not known yet
	alive    map[int]bool // by pid: children that have not been waited for
}

// Open opens the ledger in a directory, which is made if necessary.
func Open(dir string, cfg Config) (*Ledger, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{log: log, metrics: newMetrics(cfg.Registerer), mark: rand.Text(), alive: map[int]bool{}}
	var err error
	if l.records, err = openRecords(dir); err != nil {
		return nil, fmt.Errorf("open the records of child processes: %w", err)
	}
	if l.system, err = thisSystem(); err != nil {
		log.Debug("child processes are not put on record", "err", err)
	}
	l.keeps = err == nil
	return l, nil
}

// Mark returns the variable that children must have in their environment.
func (l *Ledger) Mark() string { return MarkVariable + "=" + l.mark }

// Starting notes that a child of that server is about to be started. The function it returns is called with the id of
// the child, which leads a process group of its own, or with 0 if it could not be started. The function which that one
// returns is called when the child has been waited for and its group has been killed.
func (l *Ledger) Starting(server string) (started func(pid int) (ended func())) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starting++
	return func(pid int) func() {
		l.mu.Lock()
		l.starting--
		if pid > 0 {
			l.alive[pid] = true
		}
		l.mu.Unlock()
		if pid <= 0 {
			return func() {}
		}
		l.record(server, pid)
		return func() { l.ended(pid) }
	}
}

func (l *Ledger) record(server string, pid int) {
	if !l.keeps {
		return
	}
	p, err := l.system.process(pid)
	if err == nil {
		err = l.records.write(record{server, pid, p.startTime, l.system.bootID, l.system.namespace, l.mark})
	}
	if err != nil {
		l.log.Warn("a child process could not be put on record: if the hub is killed, what the child has started may be left",
			"upstream", server, "pid", pid, "err", err)
	}
}

func (l *Ledger) ended(pid int) {
	l.mu.Lock()
	delete(l.alive, pid)
	l.mu.Unlock()
	if l.keeps {
		_ = l.records.remove(pid) // a record that is left is checked at the next start
	}
}

// Close closes the directory. Children must not be started any more.
func (l *Ledger) Close() error {
	if err := l.records.close(); err != nil {
		return errors.Join(errors.New("close the records of child processes"), err)
	}
	return nil
}
