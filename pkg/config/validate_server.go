package config

import (
	"maps"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

// serversType is the type of mcpServers.
var serversType = valueType[[]Server]{
	name:   "mapping of servers",
	empty:  "{}",
	isZero: func(v []Server) bool { return len(v) == 0 },
	read:   (*decoder).servers,
	check:  checkServers,
}

func checkServers(servers []Server, at string, fs *findings) {
	names := map[string]bool{}
	for i := range servers {
		s := &servers[i]
		at := join(at, s.Name)
		if names[s.Name] {
			fs.key(at, "is the name of two servers; expected names that differ")
		}
		names[s.Name] = true
		s.check(at, fs)
	}
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// check checks the value of each key, and then the rules about several keys.
func (s *Server) check(at string, fs *findings) {
	if !serverName.MatchString(s.Name) || strings.Contains(s.Name, "__") {
		fs.key(at, "is not a name for a server; "+
			"expected 1 to 32 letters, digits, _ and -, first a letter or digit, no __")
	}
	for _, r := range serverKeys {
		if r.OnlyWith == "" || !r.isZero(s) || s.has(r.OnlyWith) {
			r.check(s, join(at, r.Name), fs)
		}
	}
	switch {
	case s.Command == "" && s.URL == "":
		fs.key(at, "has neither command nor url; expected one of them")
	case s.Command != "" && s.URL != "":
		fs.key(at, "has both command and url; expected one of them")
	case s.Command != "":
		s.checkUnused("url", "is not valid with a command; expected env, or a url", at, fs)
		if s.Type == "http" || s.Type == "streamable-http" || s.Type == "sse" {
			fs.value(join(at, "type"), "an HTTP type does not match a command; expected stdio")
		}
	default:
		s.checkUnused("command", "is not valid with a url; expected a command", at, fs)
		if s.Type == "stdio" {
			fs.value(join(at, "type"), "stdio does not match a url; expected http, streamable-http or sse")
		}
	}
}

// has reports whether s has the key command or url.
func (s *Server) has(key string) bool {
	if key == "command" {
		return s.Command != ""
	}
	return s.URL != ""
}

// checkUnused adds a finding for each key that is set but is valid only with the key other, which s does not have.
func (s *Server) checkUnused(other, wrong, at string, fs *findings) {
	for _, r := range serverKeys {
		if r.OnlyWith == other && !r.isZero(s) {
			fs.key(join(at, r.Name), wrong)
		}
	}
}

func checkEnv(env map[string]Secret, at string, fs *findings) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !envName(name) {
			fs.entry(at, name, true, "contains a name that no variable can have; "+
				"expected no space, no = and no control character")
		}
		if strings.ContainsAny(env[name].Reveal(), "\r\n\x00") {
			fs.entry(at, name, false, "contains a line break or NUL; expected one line")
		}
	}
}

func envName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == '=' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// hopHeaders belong to one connection (RFC 9110, section 7.6.1).
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// hubHeaders are set by the hub itself.
var hubHeaders = []string{
	"Host", "Content-Type", "Content-Length", "Accept", "Last-Event-Id", "Traceparent", "Tracestate",
	"Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name",
}

func checkHeaders(headers map[string]Secret, at string, fs *findings) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !headerName(name):
			fs.entry(at, name, true, "contains a name that no header can have; expected letters, digits and -")
		case slices.Contains(hopHeaders, canonical):
			fs.entry(at, name, true, "is a hop-by-hop header; expected another")
		case slices.Contains(hubHeaders, canonical):
			fs.entry(at, name, true, "is a header that the hub sets itself; expected another")
		case seen[canonical]:
			fs.entry(at, name, true, "is given twice; upper and lower case are the same in header names")
		}
		seen[canonical] = true
		if !headerValue(headers[name].Reveal()) {
			fs.entry(at, name, false, "contains a line break or another control character; expected one line")
		}
	}
}

func headerName(s string) bool {
	for _, r := range s {
		if !isWord(r) && !strings.ContainsRune("!#$%&'*+-.^`|~", r) {
			return false
		}
	}
	return s != ""
}

func headerValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
