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

func TestManyListChangesBecomeFewNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Sessions: session.New(&persist.Memory{}, session.Config{}), Pool: upstream.NewPool(nil, upstream.Config{}),
			Catalog: catalog.New(catalog.Prefix, nil)})
		cs := g.legacy.start(session.Session{ID: "a", ProtocolVersion: "2025-11-25"})
		defer cs.Close(session.Shutdown)
		s := cs.streamLog().NewGet()
		sent := func() int {
			synctest.Wait()
			return len(s.Messages())
		}
		for range 1000 {
			cs.announce(jsonrpc.Message{Method: "notifications/tools/list_changed"}, changePause)
		}
		if n := sent(); n != 1 {
			t.Errorf("%d notifications at once", n)
		}
		time.Sleep(changePause)
		if n := sent(); n != 2 {
			t.Errorf("%d notifications after the pause", n)
		}
		time.Sleep(10 * changePause)
		if n := sent(); n != 2 {
			t.Errorf("%d notifications in the end", n)
		}
		cs.announce(jsonrpc.Message{Method: "notifications/tools/list_changed"}, changePause)
		if n := sent(); n != 3 {
			t.Errorf("%d notifications of a later change", n-2)
		}
	})
}

func TestListChangesThatGoOnAreSentWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Sessions: session.New(&persist.Memory{}, session.Config{}), Pool: upstream.NewPool(nil, upstream.Config{}),
			Catalog: catalog.New(catalog.Prefix, nil)})
		cs := g.legacy.start(session.Session{ID: "a", ProtocolVersion: "2025-11-25"})
		defer cs.Close(session.Shutdown)
		s := cs.streamLog().NewGet()
		for range 600 { // one minute
			cs.announce(jsonrpc.Message{Method: "notifications/tools/list_changed"}, changePause)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(s.Messages()); n > 35 {
			t.Errorf("%d notifications in a minute", n)
		}
	})
}

func TestListChangesCollectEachMethodByItself(t *testing.T) {
	t.Parallel()
	var x listChanges
	if !x.first("tools") || !x.first("prompts") {
		t.Error("the first change of a list is not sent at once")
	}
	for range 3 {
		if x.first("tools") {
			t.Error("a change is sent although changes are being collected")
		}
	}
	if !x.end("tools") || x.end("prompts") {
		t.Error("end does not report whether a change has come meanwhile")
	}
	if !x.first("tools") || x.end("tools") {
		t.Error("the method is still marked after its collection")
	}
}
