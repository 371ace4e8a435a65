package config

import (
	"errors"
	"slices"
	"strings"
)

// Validate returns every rule that c breaks. It changes nothing; Finish is
// what makes a Config complete.
func (c *Config) Validate() error {
	var errs []error
	for _, f := range append(c.check(), c.checkHome()...) {
		errs = append(errs, errors.New(sentence(f.shown, f.text)))
	}
	return errors.Join(errs...)
}

func (c *Config) check() findings {
	var fs findings
	fs.value("listen", checkAddress(c.Listen))
	fs.value("admin.listen", checkAddress(c.Admin.Listen))
	if overlap(c.Listen, c.Admin.Listen) {
		at := "admin.listen"
		if c.Admin.Listen == Default().Admin.Listen {
			at = "listen" // the one that was chosen
		}
		fs.value(at, "listen and admin.listen are the same; expected two addresses")
	}
	fs.value("dataDir", checkDir(c.DataDir))
	c.Log.check(&fs)
	fs.value("tracing.parent", oneOf(c.Tracing.Parent, aParent, "remote", "link", "ignore"))
	fs.value("metrics.toolLabel", oneOf(c.Metrics.ToolLabel, aToolLabel, "on", "off"))
	fs.value("naming", oneOf(c.Naming, aNaming, "prefix", "bare", "conflict"))
	c.checkNumbers(&fs)
	for i, host := range c.AllowedHosts {
		fs.value(index("allowedHosts", i), checkHost(host))
	}
	for i, origin := range c.AllowedOrigins {
		fs.value(index("allowedOrigins", i), checkOrigin(origin))
	}
	names := map[string]bool{}
	for i := range c.Servers {
		at := join("mcpServers", c.Servers[i].Name)
		if names[c.Servers[i].Name] {
			fs.key(at, "two servers have this name")
		}
		names[c.Servers[i].Name] = true
		c.Servers[i].check(at, &fs)
	}
	return fs
}

func (c *Config) checkNumbers(fs *findings) {
	fs.value("metrics.maxToolLabels", positive(c.Metrics.MaxToolLabels, aCount))
	fs.value("sessions.idleTimeout", positive(c.Sessions.IdleTimeout, aDuration))
	fs.value("sessions.cleanupInterval", positive(c.Sessions.CleanupInterval, aDuration))
	fs.value("sessions.flushInterval", positive(c.Sessions.FlushInterval, aDuration))
	fs.value("sessions.touchThrottle", positive(c.Sessions.TouchThrottle, aDuration))
	if c.Sessions.MaxLifetime != Unlimited {
		fs.value("sessions.maxLifetime", positive(c.Sessions.MaxLifetime, aBound))
	}
	fs.value("sessions.maxSessions", positive(c.Sessions.MaxSessions+1, aCountOr0))
	fs.value("sessions.maxSessionsPerClient", positive(c.Sessions.MaxSessionsPerClient+1, aCountOr0))
	fs.value("sessions.atLimit", oneOf(c.Sessions.AtLimit, anAtLimit, "refuse", "evict"))
	fs.value("limits.maxRequestBytes", positive(c.Limits.MaxRequestBytes, aSize))
	fs.value("limits.maxMessageBytes", positive(c.Limits.MaxMessageBytes, aSize))
	fs.value("limits.maxInFlight", positive(c.Limits.MaxInFlight, aCount))
	fs.value("limits.pageSize", positive(c.Limits.PageSize, aCount))
	fs.value("limits.shutdownTimeout", positive(c.Limits.ShutdownTimeout, aDuration))
	fs.value("streams.patience", positive(c.Streams.Patience, aDuration))
	fs.value("streams.resumeEvents", positive(c.Streams.ResumeEvents, aCount))
	fs.value("streams.resumeBytes", positive(c.Streams.ResumeBytes, aSize))
	fs.value("streams.resumeWindow", positive(c.Streams.ResumeWindow, aDuration))
}

// checkHome refuses a ~ that nobody replaced: it would become a directory of
// that name. A file may have it, so Parse does not ask.
func (c *Config) checkHome() findings {
	var fs findings
	unexpanded := func(at, dir string) {
		if dir == "~" || strings.HasPrefix(dir, "~/") {
			fs.value(at, "the ~ was not replaced by the home directory; expected Finish to be called, or a full path")
		}
	}
	unexpanded("dataDir", c.DataDir)
	for _, s := range c.Servers {
		unexpanded(join(join("mcpServers", s.Name), "cwd"), s.Cwd)
	}
	return fs
}

// The functions below return what is wrong with a value, "" for nothing.

func oneOf(s, expected string, allowed ...string) string {
	if slices.Contains(allowed, s) {
		return ""
	}
	return "unknown value; expected " + expected
}

func positive[N int | int64 | Duration](n N, expected string) string {
	if n > 0 {
		return ""
	}
	return "is not positive; expected " + expected
}

func checkLevel(s string) string {
	return oneOf(s, aLevel, "trace", "debug", "info", "notice", "warn", "error")
}

func checkFormat(s string) string { return oneOf(s, aFormat, "auto", "tint", "json") }

func checkNUL(s string) string {
	if strings.ContainsRune(s, 0) {
		return "contains NUL"
	}
	return ""
}

func checkDir(s string) string {
	if strings.HasPrefix(s, "~") && s != "~" && !strings.HasPrefix(s, "~/") {
		return "the home directory of another user is not looked up; expected ~/ or a full path"
	}
	return checkNUL(s)
}
