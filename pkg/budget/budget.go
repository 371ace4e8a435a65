// Package budget limits the bytes that the hub holds for its clients: requests, answers, queues and event logs.
//
//	Budget ── Account (of a session) ── Hold (of a call)
//
// Who wants memory reserves it on an account before it is allocated, and releases it when the memory is given back. An
// account may have half as much as is free. So one account gets a third at most, many that take all they can get share the
// budget, and something is left for everybody else: the more is taken, the less each may have.
//
//	taken by hogs that want all   1     2     4     10    100
//	each of them has              1/3   1/4   1/6   1/12  1/102
//	free                          2/3   1/2   1/3   1/6   1/51
//
// Those are parts of seven eighths of the budget. The last eighth is a reserve for accounts that have little.
//
// The package starts no goroutines. Budgets, accounts and holds may be used concurrently. A nil Budget and a nil Account
// limit nothing.
package budget

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// The reasons why memory is refused. A caller of Reserve asks for them with errors.Is.
var (
	// ErrShare is returned to an account that has as much as it may have.
	ErrShare = errors.New("the session uses more memory of the hub than its share of limits.memory; " +
		"its client must read the answers that wait for it")
	// ErrFull is returned to an account that has little: others use the budget up.
	ErrFull = errors.New("the hub has no memory left (limits.memory); try again later")
)

// The parts of a budget, 1 in so many bytes.
const (
	reservePart = 8   // only for accounts that have little
	littlePart  = 128 // what an account may have to count as one of those; it is not the reason why memory is short
)

// small is the size of a message that a request standing alone may have although its client is over its share: many
// clients can look the same.
const small = 64 << 10

// Budget is a number of bytes that accounts share.
type Budget struct {
	limit   int64
	used    atomic.Int64
	refused refusals
}

// New makes a Budget of that many bytes.
func New(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns the number of bytes that are reserved.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Full reports whether more than the budget is used.
func (b *Budget) Full() bool { return b != nil && b.used.Load() >= b.limit }

// Account makes an account.
func (b *Budget) Account() *Account {
	if b == nil {
		return nil
	}
	return &Account{budget: b}
}

// Account is the use that one client makes of a budget.
type Account struct {
	budget *Budget
	group  *Account // whose share it counts towards, too; nil: none
	used   atomic.Int64
}

// Open makes a, the zero value, an account of b. It is for requests that stand alone: each has an account, and those of
// one client are a group, which may be nil.
func (a *Account) Open(b *Budget, group *Account) { a.budget, a.group = b, group }

// Reserve takes n bytes. It fails with ErrShare or ErrFull, and then takes nothing.
func (a *Account) Reserve(n int64) error {
	if a == nil || a.budget == nil || n <= 0 {
		return nil
	}
	if !a.budget.take(n, func(free int64) bool { return a.fits(n, free) }) {
		return a.budget.refuse(a.used.Load(), n)
	}
	a.used.Add(n)
	if a.group != nil {
		a.group.used.Add(n)
	}
	return nil
}

// take adds n bytes to what is used if fits, which is called with what is free then, allows it. What is refused is not
// visible to others in between.
func (b *Budget) take(n int64, fits func(free int64) bool) bool {
	for {
		used := b.used.Load()
		if !fits(b.limit - used - n) {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// mayUse reports whether an account may use so many bytes if so many are free.
func (b *Budget) mayUse(used, free int64) bool {
	if used > b.limit/littlePart {
		free -= b.limit / reservePart
	}
	return used <= free/2
}

// fits reports whether the account and its group may use n bytes more if so many are free then.
func (a *Account) fits(n, free int64) bool {
	used := a.used.Load() + n
	return a.budget.mayUse(used, free) && (a.group == nil || used <= small || a.budget.mayUse(a.group.used.Load()+n, free))
}

// Force takes n bytes that are used already.
func (a *Account) Force(n int64) {
	if a != nil && a.budget != nil {
		a.used.Add(n)
		a.budget.used.Add(n)
		if a.group != nil {
			a.group.used.Add(n)
		}
	}
}

// Release gives n bytes back.
func (a *Account) Release(n int64) { a.Force(-n) }

// Used returns the number of bytes that the account has.
func (a *Account) Used() int64 {
	if a == nil {
		return 0
	}
	return a.used.Load()
}

// Over reports whether the account has more than it may have.
func (a *Account) Over() bool {
	return a != nil && a.budget != nil && !a.fits(0, a.budget.limit-a.budget.used.Load())
}

// The pauses of Wait. Memory is given back by others as well, so there is nothing to wait for but time.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// Wait waits until the account is not over its share any more, or until done is closed or ctx ends, and then returns
// false.
func (a *Account) Wait(ctx context.Context, done <-chan struct{}) bool {
	for pause := firstPause; a.Over(); pause = min(2*pause, lastPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-done:
			timer.Stop()
			return false
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
	return true
}
