package config

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// What is expected, in the words of an error.
const (
	aText       = "a string; a number, true or false needs quotes"
	anAddress   = "an address host:port such as 127.0.0.1:7788"
	aLevel      = "trace, debug, info, notice, warn or error"
	aFormat     = "auto, tint or json"
	aNaming     = "prefix, bare or conflict"
	aURL        = "an http or https URL such as http://127.0.0.1:9000/mcp"
	anIsolation = "session or shared"
	aParent     = "remote, link or ignore"
	aToolLabel  = "on or off"
	anEra       = "auto, legacy or modern"
	aBridge     = "principal, request or shared"
	aType       = "stdio, http, streamable-http or sse"
	anAtLimit   = "refuse or evict"
	aBound      = "a duration such as 24h, or 0 for none"
	aCountOr0   = "a whole number, or 0 for no limit"
	aDuration   = "a duration such as 30s or 5m"
	aSize       = "a number of bytes such as 4194304, 512KiB, 4MiB or 1GiB"
	aTruth      = "true or false"
	aCount      = "a whole number of at least 1"
)

// text returns the string in n with its variables expanded.
func (d *decoder) text(n *node, at, expected string) (string, bool) {
	if n.kind != kindText {
		d.wrong(n, at, expected)
		return "", false
	}
	s, err := expand(n.text, d.lookup)
	if err != nil {
		d.add(n.position, at, err.Error())
		return "", false
	}
	return s, true
}

// number returns the text of an integer: as it is, or out of a string that
// has it from a variable.
func (d *decoder) number(n *node, at, expected string) (string, bool) {
	switch whole := n.whole.(type) {
	case int64:
		return strconv.FormatInt(whole, 10), true
	case uint64:
		return strconv.FormatUint(whole, 10), true
	}
	return d.text(n, at, expected)
}

// text reads a string that may not be empty: a key without a value is left
// out.
func text(to *string, expected string) reader {
	return func(d *decoder, n *node, at string) {
		switch s, ok := d.text(n, at, expected); {
		case !ok:
		case s == "":
			d.add(n.position, at, "is empty; expected "+expected)
		default:
			*to = s
		}
	}
}

// durationOrNone reads a duration of which 0 means that there is no bound.
func durationOrNone(to *Duration) reader {
	return func(d *decoder, n *node, at string) {
		s, ok := d.number(n, at, aBound)
		if !ok {
			return
		}
		switch v, err := time.ParseDuration(s); {
		case err != nil:
			d.add(n.position, at, "is not a duration; expected "+aBound)
		case v < 0:
			d.add(n.position, at, "is negative; expected "+aBound)
		case v == 0:
			*to = Unlimited
		default:
			*to = v
		}
	}
}

func duration(to *Duration) reader {
	return func(d *decoder, n *node, at string) {
		s, ok := d.text(n, at, aDuration)
		if !ok {
			return
		}
		switch v, err := time.ParseDuration(s); {
		case err != nil:
			d.add(n.position, at, "is not a duration; expected "+aDuration)
		case v <= 0:
			d.add(n.position, at, "is not positive; expected "+aDuration)
		default:
			*to = v
		}
	}
}

func size(to *int64) reader {
	return func(d *decoder, n *node, at string) {
		s, ok := d.number(n, at, aSize)
		if !ok {
			return
		}
		unit := int64(1)
		for suffix, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
			if number, ok := strings.CutSuffix(s, suffix); ok {
				s, unit = number, bytes
			}
		}
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v <= 0 || v > math.MaxInt64/unit {
			d.add(n.position, at, "is not a size; expected "+aSize)
			return
		}
		*to = v * unit
	}
}

func count(to *int) reader { return integer(to, 1, aCount) }

// countOrNone reads a limit of which 0 means that there is none.
func countOrNone(to *int) reader { return integer(to, 0, aCountOr0) }

func integer(to *int, least int64, expected string) reader {
	return func(d *decoder, n *node, at string) {
		if n.kind == kindText && !strings.Contains(n.text, "${") {
			d.wrong(n, at, expected)
			return
		}
		s, ok := d.number(n, at, expected)
		if !ok {
			return
		}
		v, err := strconv.ParseInt(s, 10, 32)
		if err != nil || v < least {
			d.add(n.position, at, "is not in range; expected "+expected)
			return
		}
		*to = int(v)
	}
}

func truth(to *bool) reader {
	return func(d *decoder, n *node, at string) {
		s := n.text
		if n.kind == kindText && strings.Contains(n.text, "${") {
			var ok bool
			if s, ok = d.text(n, at, aTruth); !ok {
				return
			}
		} else if n.kind != kindBool {
			d.wrong(n, at, aTruth)
			return
		}
		switch strings.ToLower(s) {
		case "true":
			*to = true
		case "false":
			*to = false
		default:
			d.add(n.position, at, "is neither; expected "+aTruth)
		}
	}
}
