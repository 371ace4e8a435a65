package budget

import "hash/maphash"

// groupCount is the number of groups of Groups. Two clients share one with a probability of 1 in groupCount.
const groupCount = 1024

// Groups are accounts for clients that come without a session, in bounded memory: a client is given one of them by its
// key. The zero value is of no budget.
type Groups struct {
	seed     maphash.Seed
	accounts []Account
}

// NewGroups makes the groups of b.
func NewGroups(b *Budget) *Groups {
	if b == nil {
		return nil
	}
	g := &Groups{seed: maphash.MakeSeed(), accounts: make([]Account, groupCount)}
	for i := range g.accounts {
		g.accounts[i].budget = b
	}
	return g
}

// Of returns the account of the client with that key. Nil groups have none.
func (g *Groups) Of(key string) *Account {
	if g == nil {
		return nil
	}
	return &g.accounts[maphash.String(g.seed, key)%groupCount]
}
