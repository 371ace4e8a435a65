package config

import "errors"

// A finding is a rule that a Config violates. It has a key path but no line yet.
type finding struct {
	at    string // key path
	shown string // the part of the path that an error may show
	isKey bool   // the key itself is wrong, or something under it is missing
	text  string // what is wrong; what was expected. Never a value.
}

type findings []finding

// value adds what is wrong with the value at a path; "" adds nothing.
func (fs *findings) value(at, wrong string) {
	if wrong != "" {
		*fs = append(*fs, finding{at: at, shown: at, text: wrong})
	}
}

// key adds what is wrong with the key at a path, or what is missing under it; "" adds nothing.
func (fs *findings) key(at, wrong string) {
	if wrong != "" {
		*fs = append(*fs, finding{at: at, shown: at, isKey: true, text: wrong})
	}
}

// entry adds what is wrong with an entry of the mapping at a path whose keys the user chooses; "" adds nothing.
func (fs *findings) entry(at, key string, isKey bool, wrong string) {
	if wrong != "" {
		*fs = append(*fs, finding{at: join(at, key), shown: visible(at, key), isKey: isKey, text: wrong})
	}
}

// err returns an error with a line for each finding, nil without findings.
func (fs findings) err() error {
	var errs []error
	for _, f := range fs {
		errs = append(errs, errors.New(sentence(f.shown, f.text)))
	}
	return errors.Join(errs...)
}

// addFindings adds the findings of the validation, with their lines. It leaves out those that follow from a problem of
// the decoder: a command that could not be read is not missing.
func (d *decoder) addFindings(found findings) {
	known := d.list
	for _, f := range found {
		if !follows(f, known) {
			d.add(d.find(f), f.shown, f.text)
		}
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

// find returns the position of f: that of its key or value, or that of the nearest mapping around it in the file.
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
