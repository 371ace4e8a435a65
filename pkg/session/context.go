package session

import "context"

type idKey struct{}

// WithID returns a context of work that is done for the session with this id.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// IDFrom returns the id of the session that the work in ctx is done for, "" if it
// is for none. It is the public half, which may be logged.
func IDFrom(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}
