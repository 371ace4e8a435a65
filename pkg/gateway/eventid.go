package gateway

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// maxEventRequests bounds, in bytes, the ids of requests that an event id
// carries. A stream whose requests have longer ones has no event ids.
const maxEventRequests = 128

// An event id is visible ASCII:
//
//	<epoch>-<n>.<seq>             of a GET stream
//	<epoch>-<n>-<requests>.<seq>  of a POST stream
//
// The epoch is random and one live half of one session has it, so no id comes
// again in another session or after a restart. requests is base64url of the
// JSON-RPC id, of a list of them for a batch: a hub that never saw the stream
// still knows what it was to answer.
type eventID struct {
	stream   string       // all before the point
	requests []jsonrpc.ID // none: a GET stream
	seq      int64        // 0 is the event that begins a stream
}

func (id eventID) kind() string {
	if len(id.requests) == 0 {
		return streamGet
	}
	return streamPost
}

// streamName makes the name of the nth stream of an epoch. It is "" if the
// requests have ids that are too long to be carried.
func streamName(epoch string, n uint64, requests []jsonrpc.ID) string {
	name := epoch + "-" + strconv.FormatUint(n, 10)
	if len(requests) == 0 {
		return name
	}
	raw := []byte(requests[0])
	if len(requests) > 1 {
		raw = []byte{'['}
		for i, id := range requests {
			if i > 0 {
				raw = append(raw, ',')
			}
			raw = append(raw, id...)
		}
		raw = append(raw, ']')
	}
	if len(raw) > maxEventRequests {
		return ""
	}
	return name + "-" + base64.RawURLEncoding.EncodeToString(raw)
}

// parseEventID reads what a client sends as Last-Event-ID. Nothing it says is
// to be trusted: it may be of another session, or made up.
func parseEventID(s string) (eventID, bool) {
	stream, last, ok := strings.Cut(s, ".")
	seq, err := strconv.ParseUint(last, 10, 63)
	parts := strings.SplitN(stream, "-", 3)
	if !ok || err != nil || len(parts) < 2 || !isEpoch(parts[0]) {
		return eventID{}, false
	}
	if _, err := strconv.ParseUint(parts[1], 10, 64); err != nil {
		return eventID{}, false
	}
	id := eventID{stream: stream, seq: int64(seq)}
	if len(parts) == 2 {
		return id, true
	}
	id.requests, ok = parseRequests(parts[2])
	return id, ok
}

func isEpoch(s string) bool {
	return len(s) == epochLength && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func parseRequests(s string) ([]jsonrpc.ID, bool) {
	if len(s) > base64.RawURLEncoding.EncodedLen(maxEventRequests) {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || !json.Valid(raw) {
		return nil, false
	}
	all := []json.RawMessage{raw}
	if raw[0] == '[' {
		if json.Unmarshal(raw, &all) != nil || len(all) == 0 {
			return nil, false
		}
	}
	ids := make([]jsonrpc.ID, len(all))
	for i, id := range all {
		if c := id[0]; c != '"' && c != '-' && (c < '0' || c > '9') {
			return nil, false
		}
		ids[i] = jsonrpc.ID(id)
	}
	return ids, true
}
