package gateway

import (
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// A server may answer a call while a question of it is still with the client.
func TestAQuestionEndsWithTheCallThatItBelongsTo(t *testing.T) {
	r := start(t, setup{})
	m, err := jsonrpc.Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	client := modernClient{identity: upstream.Identity{Capabilities: []byte(`{"roots":{}}`)}}
	c := newMultiRoundCall(r.gateway.core, r.gateway.modern.bridges, r.gateway.modern.pending, &modernRequest{message: m, client: client, ctx: t.Context()})
	c.current = nil // nobody waits for the response
	asked := make(chan error, 1)
	go func() {
		_, err := c.Ask(t.Context(), jsonMessage("roots/list", `{}`))
		asked <- err
	}()
	until(t, "the question waits", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting) == 1
	})
	c.finish(jsonrpc.NewResult("1", []byte(`{}`)), nil)
	if err := <-asked; err == nil {
		t.Error("the question was answered by nobody")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort(errPendingExpired)
}
