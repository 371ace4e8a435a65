package stream

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// EpochLength is the length of the random part of event ids, in characters.
const EpochLength = 8

// maxEventRequests is the limit, in bytes, of the request ids in an event id. A stream with longer
// request ids has no event ids.
const maxEventRequests = 128

// EventID is a parsed event id. Its text is visible ASCII:
//
//	<epoch>-<n>.<seq>             of a GET stream
//	<epoch>-<n>-<requests>.<seq>  of a POST stream
//
// The epoch is random and belongs to one Log, so no id is used again in another session or after a restart. requests is
// base64url of the JSON-RPC id, or of a list of them for a batch: with it a hub that no longer has the stream can still
// answer the requests.
type EventID struct {
	Stream   string       // the part before the point; empty: no event id
	Requests []jsonrpc.ID // of a POST stream
	seq      int64        // 0: the event without message that begins a stream
}

// Kind returns the kind of the stream.
func (id EventID) Kind() string {
	if len(id.Requests) == 0 {
		return KindGet
	}
	return KindPost
}

// streamName returns the name of the nth stream of an epoch, or an empty string if the ids of the
// requests are too long.
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

// ParseEventID parses a Last-Event-ID. Its fields are not trustworthy: it may be of another session,
// or invented.
func ParseEventID(s string) (EventID, bool) {
	stream, last, ok := strings.Cut(s, ".")
	seq, err := strconv.ParseUint(last, 10, 63)
	parts := strings.SplitN(stream, "-", 3)
	if !ok || err != nil || len(parts) < 2 || !isEpoch(parts[0]) {
		return EventID{}, false
	}
	if _, err := strconv.ParseUint(parts[1], 10, 64); err != nil {
		return EventID{}, false
	}
	id := EventID{Stream: stream, seq: int64(seq)}
	if len(parts) == 2 {
		return id, true
	}
	id.Requests, ok = parseRequests(parts[2])
	return id, ok
}

// isEpoch reports whether s has the form of an epoch.
func isEpoch(s string) bool {
	return len(s) == EpochLength && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// parseRequests parses the requests of an event id.
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
