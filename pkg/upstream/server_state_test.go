package upstream

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

func TestTextsOfServersInErrorsAreNotLogged(t *testing.T) {
	t.Parallel()
	refusal := jsonrpc.Errorf(-32000, "secret")
	s := &serverState{spec: Spec{Name: "x"}, failure: serverError("x", fmt.Errorf("refused initialize: %w", refusal))}
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{ErrTimeout, "did not answer in time"},
		{refusal, "error -32000"},
		{serverError("x", fmt.Errorf("refused: %w", refusal)), `server "x" refused: error -32000`},
		{fmt.Errorf("again: %w", s.downError()), `again: server "x" is down: refused initialize: error -32000 (next attempt in 0s)`},
	} {
		if got := instrument.Redacted(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
	if err := s.downError(); !strings.Contains(err.Error(), "secret (-32000)") || errors.Is(err, refusal) {
		t.Errorf("clients are told %v", err)
	}
}
