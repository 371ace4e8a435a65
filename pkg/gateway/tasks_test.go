package gateway

import (
	"fmt"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestTaskOwnersKeepTheFirstServerOfATaskUpToALimit(t *testing.T) {
	t.Parallel()
	pool := upstream.NewPool([]upstream.Spec{absent("one"), absent("two")}, upstream.Config{})
	var x taskOwners
	if got := x.of("0"); got != "" {
		t.Errorf("the owner of an unknown task is %q", got)
	}
	for i := range maxTaskOwners {
		x.add(fmt.Sprint(i), pool.Server("one"))
	}
	x.add("0", pool.Server("two"))
	if got := x.of("0"); got != "one" {
		t.Errorf("the owner is %q, want the first server", got)
	}
	x.add("more", pool.Server("two"))
	if got := x.of("more"); got != "" || len(x.servers) != maxTaskOwners {
		t.Errorf("the owner of a task beyond the limit is %q, %d owners are remembered", got, len(x.servers))
	}
}
