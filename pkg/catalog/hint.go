package catalog

// A Hint says how clients may cache a list (ttlMs and cacheScope of MCP 2026-07-28).
// The zero Hint is that of a server that sends neither: the list must not be cached,
// and is private to the client.
type Hint struct {
	TTLMs  int64 // milliseconds for which the list may be cached; a negative value counts as 0
	Public bool  // the list is the same for all clients
}

// Hints returns for how many milliseconds the merged list of kind k may be cached, and
// whether it is private to the client. Both are the strictest values of all servers
// that list an item of the kind or give a Hint for it. Without such a server they are
// those of the zero Hint.
func (s *Snapshot) Hints(k Kind) (ttlMs int64, private bool) {
	h := s.merged[k].hint
	return h.TTLMs, !h.Public
}

// mergeHints returns the strictest hint of the offers for kind k.
func mergeHints(k Kind, offers map[string]offer) Hint {
	var all Hint
	first := true
	for _, o := range offers {
		h := o.hints[k]
		if len(o.entries[k]) == 0 && h == (Hint{}) {
			continue
		}
		if first {
			all, first = h, false
		}
		all.TTLMs = max(0, min(all.TTLMs, h.TTLMs))
		all.Public = all.Public && h.Public
	}
	return all
}
