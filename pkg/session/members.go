package session

// knownMembers are the member names of Session's stored form. A test compares
// them with the struct.
var knownMembers = [...]string{
	"sessionId", "clientName", "clientVersion", "protocolVersion", "capabilities", "cwd", "project", "userAgent",
	"ip", "createdAt", "lastAccessedAt", "metadata", "schemaVersion", "tokenHash", "principal", "state", "logLevel",
	"subscriptions", "upstreams",
}
