// Package children keeps the process groups of a hub's children on record, so that what is left of a hub that was
// killed can be ended at the next start, and reaps strangers if the hub is process 1.
//
//	Starting, Started --> record: pid, start time, boot id --Ended--> removed
//	                             |
//	                             +--EndLeftovers, of the next hub--> SIGTERM, SIGKILL
//
// The kernel kills the children themselves with their hub. What they have started, behind a shell, npx or uvx, is left,
// in the process group of the child. A group is ended only if it is proved to be that of the record: its leader still
// runs and was started at the recorded time, or a member has the mark of the dead hub in its environment. Process ids
// are used again, so the number alone proves nothing.
//
// A Ledger starts no goroutine: that of Run belongs to the caller, who also sees to it that no two hubs use the directory
// of a Ledger.
//
//	leftovers.go                    what an earlier hub has left
//	reaper.go                       strangers, for process 1
//	ledger.go, record.go            the records
//	proc_linux.go, proc_other.go    what the system knows of processes
//	metrics.go
package children
