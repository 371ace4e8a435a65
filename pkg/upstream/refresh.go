package upstream

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Refresh reads the lists of the server again and waits for it. It fails if the server is not up, or if none of its
// lists can be read; for one list that cannot, there is a Warning.
func (s *Server) Refresh(ctx context.Context) error {
	if err := s.state.upError(); err != nil {
		return err
	}
	return s.supervisor.relists.add(relistOperator).wait(ctx)
}

// RefreshUnknown has the lists of those servers read again that are up and may offer a name which no server has listed.
// It waits until that is done, for unknownPatience at most, or until ctx ends. A server is asked only so often: it returns
// at once if it was asked a short time ago.
func (p *Pool) RefreshUnknown(ctx context.Context, may func(server string) bool) {
	var asked []*relistRequest
	for _, s := range p.servers {
		if may(s.Name()) && s.state.upError() == nil {
			asked = append(asked, s.supervisor.relists.addUnknown(time.Now()))
		}
	}
	for _, r := range asked {
		ctx, cancel := context.WithDeadline(ctx, r.since.Add(unknownPatience))
		_ = r.wait(ctx) // the caller looks the name up again, whatever came of it
		cancel()
	}
}

// maxRefusal bounds the text of a tool that is taken for a refusal of its name, in bytes.
const maxRefusal = 1024

// refusesName reports whether the response to req says that the server does not know the tool, prompt or resource that
// req names: its lists have changed without a word then. Servers say it in many ways, and to be wrong costs a reading of
// the lists.
func refusesName(req Request, response jsonrpc.Message) bool {
	switch req.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead:
	default:
		return false
	}
	if response.Error != nil {
		e := jsonrpc.ParseError(response.Error)
		switch e.Code {
		case jsonrpc.CodeInvalidParams, jsonrpc.CodeMethodNotFound, jsonrpc.CodeInternal, protocol.CodeResourceNotFound, 0:
			return saysUnknown(e.Message)
		}
		return false
	}
	if req.Method != protocol.MethodToolsCall || len(response.Result) > maxRefusal || !protocol.IsToolError(response.Result) {
		return false
	}
	var result struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if json.Unmarshal(response.Result, &result) != nil || len(result.Content) != 1 {
		return false
	}
	text := result.Content[0].Text
	return strings.Contains(text, req.Target) && strings.Contains(strings.ToLower(text), "tool") && saysUnknown(text)
}

// saysUnknown reports whether text says that there is no such thing.
func saysUnknown(text string) bool {
	text = strings.ToLower(text[:min(len(text), maxRefusal)])
	return slices.ContainsFunc([]string{"unknown", "not found", "no such", "not exist", "doesn't exist", "not registered", "no longer"},
		func(words string) bool { return strings.Contains(text, words) })
}
