package upstream

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// minSecret is the least length, in bytes, of a configured value that is masked. Shorter values, such as 1, true or
// info, are common words.
const minSecret = 8

// newMask makes what masks the secrets of s in texts of the server. A header such as "Bearer x" has its secret after a
// space.
func newMask(s Spec) *strings.Replacer {
	secrets := slices.Clone(s.Secrets)
	for _, value := range s.Headers {
		secrets = append(append(secrets, value), strings.Fields(value)...)
	}
	if u, err := url.Parse(s.URL); err == nil {
		for _, values := range u.Query() {
			secrets = append(secrets, values...)
		}
		for pair := range strings.SplitSeq(u.RawQuery, "&") { // encoded, as a server logs a request
			_, value, _ := strings.Cut(pair, "=")
			secrets = append(secrets, value)
		}
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, password, url.QueryEscape(password))
		}
	}
	var all []string
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			all = append(all, written(secret)...)
		}
	}
	// Long ones come first: a Replacer takes the first that fits.
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var pairs []string
	for _, secret := range slices.Compact(all) {
		pairs = append(pairs, secret, "***")
	}
	return strings.NewReplacer(pairs...)
}

// written returns secret as programs write it: as it is, in JSON, and in the query and the path of a URL.
func written(secret string) []string {
	json := string(jsonrpc.String(secret))
	return []string{secret, json[1 : len(json)-1], url.QueryEscape(secret), url.PathEscape(secret)}
}

// masked returns text without the configured secrets of the server.
func (s Spec) masked(text string) string {
	if s.mask == nil {
		return text
	}
	return s.mask.Replace(text)
}

// refusal returns the error of a response as texts of the hub repeat it: it is cut, and secrets are masked.
func (s Spec) refusal(raw json.RawMessage) *jsonrpc.Error {
	e := jsonrpc.ParseError(raw)
	return jsonrpc.Errorf(e.Code, "%.300s", s.masked(e.Message))
}
