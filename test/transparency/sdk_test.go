package transparency

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/test/peers"
)

func TestSomebodyElsesServerAnswersThroughTheHubByteForByte(t *testing.T) {
	url := peers.Everything(t)
	hub := hubtest.StartHub(t, hubtest.Options{Config: peers.BareConfig(url)})
	direct, through := hubtest.Connect(t, url), hubtest.Connect(t, hub.URL())
	requests := [][2]string{
		{"tools/list", `{}`}, {"prompts/list", `{}`}, {"resources/list", `{}`}, {"resources/templates/list", `{}`},
		{"resources/read", `{"uri":"test://static-text"}`}, {"resources/read", `{"uri":"test://static-binary"}`},
		{"resources/read", `{"uri":"test://template/123/data"}`}, {"resources/read", `{"uri":"test://nothing-here"}`},
		{"resources/subscribe", `{"uri":"test://watched-resource"}`}, {"resources/unsubscribe", `{"uri":"test://watched-resource"}`},
		{"prompts/get", `{"name":"test_simple_prompt"}`},
		{"prompts/get", `{"name":"test_prompt_with_arguments","arguments":{"arg1":"a","arg2":"b"}}`},
		{"prompts/get", `{"name":"test_prompt_with_embedded_resource","arguments":{"resourceUri":"test://x"}}`},
		{"prompts/get", `{"name":"test_prompt_with_image"}`}, {"prompts/get", `{"name":"no such prompt"}`},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"test_prompt_with_arguments"},"argument":{"name":"arg1","value":"a"}}`},
		{"tools/call", `{"name":"no such tool","arguments":{}}`}, {"tools/call", `{}`},
		{"tools/list", `{"cursor":"junk"}`}, {"logging/setLevel", `{"level":"debug"}`},
	}
	// Every tool but those that ask the client, because this client does not answer.
	var list struct {
		Tools []struct {
			Name        string
			InputSchema struct{ Required []string }
		}
	}
	if err := json.Unmarshal(direct.Request("tools/list", "{}").Result, &list); err != nil || len(list.Tools) < 10 {
		t.Fatalf("%d tools, %v", len(list.Tools), err)
	}
	for _, tool := range list.Tools {
		if tool.Name == "test_reconnection" { // ends its stream without an answer, and this server gives no event ids to resume by
			continue
		}
		if strings.Contains(tool.Name, "sampling") || strings.Contains(tool.Name, "elicitation") ||
			strings.Contains(tool.Name, "input_required") {
			continue
		}
		requests = append(requests, [2]string{"tools/call", `{"name":"` + tool.Name + `","arguments":{},"_meta":{"progressToken":"t"}}`})
	}
	for _, r := range requests {
		want, got := direct.Request(r[0], r[1]), through.Request(r[0], r[1])
		if strings.Contains(r[1], `"test_tool_with_progress"`) {
			continue // answers with the progress token it got, which is the hub's own; its notifications are compared below
		}
		if string(want.Result) != string(got.Result) || string(want.Error) != string(got.Error) {
			t.Errorf("%s %s\n direct: %s %s\n hub:    %s %s", r[0], r[1], want.Result, want.Error, got.Result, got.Error)
		}
	}
	if len(direct.Notifications) == 0 || !slices.Equal(direct.Notifications, through.Notifications) {
		t.Errorf("notifications\n direct: %q\n hub:    %q", direct.Notifications, through.Notifications)
	}
}
