package catalog

import (
	"errors"
	"regexp"
	"strings"

	"github.com/yosida95/uritemplate/v3"
)

// Limits of template matching, so that neither a server nor a client can make a lookup
// expensive. Real templates are far below them.
const (
	maxTemplate  = 1024 // bytes
	maxVariables = 32
	maxURI       = 8192 // bytes
)

// A pattern recognizes the expansions of a URI template (RFC 6570).
//
// It uses the regular expression of the template instead of uritemplate's Match, which
// copies its captures at every step and takes more than a second for 16 variables and
// 4 KiB. The expression accepts slightly more: it checks neither the names in {?q} nor
// the 3 in {id:3}. That is sufficient to find the server, which checks the URI itself.
type pattern struct {
	prefix string // the literal text before the first variable
	re     *regexp.Regexp
}

func newPattern(template string) (*pattern, error) {
	if len(template) > maxTemplate || strings.Count(template, "{")+strings.Count(template, ",") > maxVariables {
		return nil, errors.New("the template is too large")
	}
	t, err := uritemplate.New(template)
	if err != nil {
		return nil, err
	}
	prefix, _, _ := strings.Cut(template, "{")
	return &pattern{prefix: prefix, re: t.Regexp()}, nil
}

func (p *pattern) match(uri string) bool {
	return strings.HasPrefix(uri, p.prefix) && p.re.MatchString(uri)
}
