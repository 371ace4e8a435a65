package observe

import (
	"context"
	"encoding/json"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func TestMessagesThatNobodyFollowsCostNothing(t *testing.T) {
	tel := New(Config{Sessions: session.New(&persist.Memory{}, session.Config{}), Catalog: catalog.New(catalog.Prefix, nil)})
	ctx := trace.ContextWithSpanContext(session.WithID(context.Background(), "s"),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1}, SpanID: [8]byte{1}}))
	op := &Operation{tel: tel, name: "tools/call", target: "one__echo"}
	call := jsonrpc.Message{ID: "1", Method: "tools/call", Params: json.RawMessage(`{"name":"x"}`)}
	answer := jsonrpc.NewResult("1", json.RawMessage(`{}`))
	if n := testing.AllocsPerRun(100, func() {
		tel.Tap.Message(ctx, instrument.In, call, op.AboutRequest())
		op.Respond(ctx, answer)
		tel.Tap.FromServer(ctx, "one", call)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
