package upstream

import (
	"errors"
	"fmt"

	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// The errors of calls that callers of this package distinguish; package transport has more. Each is wrapped in a text
// that names the server.
var (
	ErrDown      = transport.ErrDown      // there is no connection; not sent
	ErrTimeout   = transport.ErrTimeout   // the timeout of the call passed
	ErrLost      = transport.ErrLost      // sent, outcome unknown
	ErrCancelled = transport.ErrCancelled // the caller gave up
)

var (
	// errProbed is why a connection cannot be used: the server exited during, or soon after, the request for its
	// protocol versions.
	errProbed = errors.New("ended when it was asked which protocol versions it speaks")

	// errKeepsEra is why a connection cannot be used: the server speaks both eras, is wanted in the legacy one, and
	// refuses it after the request for its protocol versions.
	errKeepsEra = errors.New("does not initialize after it was asked which protocol versions it speaks")

	// errOtherEra is why a connection is of no use any more: the server answers as servers of the other era do. It may
	// have been replaced by another program.
	errOtherEra = errors.New("does not speak the protocol version any more that it spoke before")

	// errRequestCancelled is the cause of the context of a server request that the server has cancelled.
	errRequestCancelled = errors.New("the server has cancelled its request")
)

// serverError names the server in err.
func serverError(name string, err error) error { return fmt.Errorf("server %q %w", name, err) }
