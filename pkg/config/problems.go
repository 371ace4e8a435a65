package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

const maxProblems = 50 // in one error; a file with more of them has most of them from one cause

type position struct{ line, column int }

type problem struct {
	position
	at   string // key path; "" for the document itself
	text string // what is wrong; what was expected. Never a value.
}

// problems collects everything that is wrong with one file.
type problems struct {
	file string
	list []problem
}

func (ps *problems) add(p position, at, text string) {
	ps.list = append(ps.list, problem{p, at, text})
}

// err returns an error with a line for each problem, in the order of the file; nil without problems.
func (ps *problems) err() error {
	slices.SortStableFunc(ps.list, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var errs []error
	for i, p := range ps.list {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("%s: and %d more", ps.file, len(ps.list)-i))
			break
		}
		errs = append(errs, fmt.Errorf("%s:%d:%d: %s", ps.file, p.line, p.column, sentence(p.at, p.text)))
	}
	return errors.Join(errs...)
}

// sentence returns text with its key path before it. A long path is truncated.
func sentence(at, text string) string {
	const longest = 200
	switch {
	case at == "":
		return text
	case len(at) > longest:
		return at[:longest] + "...: " + text
	default:
		return at + ": " + text
	}
}
