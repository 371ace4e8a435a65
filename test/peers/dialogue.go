package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// dialogue is what a tool asks its client, round by round. A round knows the
// answers to the earlier ones.
type dialogue []func(answers []string) mcp.InputRequestMap

// sampling asks twice at the same time.
func sampling() dialogue {
	return dialogue{func([]string) mcp.InputRequestMap {
		return mcp.InputRequestMap{"x": sample("one"), "y": sample("two")}
	}}
}

// eliciting asks again, about the answer.
func eliciting() dialogue {
	return dialogue{
		func([]string) mcp.InputRequestMap { return mcp.InputRequestMap{"x": elicit("who?")} },
		func(answers []string) mcp.InputRequestMap {
			return mcp.InputRequestMap{"x": elicit("sure, " + answers[0] + "?")}
		},
	}
}

func rooting() dialogue {
	return dialogue{func([]string) mcp.InputRequestMap { return mcp.InputRequestMap{"x": &mcp.ListRootsParams{}} }}
}

func sample(prompt string) *mcp.CreateMessageParams {
	return &mcp.CreateMessageParams{MaxTokens: 9, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: prompt}}}}
}

func elicit(message string) *mcp.ElicitParams {
	return &mcp.ElicitParams{Message: message, RequestedSchema: json.RawMessage(`{"type":"object","properties":{"answer":{"type":"string"}}}`)}
}

// ask asks the next round in the way of the request's era. The result is the
// answers of the client.
func (d dialogue) ask(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if r.ProtocolVersion() >= hubtest.ModernVersion {
		return d.inResults(r)
	}
	var answers []string
	for _, round := range d {
		more, err := inRequests(ctx, r.Session, round(answers))
		if err != nil {
			result := Said(err.Error())
			result.IsError = true
			return result, nil
		}
		answers = append(answers, inOrder(more)...)
	}
	return Said(strings.Join(answers, ", ")), nil
}

// inResults asks as modern servers do: by a result. The requestState has the
// answers to the rounds before.
func (d dialogue) inResults(r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	state := struct {
		Round   int
		Answers []string
	}{}
	if r.Params.RequestState != "" {
		if err := json.Unmarshal([]byte(r.Params.RequestState), &state); err != nil {
			return nil, err
		}
		state.Round++
		state.Answers = append(state.Answers, inOrder(r.Params.InputResponses)...)
	}
	if state.Round == len(d) {
		return Said(strings.Join(state.Answers, ", ")), nil
	}
	next, err := json.Marshal(state)
	return &mcp.CallToolResult{InputRequests: d[state.Round](state.Answers), RequestState: string(next)}, err
}

// inRequests asks as legacy servers do: by requests, all at the same time.
func inRequests(ctx context.Context, client *mcp.ServerSession, questions mcp.InputRequestMap) (mcp.InputResponseMap, error) {
	var mu sync.Mutex
	answers := mcp.InputResponseMap{}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for key, question := range questions {
		group.Go(func() error {
			var answer mcp.InputResponse
			var err error
			switch q := question.(type) {
			case *mcp.CreateMessageParams:
				answer, err = client.CreateMessage(ctx, q)
			case *mcp.ElicitParams:
				answer, err = client.Elicit(ctx, q)
			default:
				answer, err = client.ListRoots(ctx, nil)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[key] = answer
			return err
		})
	}
	return answers, group.Wait()
}

// inOrder writes answers as texts, in the order of the questions' keys.
func inOrder(answers mcp.InputResponseMap) (texts []string) {
	for _, key := range slices.Sorted(maps.Keys(answers)) {
		switch a := answers[key].(type) {
		case *mcp.CreateMessageResult:
			texts = append(texts, TextOf([]mcp.Content{a.Content}))
		case *mcp.CreateMessageWithToolsResult:
			texts = append(texts, TextOf(a.Content))
		case *mcp.ElicitResult:
			texts = append(texts, fmt.Sprint(a.Action, " ", a.Content["answer"]))
		case *mcp.ListRootsResult:
			for _, root := range a.Roots {
				texts = append(texts, root.URI)
			}
		}
	}
	return texts
}

// TextOf joins the texts of a result.
func TextOf(contents []mcp.Content) string {
	var texts []string
	for _, content := range contents {
		if text, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, text.Text)
		}
	}
	return strings.Join(texts, " ")
}
