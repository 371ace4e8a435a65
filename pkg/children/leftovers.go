package children

import (
	"context"
	"os"
	"syscall"
	"time"
)

// How long the processes of an earlier hub may take to end.
const (
	termGrace = 2 * time.Second // after SIGTERM
	killGrace = time.Second     // after SIGKILL
	pollPause = 20 * time.Millisecond
)

// EndLeftovers ends the process groups that an earlier hub has left, all at the same time, and removes their records.
// It takes a few seconds at most. It must be called before children are started, whose records would be taken for old
// ones.
func (l *Ledger) EndLeftovers(ctx context.Context) {
	if !l.keeps {
		return
	}
	old, err := l.records.all()
	if err != nil {
		l.log.WarnContext(ctx, "the records of the child processes of an earlier hub could not be read", "err", err)
		return
	}
	left := l.proved(ctx, old)
	for _, step := range []struct {
		signal syscall.Signal
		grace  time.Duration
	}{{syscall.SIGTERM, termGrace}, {syscall.SIGKILL, killGrace}} {
		for _, r := range left {
			_ = syscall.Kill(-r.PID, step.signal)
		}
		left = l.await(ctx, left, step.grace)
	}
	survivors := map[int]bool{}
	for _, r := range left {
		survivors[r.PID] = true
		l.metrics.leftovers[survived].Inc()
		l.log.WarnContext(ctx, "processes that an earlier hub has left do not end", "upstream", r.Server,
			"process_group", r.PID)
	}
	for _, r := range old {
		if !survivors[r.PID] { // otherwise the next start tries again
			_ = l.records.remove(r.PID)
		}
	}
}

// proved returns those of the records whose process groups exist and are proved to be meant. It logs and counts what it
// finds.
func (l *Ledger) proved(ctx context.Context, old []record) []record {
	if len(old) == 0 {
		return nil
	}
	groups, err := l.system.groups()
	if err != nil {
		l.log.WarnContext(ctx, "the processes that run are not known; those of an earlier hub may be left", "err", err)
		return nil
	}
	var list []record
	for _, r := range old {
		members := groups[r.PID]
		switch {
		case len(members) == 0 || r.BootID != l.system.bootID || r.Namespace != l.system.namespace:
			// The machine or the container is another one, or nothing is left.
		case l.isOf(r, members):
			l.metrics.leftovers[ended].Inc()
			l.log.InfoContext(ctx, "ending the processes that an earlier hub has left", "upstream", r.Server,
				"process_group", r.PID, "processes", len(members))
			list = append(list, r)
		default:
			l.metrics.leftovers[notProved].Inc()
			l.log.WarnContext(ctx, "a process group may be left of an earlier hub; it is not ended, because its number may "+
				"have been used again", "upstream", r.Server, "process_group", r.PID, "processes", len(members))
		}
	}
	return list
}

// isOf reports whether the members of a process group are proved to be those of the record. One is enough: as long as
// a group has a member, its number is not used for another one.
func (l *Ledger) isOf(r record, members []process) bool {
	if r.PID == syscall.Getpgrp() {
		return false
	}
	for _, p := range members {
		if p.pid == os.Getpid() {
			return false
		}
		if p.pid == r.PID && p.startTime == r.StartTime || l.system.hasVariable(p.pid, MarkVariable+"="+r.Mark) {
			return true
		}
	}
	return false
}

// await waits until the process groups of the records have ended, and returns those that have not.
func (l *Ledger) await(ctx context.Context, left []record, grace time.Duration) []record {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	poll := time.NewTicker(pollPause)
	defer poll.Stop()
	for len(left) > 0 {
		groups, err := l.system.groups()
		if err != nil {
			return left
		}
		var still []record
		for _, r := range left {
			if members := groups[r.PID]; len(members) > 0 && l.isOf(r, members) {
				still = append(still, r)
			}
		}
		left = still
		select {
		case <-poll.C:
		case <-ctx.Done():
			return left
		}
	}
	return nil
}
