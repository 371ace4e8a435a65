package config

import "strings"

// suggestion returns the known name that an unknown one probably stands for, or else all known names, as the part of an
// error that says what to write instead.
func suggestion(unknown string, known []string) string {
	if name := closest(unknown, known); name != "" {
		return didYouMean(name)
	}
	return "expected one of " + strings.Join(known, ", ")
}

func didYouMean(name string) string { return "did you mean " + name + "?" }

// closest returns the known name that name is a misspelling of, or "".
func closest(name string, known []string) string {
	best, distance := "", 3 // up to two edits are a typing error, three are another word
	if len(name) > 64 {
		return ""
	}
	for _, k := range known {
		if fold(k) == fold(name) {
			return k
		}
		if d := edits(fold(name), fold(k)); d < distance && d < len(name)-1 {
			best, distance = k, d
		}
	}
	return best
}

// fold returns name without the differences between idleTimeout, idle_timeout and idle-timeout.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
