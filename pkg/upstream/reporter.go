package upstream

import (
	"context"
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// Reporter sends a server the progress of an answer to its question, params of
// notifications/progress with the server's own token. It goes over the
// connection that the question came on, and over no other. It may be used
// concurrently, blocks no longer than a notification takes to send, and fails
// when that connection is closed.
type Reporter func(ctx context.Context, params json.RawMessage) error

type reporterKey struct{}

// ReporterOf returns the Reporter of the question that Sink.Ask got with ctx, or
// with a context that ctx comes from. It returns nil where there is none: a
// modern server hears of no progress.
func ReporterOf(ctx context.Context) Reporter {
	report, _ := ctx.Value(reporterKey{}).(Reporter)
	return report
}

// reported is ctx with a Reporter to c.
func (c *Conn) reported(ctx context.Context) context.Context {
	return context.WithValue(ctx, reporterKey{}, Reporter(func(ctx context.Context, params json.RawMessage) error {
		return c.Notify(ctx, protocol.MethodProgress, params)
	}))
}
