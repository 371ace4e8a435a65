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

// rootsTimeout is how long a client may take to say which roots it has.
const rootsTimeout = 30 * time.Second

// learnRoots asks a client that has declared roots which ones it has, and takes
// its working directory and project from the first, specification 2025-11-25,
// client/roots. It returns at once: the answer comes over another request. With
// again the client is asked even if it was before.
func (cs *clientSession) learnRoots(again bool) {
	declared, err := jsonrpc.Fields(cs.opened.Capabilities, "roots")
	if err != nil || declared[0] == nil {
		return
	}
	listening := cs.log().HasReader()
	cs.mu.Lock()
	needless := (cs.rootsAsked && !again) || cs.askingRoots
	if cs.askingRoots && (again || !cs.rootsAsked) { // the question under way may be too early, or have no stream
		cs.rootsStale = true
	}
	cs.rootsAsked = listening                    // otherwise the next stream brings the question
	cs.askingRoots = cs.askingRoots || !needless // one question at a time, however often they change
	cs.mu.Unlock()
	if needless {
		return
	}
	cs.g.running.Go(func() {
		ctx, cancel := context.WithTimeout(cs.ctx, rootsTimeout)
		defer cancel()
		defer cs.rootsLearned()
		result, err := cs.ask(ctx, jsonrpc.Message{Method: protocol.MethodRootsList}, cs.question)
		if err == nil {
			err = cs.keepRoots(ctx, result)
		}
		if err != nil {
			cs.g.log.DebugContext(ctx, "the client did not say which roots it has", "session", cs.id, "err", instrument.Redacted(err))
		}
	})
}

// rootsLearned asks again if the roots have changed while the client was asked.
func (cs *clientSession) rootsLearned() {
	cs.mu.Lock()
	again := cs.rootsStale
	cs.askingRoots, cs.rootsStale = false, false
	cs.mu.Unlock()
	if again && cs.ctx.Err() == nil {
		cs.learnRoots(true)
	}
}

// keepRoots keeps what the first root says of where the client works.
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
	return cs.g.cfg.Sessions.Update(ctx, cs.id, func(s *session.Session) { s.Cwd, s.Project = clipPath(cwd), clip(project) })
}
