package session

// knownMembers are the member names in the stored form of Session. A test
// compares them with the struct tags.
var knownMembers = [...]string{
	"sessionId", "clientName", "clientVersion", "protocolVersion", "capabilities", "cwd", "project", "userAgent",
	"ip", "createdAt", "lastAccessedAt", "metadata", "schemaVersion", "tokenHash", "principal", "state", "logLevel",
	"subscriptions", "upstreams", "clock",
}
