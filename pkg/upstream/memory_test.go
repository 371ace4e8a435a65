package upstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/budget"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// heldCall is a call whose response needs memory of an account.
func heldCall(a *budget.Account, size string) (Request, *budget.Hold) {
	held := new(budget.Hold)
	held.On(a)
	req := toolCall("long", `{"n":`+size+`}`)
	req.Memory = held
	return req, held
}

func TestAnswersOfASharedServerAreDroppedForOneWhoIsOverHisShareAlone(t *testing.T) {
	t.Parallel()
	memory := budget.New(6 << 20)
	e := newEnv(t, childSpec(t, "script"), func(c *Config) { c.Memory = memory })
	c := e.connect(t, nil)
	hog, other := memory.Account(), memory.Account()
	hog.Force(3 << 20)
	req, _ := heldCall(hog, "200000")
	m, err := c.Call(t.Context(), req)
	if e := jsonrpc.ParseError(m.Error); err != nil || m.Error == nil || !strings.Contains(e.Message, "limits.memory") {
		t.Errorf("%v, %.100s", err, m.Result)
	}
	req, held := heldCall(other, "200000")
	if m, err := c.Call(t.Context(), req); err != nil || m.Error != nil || len(m.Result) < 200_000 {
		t.Errorf("the call of another client: %v %s", err, m.Error)
	}
	if other.Used() < 200_000 {
		t.Errorf("the answer counts for %d bytes", other.Used())
	}
	held.Release()
	if memory.Used() != 3<<20 {
		t.Errorf("%d bytes are used at the end", memory.Used())
	}
}

// What is read is not known to be for anybody yet.
func TestAMessageThatDoesNotFitIntoTheMemoryIsSkipped(t *testing.T) {
	t.Parallel()
	memory := budget.New(1 << 20)
	e := newEnv(t, childSpec(t, "script"), func(c *Config) { c.Memory = memory })
	c := e.connect(t, nil)
	m := tool(t, c, "long", `{"n":3000000}`)
	if e := jsonrpc.ParseError(m.Error); m.Error == nil || !strings.Contains(e.Message, "limits.memory") {
		t.Errorf("the answer is %.100s", m.Result)
	}
	if m := tool(t, c, "echo", ""); m.Error != nil || memory.Used() != 0 {
		t.Errorf("the next call: %s, %d bytes used", m.Error, memory.Used())
	}
}

func TestTheOwnServerOfAClientOverItsShareIsNotRead(t *testing.T) {
	t.Parallel()
	memory := budget.New(6 << 20)
	mine := memory.Account()
	spec := childSpec(t, "script")
	spec.Isolation = PerSession
	link := run(t, []Spec{spec}, func(c *Config) { c.Memory = memory }).settled(t).link(t, "child", LinkConfig{Memory: mine})
	if m, err := link.Call(t.Context(), toolCall("echo", "")); err != nil || m.Error != nil {
		t.Fatalf("%v %s", err, m.Error)
	}
	mine.Force(4 << 20)
	if m, err := link.Call(t.Context(), toolCall("long", `{"n":100}`)); err != nil || m.Error != nil { // the read under way
		t.Fatalf("%v %s", err, m.Error)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if m, err := link.Call(ctx, toolCall("long", `{"n":100}`)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrCancelled) {
		t.Errorf("the server of a client over its share was read: %v %s%s", err, m.Result, m.Error)
	}
	mine.Release(4 << 20)
	hubtest.Eventually(t, "the server is read again", func() bool {
		m, err := link.Call(t.Context(), toolCall("long", `{"n":100}`))
		return err == nil && m.Error == nil
	})
	if memory.Used() != 0 {
		t.Errorf("%d bytes are used at the end", memory.Used())
	}
}
