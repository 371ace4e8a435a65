package real

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/hubtest"
)

// step is something that a pair of client and server does through the hub.
type step string

const (
	connect      step = "connect"
	list         step = "list"
	call         step = "call"
	sampling     step = "sampling"
	elicitation  step = "elicitation"
	roots        step = "roots"
	hubKilled    step = "kill -9 of the hub"
	serverKilled step = "kill -9 of the server"
)

func steps() []step {
	return []step{connect, list, call, sampling, elicitation, roots, hubKilled, serverKilled}
}

// pair is a client and a server, and what they did.
type pair struct {
	client client
	server server
	done   map[step]error // those that the pair does; nil if it worked

	rig       *rig
	behaviour behaviour
	hub       *hubtest.Hub
	running   *running
}

// meet has a client and a server do everything they can.
func meet(t *testing.T, in installed, c client, s server) *pair {
	t.Helper()
	p := &pair{client: c, server: s, done: map[step]error{}, rig: &rig{installed: in}}
	if slices.Contains(c.answers, roots) {
		p.rig.root = makeRoot(t)
	}
	p.behaviour = s.start(t, p.rig)
	addresses := []string{hubtest.FreeAddress(t), hubtest.FreeAddress(t)}
	var origins []string
	if c.origin {
		origins = append(origins, "http://"+addresses[0])
	}
	p.hub = hubtest.StartHub(t, hubtest.Options{Config: configuration(t, p.behaviour.entry, origins...)})
	t.Cleanup(func() { p.stopHub(t) })
	p.awaitServer(t)
	p.running = c.start(t, in)
	p.do(t, addresses)
	p.judge(t)
	return p
}

// do runs the steps in order. Without a connection there are no others.
func (p *pair) do(t *testing.T, addresses []string) {
	t.Helper()
	p.try(t, connect, func() error {
		with := map[string]any{"url": p.hub.URL(), "root": p.rig.rootURI(), "addresses": addresses}
		return p.running.do("connect", with, nil)
	})
	p.try(t, list, p.list)
	p.try(t, call, func() error { return p.call(p.behaviour.call) })
	for _, question := range p.questions() {
		p.try(t, question, func() error { return p.ask(question) })
	}
	p.try(t, hubKilled, func() error {
		p.killHub(t)
		return p.goesOn(1)
	})
	p.try(t, serverKilled, func() error {
		p.killServer(t)
		// The call that finds out that a session is gone may fail.
		return p.goesOn(2)
	})
}

func (p *pair) try(t *testing.T, s step, do func() error) {
	t.Helper()
	if s != connect && p.done[connect] != nil {
		p.done[s] = errors.New("there is no connection")
		return
	}
	p.done[s] = do()
	if p.done[s] != nil {
		t.Logf("%s: %v", s, p.done[s])
	}
}

// questions returns what the server asks and the client can answer.
func (p *pair) questions() (found []step) {
	for _, s := range p.client.answers {
		if _, asks := p.behaviour.asks[s]; asks {
			found = append(found, s)
		}
	}
	return found
}

func (p *pair) list() error {
	var names struct{ Tools, Prompts []string }
	if err := p.running.do("list", nil, &names); err != nil {
		return err
	}
	for _, want := range p.behaviour.lists {
		if !slices.Contains(names.Tools, "real__"+want) {
			return fmt.Errorf("the tool %s is not listed: %v", want, names.Tools)
		}
	}
	for _, want := range p.behaviour.prompts {
		if names.Prompts != nil && !slices.Contains(names.Prompts, "real__"+want) {
			return fmt.Errorf("the prompt %s is not listed: %v", want, names.Prompts)
		}
	}
	return nil
}

func (p *pair) call(c toolCall) error {
	args := c.args
	if args == nil {
		args = map[string]any{}
	}
	var text string
	with := map[string]any{"name": "real__" + c.tool, "arguments": args}
	err := p.running.do("call", with, &text)
	for deadline := time.Now().Add(patience); err != nil && isStarting(err) && time.Now().Before(deadline); {
		err = p.running.do("call", with, &text) // the hub has waited for some seconds
	}
	if err != nil {
		return err
	}
	if !strings.Contains(text, c.want) {
		return fmt.Errorf("%s returned %.300q, want %q", c.tool, text, c.want)
	}
	return nil
}

// isStarting reports whether the hub asks to call again later: on a slow machine a server of the session takes longer
// than a call waits for it.
func isStarting(err error) bool { return strings.Contains(err.Error(), "is still starting") }

// ask calls the tool that asks this.
func (p *pair) ask(question step) error {
	c := p.behaviour.asks[question]
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		if err := p.call(c); err == nil || !c.soon || time.Now().After(deadline) {
			return err
		}
	}
}

// goesOn calls what has to work after something was killed, and repeats it up to
// that number of attempts; then it has the server ask everything again.
func (p *pair) goesOn(attempts int) (err error) {
	for range attempts {
		if err = p.call(p.behaviour.later); err == nil {
			break
		}
	}
	for _, question := range p.questions() {
		if err == nil {
			err = p.ask(question)
		}
	}
	return err
}

// killHub kills the hub and starts it again on the same ports.
func (p *pair) killHub(t *testing.T) {
	t.Helper()
	orphans := newFamily(p.hub.PID())
	t.Cleanup(orphans.kill)
	p.hub.Kill()
	p.hub = p.hub.Restart()
	p.awaitServer(t)
}

// killServer kills the server, and waits until the hub has a new one: processes of
// its own, or a process that listens on the same port.
func (p *pair) killServer(t *testing.T) {
	t.Helper()
	if p.behaviour.restart != nil {
		p.behaviour.restart(t)
		p.awaitServer(t)
		return
	}
	t.Cleanup(newFamily(p.hub.PID()).kill) // a browser, for example
	killed := family(children(p.hub.PID()))
	killed.kill()
	eventually(t, "the hub has started the server again", func() bool {
		return len(killed.left()) == 0 && len(children(p.hub.PID())) > 0
	})
	p.awaitServer(t)
}

// awaitServer waits until the hub has connected to the server.
func (p *pair) awaitServer(t *testing.T) {
	t.Helper()
	eventually(t, "the server is up", func() bool {
		_, body := p.hub.Get("/api/v1/upstreams")
		return strings.Contains(body, `"state": "up"`)
	})
}

// stopHub stops the hub in order, which leaves nothing behind.
func (p *pair) stopHub(t *testing.T) {
	select {
	case <-p.hub.Done():
		return // the test failed while it was dead
	default:
	}
	f := newFamily(p.hub.PID())
	defer f.kill()
	if status := p.hub.Terminate(15 * time.Second); status != 0 {
		t.Errorf("the hub ended with status %d after SIGTERM", status)
	}
	eventually(t, "nothing is left of the servers that the hub started", func() bool { return len(f.left()) == 0 })
}

// judge compares what the pair did with what is known.
func (p *pair) judge(t *testing.T) {
	t.Helper()
	for _, s := range steps() {
		err, tried := p.done[s]
		reason, known := knownReason(p.client.name, p.server.name, s)
		switch {
		case err != nil && !known:
			t.Errorf("%s does not hold: %v", s, err)
		case err == nil && tried && known:
			t.Errorf("%s holds; take it off the list in known_test.go: %s", s, reason)
		}
	}
}
