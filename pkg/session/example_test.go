package session_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

// A server creates a session when a client initializes, leases it for each request
// with the token, and ends it when the client requests that.
func ExampleManager() {
	ctx := context.Background()
	store := new(persist.Memory) // persist.OpenDir for sessions that survive a restart
	sessions := session.New(store, session.Config{IdleTimeout: time.Hour})
	if err := sessions.Restore(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer sessions.Close(ctx) // a real server also calls Run

	s, token, err := sessions.Create(ctx, session.Session{ClientName: "probe", Principal: "alice"})
	if err != nil {
		fmt.Println(err)
		return
	}

	lease, err := sessions.Acquire(ctx, token, "alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("serving", lease.Session().ClientName)
	lease.Release()

	_, err = sessions.Acquire(ctx, token, "mallory")
	fmt.Println("mallory:", err)

	ended, err := sessions.End(ctx, s.ID, session.ClientDelete)
	fmt.Println("ended:", ended, err)
	_, err = sessions.Acquire(ctx, token, "alice")
	fmt.Println("not found:", errors.Is(err, session.ErrNotFound))
	// Output:
	// serving probe
	// mallory: session not found
	// ended: true <nil>
	// not found: true
}
