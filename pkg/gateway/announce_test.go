package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestAStormOfListChangesIsToldAFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Sessions: session.New(&persist.Memory{}, session.Config{}), Pool: upstream.NewPool(nil, upstream.Config{}), Catalog: catalog.New(catalog.Prefix, nil)})
		cs := g.legacy.start(session.Session{ID: "a", ProtocolVersion: "2025-11-25"})
		defer cs.Close(session.Shutdown)
		s := cs.streamLog().NewGet()
		told := func() int {
			synctest.Wait()
			return len(s.Messages())
		}
		for range 1000 {
			cs.announce(jsonrpc.Message{Method: "notifications/tools/list_changed"})
		}
		if n := told(); n != 1 {
			t.Errorf("told %d times at once", n)
		}
		time.Sleep(changePause)
		if n := told(); n != 2 {
			t.Errorf("told %d times after the pause", n)
		}
		time.Sleep(10 * changePause)
		if n := told(); n != 2 {
			t.Errorf("told %d times in the end", n)
		}
		cs.announce(jsonrpc.Message{Method: "notifications/tools/list_changed"})
		if n := told(); n != 3 {
			t.Errorf("a later change is told %d times", n-2)
		}
	})
}
