package budget

import (
	"io"
	"sync/atomic"
	"time"
)

// Hold is what one request or message has reserved: Release gives all of it back. The zero value limits nothing; On and
// Alone give it a budget, before its first use.
type Hold struct {
	account *Account
	budget  *Budget // of a hold without account
	bytes   atomic.Int64
}

// On makes the hold reserve on an account.
func (h *Hold) On(a *Account) { h.account = a }

// Alone makes the hold an account of its own, for a message whose session is not known yet.
func (h *Hold) Alone(b *Budget) { h.budget = b }

// Grow reserves n bytes more. It fails as Account.Reserve does. A nil Hold limits nothing.
func (h *Hold) Grow(n int64) error {
	if h == nil || n <= 0 {
		return nil
	}
	if h.budget == nil {
		if err := h.account.Reserve(n); err != nil {
			return err
		}
	} else if !h.budget.take(n, func(free int64) bool { return h.budget.mayUse(h.bytes.Load()+n, free) }) {
		return h.budget.refuse(h.bytes.Load(), n)
	}
	h.bytes.Add(n)
	return nil
}

// Force adds n bytes that are used already.
func (h *Hold) Force(n int64) {
	if h == nil {
		return
	}
	h.bytes.Add(n)
	if h.account != nil {
		h.account.Force(n)
	} else if h.budget != nil {
		h.budget.used.Add(n)
	}
}

// Release gives everything back. The hold can be used again.
func (h *Hold) Release() {
	if h != nil {
		h.Force(-h.bytes.Load())
	}
}

// Like makes the hold reserve where other does. Other may be nil.
func (h *Hold) Like(other *Hold) {
	if other != nil {
		h.account, h.budget = other.account, other.budget
	}
}

// MoveTo makes other, which reserves where h does, hold what h has.
func (h *Hold) MoveTo(other *Hold) {
	n := h.bytes.Swap(0)
	if other != nil {
		other.bytes.Add(n)
	}
}

// GrowWithin is Grow, but waits for memory until the time is over or done is closed.
func (h *Hold) GrowWithin(n int64, limit time.Duration, done <-chan struct{}) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		err := h.Grow(n)
		if err == nil {
			return nil
		}
		pause := time.NewTimer(lastPause / 10)
		select {
		case <-pause.C:
			continue
		case <-deadline.C:
		case <-done:
		}
		pause.Stop()
		return err
	}
}

// freeStep is what ReadAll reads without a reservation, in bytes: a peer gets an answer to a small message in any case.
const freeStep = 16 << 10

// ReadAll reads r to its end. It reserves memory in steps, as the bytes arrive: what a peer announces takes none. Size is
// the announced length, or below 0.
func (h *Hold) ReadAll(r io.Reader, size int64) ([]byte, error) {
	if size < 0 {
		size = 512
	}
	buf := make([]byte, 0, min(size+1, freeStep)) // 1 more, to find the end without growing
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF { //nolint:errorlint // the contract of io.Reader
			return buf, nil
		}
		if err == nil && len(buf) == cap(buf) {
			buf, err = h.enlarge(buf, size)
		}
		if err != nil {
			return nil, err
		}
	}
}

// enlarge returns buf with more room.
func (h *Hold) enlarge(buf []byte, size int64) ([]byte, error) {
	next := 2 * int64(cap(buf))
	if size >= int64(cap(buf)) {
		next = min(next, size+1)
	}
	if next > freeStep {
		reserved := int64(cap(buf))
		if reserved <= freeStep {
			reserved = 0
		}
		if err := h.Grow(next - reserved); err != nil {
			return nil, err
		}
	}
	return append(make([]byte, 0, next), buf...), nil
}
