package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestParseEventIDAcceptsOnlyIDsOfStreamName(t *testing.T) {
	for _, requests := range [][]jsonrpc.ID{nil, {"1"}, {`"a.b-c\u00e9é"`}, {"-1.5e3"}, {"1", `"x"`, "2"}} {
		name := streamName("ABCDEFGH", 12, requests)
		id, ok := ParseEventID(name + ".34")
		if !ok || id.Stream != name || id.seq != 34 || fmt.Sprint(id.Requests) != fmt.Sprint(requests) {
			t.Errorf("%q: %q %+v %v", requests, name, id, ok)
		}
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("the name %q is not safe in a header", name)
		}
	}
	if name := streamName("ABCDEFGH", 1, []jsonrpc.ID{jsonrpc.ID(`"` + strings.Repeat("x", maxEventRequests) + `"`)}); name != "" {
		t.Errorf("a long id makes the name %q", name)
	}
	for _, bad := range []string{"", ".", "1", "ABCDEFGH", "ABCDEFGH-1", "ABCDEFGH-1.", "ABCDEFGH-1.-1", "ABCDEFGH-1.+1",
		"ABCDEFGH-1.1.1", "abcdefgh-1.1",
		"ABCDEFG-1.1", "ABCDEFGH-x.1", "ABCDEFGH-1.99999999999999999999", "ABCDEFGH-1-.1",
		"ABCDEFGH-1-*.1", "ABCDEFGH-1-bnVsbA.1", "ABCDEFGH-1-e30.1",
		"ABCDEFGH-1-W10.1", "ABCDEFGH-1-W1tdXQ.1", "ABCDEFGH-1-MR.1", "ABCDEFGH-1-" + strings.Repeat("MTEx", 100) + ".1"} {
		if id, ok := ParseEventID(bad); ok {
			t.Errorf("%q was parsed as %+v", bad, id)
		}
	}
}
