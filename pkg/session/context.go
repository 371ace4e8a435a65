package session

import "context"

type idKey struct{}

// WithID returns a context for work on behalf of the session id.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// IDFrom returns the id that WithID put into ctx, "" if there is none. It is the
// public half of the token and may be logged.
func IDFrom(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}
