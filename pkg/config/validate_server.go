package config

import (
	"maps"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

func (s *Server) check(at string, fs *findings) {
	if !serverName.MatchString(s.Name) || strings.Contains(s.Name, "__") {
		fs.key(at, "not a name for a server; expected 1 to 32 letters, digits, _ and -, first a letter or digit, no __")
	}
	switch {
	case s.Command == "" && s.URL == "":
		fs.key(at, "has neither command nor url; expected one of them")
	case s.Command != "" && s.URL != "":
		fs.key(at, "has both command and url; expected one of them")
	case s.Command != "":
		s.checkChild(at, fs)
	default:
		s.checkEndpoint(at, fs)
	}
	fs.value(join(at, "isolation"), oneOf(s.Isolation, anIsolation, "session", "shared"))
	fs.value(join(at, "era"), oneOf(s.Era, anEra, "auto", "legacy", "modern"))
	fs.value(join(at, "bridge"), oneOf(s.Bridge, aBridge, "principal", "request", "shared"))
	fs.value(join(at, "connectTimeout"), positive(s.ConnectTimeout, aDuration))
	fs.value(join(at, "callTimeout"), positive(s.CallTimeout, aDuration))
	fs.value(join(at, "type"), s.checkType())
	s.checkEnv(join(at, "env"), fs)
	s.checkHeaders(join(at, "headers"), fs)
}

func (s *Server) checkChild(at string, fs *findings) {
	fs.value(join(at, "command"), checkNUL(s.Command))
	for i, arg := range s.Args {
		fs.value(index(join(at, "args"), i), checkNUL(arg))
	}
	fs.value(join(at, "cwd"), checkDir(s.Cwd))
	if len(s.Headers) > 0 {
		fs.key(join(at, "headers"), "a command takes no headers; expected env, or a url")
	}
}

func (s *Server) checkEndpoint(at string, fs *findings) {
	fs.value(join(at, "url"), checkURL(s.URL))
	for _, child := range []struct {
		key string
		set bool
	}{{"args", len(s.Args) > 0}, {"env", len(s.Env) > 0}, {"cwd", s.Cwd != ""}} {
		if child.set {
			fs.key(join(at, child.key), "a url takes no "+child.key+"; expected a command")
		}
	}
}

func (s *Server) checkType() string {
	switch s.Type {
	case "":
	case "stdio":
		if s.Command == "" && s.URL != "" {
			return "stdio does not fit a url; expected http, streamable-http or sse"
		}
	case "http", "streamable-http", "sse":
		if s.URL == "" && s.Command != "" {
			return "an HTTP type does not fit a command; expected stdio"
		}
	default:
		return "unknown type; expected " + aType
	}
	return ""
}

func (s *Server) checkEnv(at string, fs *findings) {
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if !envName(name) {
			fs.entry(at, name, true, "not a name for a variable; expected no space, no = and no control character")
		}
		if strings.ContainsAny(s.Env[name].Reveal(), "\r\n\x00") {
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

// reservedHeaders belong to one connection, or are the hub's own.
var reservedHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Host", "Content-Type", "Content-Length", "Accept", "Last-Event-Id", "Traceparent", "Tracestate",
	"Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name",
}

func (s *Server) checkHeaders(at string, fs *findings) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !headerName(name):
			fs.entry(at, name, true, "not a name for a header; expected letters, digits and -")
		case slices.Contains(reservedHeaders, canonical):
			fs.entry(at, name, true, "the hub sets this header itself; expected another")
		case seen[canonical]:
			fs.entry(at, name, true, "this header is given twice; upper and lower case are the same")
		}
		seen[canonical] = true
		if !headerValue(s.Headers[name].Reveal()) {
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
