package stream

import "github.com/mcphub-go/mcphub/pkg/budget"

// entrySize is the memory of an entry besides its message, in bytes.
const entrySize = 160

// memory is what the messages of a Log take. Messages that wait count towards the account of the client, and messages
// that were written towards the budget of all logs: they are kept only for the case that a connection breaks, and must
// not be the reason why a call fails.
type memory struct{ waiting, written pool }

// pool is the messages of one kind. The sums follow the entries; an account follows the sums when an operation of the
// log ends.
type pool struct {
	account  *budget.Account
	messages int64
	bytes    int64
	charged  int64 // that the account includes
}

// reserve makes room for one message more.
func (p *pool) reserve(size int64) error {
	if err := p.account.Reserve(size + entrySize); err != nil {
		return err
	}
	p.charged += size + entrySize
	return nil
}

// settle makes the accounts agree with the sums.
func (m *memory) settle() {
	for _, p := range []*pool{&m.waiting, &m.written} {
		if size := p.bytes + p.messages*entrySize; size != p.charged {
			p.account.Force(size - p.charged)
			p.charged = size
		}
	}
}
