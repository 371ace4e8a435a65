package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

// relay is a kind of message that the hub has to relay between client and server.
type relay struct {
	name  string
	works func(*testing.T, *leg)
	// The eras do it in different ways, so the hub has to bridge between them.
	differs bool
}

// relays are the columns of the matrix.
func relays() []relay {
	return []relay{
		{"call", callIsAnswered, false},
		{"progress", progressComesFirst, false},
		{"log", logsAreForThoseWhoAsked, true},
		{"cancel", cancellationArrives, true},
		{"sampling", samplingIsAnswered, true},
		{"elicitation", elicitationIsAnswered, true},
		{"roots", rootsAreAnswered, true},
		{"list changed", listChangesAreHeard, true},
		{"subscribe", updatesAreForSubscribers, true},
		{"completion", completionIsAnswered, false},
		{"isError", failuresAreBytes, false},
		{"error", errorsAreTheServers, false},
	}
}

func callIsAnswered(t *testing.T, l *leg) {
	tag := l.tag("call")
	want := l.Name + " " + l.Revision + " " + tag // the hub spoke to the server in its own era
	if got := l.a.Call(l.tool("era"), peers.Arguments{Tag: tag}); got != want {
		t.Errorf("the answer is %q, not %q", got, want)
	}
}

func progressComesFirst(t *testing.T, l *leg) {
	tag, token := l.tag("progress"), "token of "+l.a.Name
	params := &mcp.CallToolParams{Name: l.tool("progress"), Arguments: peers.Arguments{Tag: tag}}
	params.SetProgressToken(token)
	if _, err := l.a.CallTool(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	var came []string
	for _, m := range l.a.Wire.Of(t, tag) {
		var p struct{ ProgressToken string }
		_ = json.Unmarshal(m.Params, &p)
		switch {
		case m.Method == "notifications/progress" && p.ProgressToken == token:
			came = append(came, "progress")
		case m.Result != nil:
			came = append(came, "answer")
		default:
			came = append(came, m.Method+" "+string(m.Params))
		}
	}
	if want := []string{"progress", "progress", "progress", "answer"}; !slices.Equal(came, want) {
		t.Errorf("what came is %q", came)
	}
	want := make([]string, 3)
	for i := range want {
		want[i] = fmt.Sprint(token, " ", i+1, " of 3 ", tag)
	}
	hubtest.Eventually(t, "the client has the progress", func() bool { return slices.Equal(l.a.Notified("progress"), want) })
	if l.b.Notified("progress") != nil {
		t.Error("another client heard of it")
	}
}

func logsAreForThoseWhoAsked(t *testing.T, l *leg) {
	logs := func(c *peers.Client, level mcp.LoggingLevel, tag string) (levels []string) {
		t.Helper()
		params := &mcp.CallToolParams{Name: l.tool("log"), Arguments: peers.Arguments{Tag: tag}}
		switch {
		case !c.Modern():
			if err := c.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: level}); err != nil {
				t.Fatal(err)
			}
		case level != "":
			params.Meta = mcp.Meta{mcp.MetaKeyLogLevel: level}
		}
		if _, err := c.CallTool(t.Context(), params); err != nil {
			t.Fatal(err)
		}
		for _, m := range c.Wire.All() {
			var p struct{ Level, Logger, Data string }
			if m.Method == "notifications/message" && json.Unmarshal(m.Params, &p) == nil && p.Data == tag {
				levels = append(levels, p.Level)
			}
		}
		return levels
	}
	tag := l.tag("log")
	if got := logs(l.a, "warning", tag); !slices.Equal(got, []string{"warning", "error"}) {
		t.Errorf("a client that wants warnings got %q", got)
	}
	hubtest.Eventually(t, "the client has the messages", func() bool {
		return slices.Equal(l.a.Notified("message"), []string{"warning " + tag, "error " + tag})
	})
	other := mcp.LoggingLevel("emergency")
	if l.b.Modern() {
		other = "" // modern clients set the level in each request
	}
	if got := logs(l.b, other, tag+"_b"); got != nil {
		t.Errorf("a client that wants no messages got %q", got)
	}
	if got := logs(l.a, "debug", tag+"_more"); !slices.Equal(got, []string{"debug", "warning", "error"}) {
		t.Errorf("a client that wants everything got %q", got)
	}
}

func cancellationArrives(t *testing.T, l *leg) {
	state := func(tag string) string { return l.b.Call(l.tool("state"), peers.Arguments{Tag: tag}) }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tag, other := l.tag("cancel"), l.tag("other")
	ended, otherEnded := make(chan error, 1), make(chan error, 1)
	wait := func(ctx context.Context, c *peers.Client, tag string, ended chan error) {
		_, err := c.CallTool(ctx, &mcp.CallToolParams{Name: l.tool("wait"), Arguments: peers.Arguments{Tag: tag}})
		ended <- err
	}
	otherCtx, cancelOther := context.WithCancel(t.Context())
	go wait(ctx, l.a, tag, ended)
	go wait(otherCtx, l.b, other, otherEnded)
	hubtest.Eventually(t, "both calls are under way", func() bool { return state(tag) == "waits" && state(other) == "waits" })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call ended with %v", err)
	}
	hubtest.Eventually(t, "the server has cancelled the call", func() bool { return state(tag) == "cancelled" })
	if got := state(other); got != "waits" {
		t.Errorf("the call of another client is %q", got)
	}
	cancelOther()
	<-otherEnded
	hubtest.Eventually(t, "the server has cancelled the other call", func() bool { return state(other) == "cancelled" })
}

func samplingIsAnswered(t *testing.T, l *leg) {
	want := l.a.Name + "'s model: one, " + l.a.Name + "'s model: two"
	if got := l.a.Call(l.tool("sample"), peers.Arguments{}); got != want {
		t.Errorf("the server got %q, not %q", got, want)
	}
}

func elicitationIsAnswered(t *testing.T, l *leg) {
	first := "accept <" + l.a.Name + " to who?>"
	want := first + ", accept <" + l.a.Name + " to sure, " + first + "?>"
	if got := l.a.Call(l.tool("elicit"), peers.Arguments{}); got != want {
		t.Errorf("the server got %q, not %q", got, want)
	}
}

func rootsAreAnswered(t *testing.T, l *leg) {
	if got, want := l.a.Call(l.tool("roots"), peers.Arguments{}), "file:///home/"+l.a.Name; got != want {
		t.Errorf("the server got %q, not %q", got, want)
	}
}

func listChangesAreHeard(t *testing.T, l *leg) {
	l.a.AwaitStream("toolsListChanged")
	before, grown := len(l.a.Notified("tools/list_changed")), l.tag("grown")
	has := func() bool {
		list, err := l.a.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list.Tools, func(tool *mcp.Tool) bool { return tool.Name == l.tool(grown) })
	}
	if has() {
		t.Fatal("the tool is there already")
	}
	l.a.Call(l.tool("grow"), peers.Arguments{Tag: grown})
	hubtest.Eventually(t, "the client has heard that there are other tools",
		func() bool { return len(l.a.Notified("tools/list_changed")) > before })
	if !has() {
		t.Error("the list does not have the new tool")
	}
}

func updatesAreForSubscribers(t *testing.T, l *leg) {
	a, b := peers.Resource(l.Name, "a"), peers.Resource(l.Name, "b")
	for c, uri := range map[*peers.Client]string{l.a: a, l.b: b} {
		if err := c.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
			t.Fatal(err)
		}
		c.AwaitStream(uri)
	}
	l.a.Call(l.tool("touch"), peers.Arguments{URIs: []string{b, a, b}})
	hubtest.Eventually(t, "both clients hear of their resource", func() bool {
		return len(l.a.Notified("resources/updated")) > 0 && len(l.b.Notified("resources/updated")) > 1
	})
	for c, uri := range map[*peers.Client]string{l.a: a, l.b: b} {
		for _, got := range c.Notified("resources/updated") {
			if got != uri {
				t.Errorf("%s subscribed to %s and heard of %s", c.Name, uri, got)
			}
		}
		if err := c.Unsubscribe(t.Context(), &mcp.UnsubscribeParams{URI: uri}); err != nil {
			t.Error(err)
		}
	}
}

func completionIsAnswered(t *testing.T, l *leg) {
	prompt, template := &mcp.CompleteReference{Type: "ref/prompt", Name: l.tool("greet")}, peers.Resource(l.Name, "item/{who}")
	for want, ref := range map[string]*mcp.CompleteReference{"greet": prompt, template: {Type: "ref/resource", URI: template}} {
		result, err := l.a.Complete(t.Context(), &mcp.CompleteParams{Ref: ref, Argument: mcp.CompleteParamsArgument{Name: "who", Value: "A"}})
		if err != nil {
			t.Fatal(err)
		}
		got := result.Completion
		if !slices.Equal(got.Values, []string{"Ada", want}) || got.Total != 17 || !got.HasMore {
			t.Errorf("the completion of %s is %+v", want, got)
		}
	}
}

func failuresAreBytes(t *testing.T, l *leg) {
	tag := l.tag("fail")
	result, err := l.a.CallTool(t.Context(), &mcp.CallToolParams{Name: l.tool("fail"), Arguments: peers.Arguments{Tag: tag}})
	if err != nil || !result.IsError {
		t.Fatalf("the result is %+v, %v", result, err)
	}
	messages := l.a.Wire.Of(t, tag)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(messages[len(messages)-1].Result, &members); err != nil {
		t.Fatal(err)
	}
	content, _ := json.Marshal(json.RawMessage(peers.FailContent)) // as go-sdk's server escapes it
	structured, _ := json.Marshal(json.RawMessage(peers.FailStructured))
	want := map[string]json.RawMessage{"content": content, "structuredContent": structured, "isError": json.RawMessage(`true`)}
	if l.a.Modern() {
		want["resultType"] = json.RawMessage(`"complete"`)
	}
	delete(members, "_meta") // modern servers name themselves there
	if !maps.EqualFunc(members, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Errorf("the result is %s, not %s", members, want)
	}
}

func errorsAreTheServers(t *testing.T, l *leg) {
	_, err := l.a.CallTool(t.Context(), &mcp.CallToolParams{Name: l.tool("refuse")})
	if got, want := errorOf(err), peers.ErrRefused(); got.Code != want.Code || got.Message != want.Message ||
		!bytes.Equal(got.Data, want.Data) {
		t.Errorf("the error is %d %q %s", got.Code, got.Message, got.Data)
	}
	uri := peers.Resource(l.Name, "item/7")
	_, err = l.a.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	code := int64(-32002) // the code of the legacy era
	if l.a.Modern() {
		code = jsonrpc.CodeInvalidParams
	}
	if got := errorOf(err); got.Code != code || got.Message != "no such item" || string(got.Data) != `{"uri":"`+uri+`"}` {
		t.Errorf("the error of a resource that is not there is %d %q %s", got.Code, got.Message, got.Data)
	}
}

// errorOf returns the JSON-RPC error in err, or one with the text of err.
func errorOf(err error) *jsonrpc.Error {
	if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return e
	}
	return &jsonrpc.Error{Message: fmt.Sprint("no error of JSON-RPC: ", err)}
}
