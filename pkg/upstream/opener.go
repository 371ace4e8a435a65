package upstream

// opener is who opened a process or a session at a server. It is a label of metrics.
type opener string

// The openers.
const (
	openedByHub     opener = "hub"     // for itself: lists and pings of a server with isolation: session
	openedShared    opener = "shared"  // by the hub, for all clients
	openedBySession opener = "session" // for a session of a legacy client
	openedByBridge  opener = "bridge"  // for modern clients, which have no session
	openedByProbe   opener = "probe"   // to find out the era of the server, or whether it has forgotten a session
)

func openers() []opener {
	return []opener{openedByHub, openedShared, openedBySession, openedByBridge, openedByProbe}
}
