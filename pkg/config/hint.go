package config

import "strings"

// otherNames are keys that other programs use for what is meant here.
var otherNames = map[string]string{
	"servers":   "mcpServers",
	"timeout":   "callTimeout",
	"transport": "type",
	"cmd":       "command",
	"enabled":   "disabled",
}

// closest returns the known key that key was probably meant to be, or "".
func closest(key string, known []string) string {
	best, distance := "", 3 // two slips are a slip of the finger, three are another word
	if len(key) > 64 {
		return ""
	}
	for _, k := range known {
		if fold(k) == fold(key) || otherNames[fold(key)] == k {
			return k
		}
		if d := edits(fold(key), fold(k)); d < distance && d < len(key)-1 {
			best, distance = k, d
		}
	}
	return best
}

func fold(key string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
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
