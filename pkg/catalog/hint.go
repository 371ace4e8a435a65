package catalog

// A Hint is what a server says about keeping one of its lists (ttlMs and
// cacheScope of specification 2026-07-28). The zero Hint is that of a server
// that says nothing: do not keep it, and show it to nobody else.
type Hint struct {
	TTLMs  int64 // milliseconds for which the list may be kept; below 0 counts as 0
	Public bool  // the list is the same for everyone
}

// Hints returns for how many milliseconds the merged list of kind k may be kept
// and whether it is for this client alone: the least that any server allows. A
// server counts if it lists anything of the kind or gives a Hint for it. With
// no such server, the answer is that of the zero Hint.
func (s *Snapshot) Hints(k Kind) (ttlMs int64, private bool) {
	h := s.merged[k].hint
	return h.TTLMs, !h.Public
}

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
