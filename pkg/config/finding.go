package config

// A finding is a rule that a Config breaks, before it is known in which line.
type finding struct {
	at    string // key path
	shown string // the part of it that may be shown
	isKey bool   // the key itself is wrong, or something is missing under it
	text  string // what is wrong; what was expected. Never a value.
}

type findings []finding

// value adds what check said about a value, if anything.
func (fs *findings) value(at, wrong string) {
	if wrong != "" {
		*fs = append(*fs, finding{at: at, shown: at, text: wrong})
	}
}

// key adds what is wrong with a key, or what is missing under it.
func (fs *findings) key(at, wrong string) {
	if wrong != "" {
		*fs = append(*fs, finding{at: at, shown: at, isKey: true, text: wrong})
	}
}

// entry adds what is wrong with an entry under at whose key is free text.
func (fs *findings) entry(at, key string, isKey bool, wrong string) {
	if wrong != "" {
		*fs = append(*fs, finding{at: join(at, key), shown: visible(at, key), isKey: isKey, text: wrong})
	}
}

// addFindings adds what validation found, with the lines it was found on.
// What follows from a problem already known is left out: a command that could
// not be read is not missing.
func (d *decoder) addFindings(found []finding) {
	known := d.list
	for _, f := range found {
		if follows(f, known) {
			continue
		}
		d.add(d.find(f), f.shown, f.text)
	}
}

func follows(f finding, known []problem) bool {
	for _, p := range known {
		if p.at == f.at || parent(p.at) == f.at {
			return true
		}
	}
	return false
}

// find returns where f stands: at its own key or value, or at the nearest
// mapping around it that the file has.
func (d *decoder) find(f finding) position {
	if p, ok := d.values[f.at]; ok && !f.isKey {
		return p
	}
	for at := f.at; at != ""; at = parent(at) {
		if p, ok := d.keys[at]; ok {
			return p
		}
	}
	return position{1, 1}
}
