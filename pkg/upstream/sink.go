package upstream

import (
	"context"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Sink takes the requests and notifications of a server: those that belong to a call go to the Sink of the call, the
// others to that of the connection.
type Sink interface {
	// Notify takes a notification. It must not block. M is valid only during the call of Notify.
	Notify(m jsonrpc.Message)
	// Ask answers a server request. An error becomes the JSON-RPC error of the response. It returns when ctx ends.
	// ReporterOf(ctx) sends the progress of the answer to the server.
	Ask(ctx context.Context, m jsonrpc.Message) (json.RawMessage, error)
}

// noSink is the Sink of a connection that has none.
type noSink struct{}

func (noSink) Notify(jsonrpc.Message) {}

func (noSink) Ask(_ context.Context, m jsonrpc.Message) (json.RawMessage, error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "no client can answer %s", instrument.MethodLabel(m.Method))
}

type namesNoCallKey struct{}

// NamesNoCall reports whether the server request whose context was passed to Sink.Ask came over the connection of one
// client without saying to which call it belongs. It goes to the Sink of the only call under way, whose stream the client
// reads, but it does not end with that call: the server may have asked for a reason of its own.
func NamesNoCall(ctx context.Context) bool { return ctx.Value(namesNoCallKey{}) != nil }

func withNoCall(ctx context.Context) context.Context {
	return context.WithValue(ctx, namesNoCallKey{}, true)
}

// Reporter sends the progress of the answer to a server request: params of notifications/progress, with the server's
// token. It sends over the connection on which the request arrived. It may be used concurrently, blocks no longer than
// a notification takes to send, and fails when the connection is closed.
type Reporter func(ctx context.Context, params json.RawMessage) error

type reporterKey struct{}

// ReporterOf returns the Reporter of the server request whose context was passed to Sink.Ask. Ctx is that context or
// one derived from it. It returns nil if there is none: modern servers get no progress.
func ReporterOf(ctx context.Context) Reporter {
	report, _ := ctx.Value(reporterKey{}).(Reporter)
	return report
}

func withReporter(ctx context.Context, report Reporter) context.Context {
	return context.WithValue(ctx, reporterKey{}, report)
}
