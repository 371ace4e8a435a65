package observe

import (
	"fmt"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestCallThatTheHubEndedIsNotTheFaultOfTheServer(t *testing.T) {
	t.Parallel()
	lost := fmt.Errorf("server %q %w", "one", upstream.ErrLost)
	for _, x := range []struct {
		err, cause error
		want       instrument.Fault
	}{
		{lost, nil, instrument.FaultBackend},
		{lost, EndedError{session.IdleTimeout}, instrument.FaultHub},
		{lost, EndedError{session.Shutdown}, instrument.FaultHub},
		{lost, EndedError{session.ClientDelete}, instrument.FaultClient},
		{lost, ErrClientCancelled, instrument.FaultClient},
		{nil, EndedError{session.IdleTimeout}, instrument.FaultNone}, // answered before the end
		{nil, EndedError{session.ClientDelete}, instrument.FaultNone},
	} {
		if got := faultOf(jsonrpc.NewResult("1", nil), x.err, x.cause); got != x.want {
			t.Errorf("%v, %v: fault %s, want %s", x.err, x.cause, got, x.want)
		}
	}
}
