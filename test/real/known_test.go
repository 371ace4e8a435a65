package real

// exception is something that is known not to hold.
type exception struct {
	client, server string // "" for all
	step           step
	reason         string // shown in docs/compatibility.md
}

func exceptions() []exception {
	return nil
}

// knownReason returns why a step does not hold, if that is known.
func knownReason(client, server string, s step) (reason string, known bool) {
	for _, e := range exceptions() {
		if (e.client == "" || e.client == client) && (e.server == "" || e.server == server) && e.step == s {
			return e.reason, true
		}
	}
	return "", false
}
