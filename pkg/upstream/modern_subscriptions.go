package upstream

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// maxSubscriptions bounds the resources that one connection is subscribed to.
const maxSubscriptions = 10_000

// subscriptionSet are the resources whose updates a modern server shall report, and its answer. Each change of the set
// is a new revision, and the server answers to a revision. It may be used concurrently.
type subscriptionSet struct {
	changed chan struct{} // receives after the set has changed

	mu         sync.Mutex
	uris       map[string]bool
	waiting    map[string]int  // callers that wait for the server's answer
	subscribed map[string]bool // a caller has been answered that it is subscribed
	revision   int

	answered int             // the revision of the server's last answer
	accepted map[string]bool // the URIs of that revision that the server accepted
	refusal  error           // why it refused that revision
	advanced chan struct{}   // closed when answered changes
}

func newSubscriptionSet() *subscriptionSet {
	return &subscriptionSet{changed: make(chan struct{}, 1), revision: 1, advanced: make(chan struct{}),
		uris: map[string]bool{}, waiting: map[string]int{}, subscribed: map[string]bool{}}
}

// add adds uri and returns the revision whose answer the caller has to wait for. The caller must report by done what
// came of it.
func (s *subscriptionSet) add(uri string) (revision int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.uris[uri] {
		if len(s.uris) >= maxSubscriptions {
			return 0, jsonrpc.Errorf(jsonrpc.CodeInternal, "there are %d subscriptions at this server already", maxSubscriptions)
		}
		s.uris[uri] = true
		s.revise()
	}
	s.waiting[uri]++
	return s.revision, nil
}

// done ends the wait of a caller of add. A URI is removed if no caller waits for it and none has been answered that it
// is subscribed: no caller would ever remove it.
func (s *subscriptionSet) done(uri string, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[uri]--; s.waiting[uri] == 0 {
		delete(s.waiting, uri)
	}
	if accepted {
		s.subscribed[uri] = true
	}
	s.prune(uri)
}

// remove removes uri, unless a caller waits for it now.
func (s *subscriptionSet) remove(uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribed, uri)
	s.prune(uri)
}

// prune removes uri if no caller wants it. The caller holds mu.
func (s *subscriptionSet) prune(uri string) {
	if s.uris[uri] && !s.subscribed[uri] && s.waiting[uri] == 0 {
		delete(s.uris, uri)
		s.revise()
	}
}

// revise makes a new revision. The caller holds mu.
func (s *subscriptionSet) revise() {
	s.revision++
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// current returns the current revision and its URIs.
func (s *subscriptionSet) current() (revision int, uris []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision, slices.Sorted(maps.Keys(s.uris))
}

// answer sets the server's answer to a revision: the URIs that it accepted, or why it refused.
func (s *subscriptionSet) answer(revision int, accepted []string, refusal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered, s.refusal, s.accepted = revision, refusal, map[string]bool{}
	for _, uri := range accepted {
		s.accepted[uri] = true
	}
	close(s.advanced)
	s.advanced = make(chan struct{})
}

// acceptedURIs returns the URIs that the server accepted last.
func (s *subscriptionSet) acceptedURIs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.accepted))
}

// wait waits for the server's answer to revision, or a later one. It returns whether the server accepted uri, and why
// it refused.
func (s *subscriptionSet) wait(ctx context.Context, revision int, uri string) (bool, error) {
	for {
		s.mu.Lock()
		answered, accepted, refusal, advanced := s.answered, s.accepted[uri], s.refusal, s.advanced
		s.mu.Unlock()
		if answered >= revision {
			return accepted, refusal
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}
