package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"path"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// rootsTimeout is the time for which the hub waits for a client to list its roots.
const rootsTimeout = 30 * time.Second

// learnRoots asks a client that has declared roots for them, in the background, and takes its working
// directory and project from the first, specification 2025-11-25, client/roots. With again it asks even if
// the client was asked before.
func (cs *clientSession) learnRoots(again bool) {
	declared, err := jsonrpc.Fields(cs.opened.Capabilities, "roots")
	if err != nil || declared[0] == nil || !cs.roots.begin(again, cs.streamLog().HasReader()) {
		return
	}
	cs.background.Go(func() {
		ctx, cancel := context.WithTimeout(cs.ctx, rootsTimeout)
		defer cancel()
		defer cs.rootsLearned()
		result, err := cs.request(ctx, jsonrpc.Message{Method: protocol.MethodRootsList}, cs.sendRequest)
		if err == nil {
			err = cs.keepRoots(ctx, result)
		}
		if err != nil {
			cs.log.DebugContext(ctx, "the client did not list its roots", "session", cs.id, "err", instrument.Redacted(err))
		}
	})
}

func (cs *clientSession) rootsLearned() {
	if cs.roots.end() && cs.ctx.Err() == nil {
		cs.learnRoots(true)
	}
}

// keepRoots stores the working directory and project that the first root names.
func (cs *clientSession) keepRoots(ctx context.Context, result json.RawMessage) error {
	var list struct {
		Roots []struct{ URI, Name string } `json:"roots"`
	}
	if err := json.Unmarshal(result, &list); err != nil {
		return err
	}
	if len(list.Roots) == 0 || list.Roots[0].URI == "" {
		return nil
	}
	cwd := list.Roots[0].URI
	segments := cwd
	if u, err := url.Parse(cwd); err == nil && u.Path != "" {
		segments = u.Path
		if u.Scheme == "file" {
			cwd = u.Path
		}
	}
	project := cmp.Or(list.Roots[0].Name, path.Base(segments))
	return cs.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { s.Cwd, s.Project = clipPath(cwd), clip(project) })
}
