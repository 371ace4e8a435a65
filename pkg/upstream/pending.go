package upstream

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

const (
	// maxCancelled bounds the cancelled calls that are remembered.
	maxCancelled = 1024

	// cancelledFor is how long a server is taken to be at work for a cancelled call, unless it answers before: long
	// enough for a server that heeds cancellations late, and short enough that the server requests of other clients
	// are not refused for long.
	cancelledFor = time.Minute

	// maxTaskTokens bounds the tasks of one connection whose progress is forwarded.
	maxTaskTokens = 256
)

// call is a request to the server that has no response yet.
type call struct {
	transport.Call
	sink  Sink                   // nil: that of the connection
	trace instrument.MetaCarrier // of the call's span

	// A stream of subscriptions/listen gets what the server acknowledges here. It is not a call of a client.
	acknowledged chan<- json.RawMessage

	// Guarded by pendingCalls.mu:
	number int64 // the id
	origin origin
	token  json.RawMessage // the caller's progress token; nil: it has none
	// progressToken is the token that the server gets instead. It is random, so that a server cannot be made to report
	// progress to another client of the connection.
	progressToken jsonrpc.ID
}

// taskToken is the progress token of a call that was answered with a task.
type taskToken struct {
	progressToken jsonrpc.ID      // that the server uses
	token         json.RawMessage // of the caller
}

// pendingCalls are the calls of one connection that wait for a response, and what is remembered of calls that have
// ended. It may be used concurrently.
type pendingCalls struct {
	mu              sync.Mutex
	lastID          int64
	byID            map[jsonrpc.ID]*call
	byProgressToken map[jsonrpc.ID]*call
	cancelled       map[jsonrpc.ID]time.Time // calls that the server may still be at work for, and until when
	taskTokens      []taskToken              // the oldest first

	// To tell whose an error without id is: the last id before the last message that has no response was sent, and the
	// highest id that was answered.
	oneWay, answered int64
}

func newPendingCalls() pendingCalls {
	return pendingCalls{byID: map[jsonrpc.ID]*call{}, byProgressToken: map[jsonrpc.ID]*call{}, cancelled: map[jsonrpc.ID]time.Time{}}
}

// skipIDs makes the next id one that no earlier process has used in the same session of the server.
func (p *pendingCalls) skipIDs(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID = now.UnixMilli() << 10
}

// add gives cl its id.
func (p *pendingCalls) add(cl *call) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	cl.number = p.lastID
	cl.ID, cl.Reply = jsonrpc.ID(strconv.FormatInt(p.lastID, 10)), make(chan transport.Reply, 1)
	p.byID[cl.ID] = cl
	return cl
}

// remove forgets cl. It reports whether a response arrived that nobody has read.
func (p *pendingCalls) remove(cl *call) (unread bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byID, cl.ID)
	delete(p.byProgressToken, cl.progressToken)
	return len(cl.Reply) > 0
}

// get returns the call with that id, or nil.
func (p *pendingCalls) get(id jsonrpc.ID) *call {
	if id == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byID[id]
}

// deliver hands a response to the call that waits for it. It reports false if there is none, or if it has one already.
// The id may be of another type of JSON than that of the request, which is reported, too.
func (p *pendingCalls) deliver(m jsonrpc.Message) (delivered, otherType bool) {
	p.mu.Lock()
	defer p.mu.Unlock() // until the response is in the channel: remove looks for it there
	cl := p.find(m.ID)
	if cl == nil {
		cl = p.suspect(m)
		return cl != nil && cl.reply(transport.Reply{Message: m}), false
	}
	p.answered = max(p.answered, cl.number)
	return cl.reply(transport.Reply{Message: m}), cl.ID != m.ID
}

// sentOneWay notes that a message is being sent that has no response. Some servers answer it with an error all the same.
func (p *pendingCalls) sentOneWay() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oneWay = p.lastID
}

// suspect returns the call that m must be the response to although it has no id: the server could not read the request,
// JSON-RPC 2.0 section 5, there is one only, and nothing else was sent lately that the server may mean. The caller holds mu.
func (p *pendingCalls) suspect(m jsonrpc.Message) *call {
	if m.Error == nil || hasID(m) || len(p.byID) != 1 || p.oneWay >= p.answered || p.hasCancelled(time.Now()) {
		return nil
	}
	switch jsonrpc.ParseError(m.Error).Code {
	case jsonrpc.CodeParse, jsonrpc.CodeInvalidRequest:
		for _, cl := range p.byID {
			if cl.acknowledged == nil {
				return cl
			}
		}
	}
	return nil
}

// hasID reports whether a response says what it answers.
func hasID(m jsonrpc.Message) bool { return m.ID != "" && m.ID != jsonrpc.Null }

// fail ends the call that has one of ids. It reports false if there is no such call, if there are several, or if it has
// a response already.
func (p *pendingCalls) fail(ids []jsonrpc.ID, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found *call
	for _, id := range ids {
		cl := p.find(id)
		if cl != nil && found != nil && cl != found {
			return false
		}
		found = cmp.Or(cl, found)
	}
	return found != nil && found.reply(transport.Reply{Err: err})
}

// find returns the call with that id, which may be of another type of JSON, or nil. The server is not at work for it
// any more. The caller holds mu.
func (p *pendingCalls) find(id jsonrpc.ID) *call {
	if delete(p.cancelled, id); p.byID[id] == nil {
		id, _ = id.Integer()
		delete(p.cancelled, id)
	}
	return p.byID[id]
}

// reply gives the call r. It reports false if it has a reply already. The caller holds pendingCalls.mu.
func (cl *call) reply(r transport.Reply) bool {
	if len(cl.Reply) > 0 {
		return false
	}
	if r.Err == nil {
		r.Message = cl.Keep(r.Message)
	}
	cl.Reply <- r // it has room for one, and only reply sends
	return true
}

// setOrigin sets for whom cl is made.
func (p *pendingCalls) setOrigin(cl *call, o origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cl.origin = o
}

// setToken keeps the caller's progress token and returns the token that the server gets instead.
func (p *pendingCalls) setToken(cl *call, token json.RawMessage) json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	cl.token, cl.progressToken = append(json.RawMessage(nil), token...), jsonrpc.ID(jsonrpc.String(rand.Text()))
	p.byProgressToken[cl.progressToken] = cl
	return json.RawMessage(cl.progressToken)
}

// keepTaskToken keeps the progress token of a call that was answered with a task: it is valid as long as the task,
// specification 2025-11-25, basic/utilities/tasks. The oldest of too many is dropped.
func (p *pendingCalls) keepTaskToken(cl *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cl.token == nil {
		return
	}
	if len(p.taskTokens) >= maxTaskTokens {
		p.taskTokens = append(p.taskTokens[:0], p.taskTokens[1:]...)
	}
	p.taskTokens = append(p.taskTokens, taskToken{cl.progressToken, cl.token})
}

// withToken returns the call whose progress the server reports with progressToken, and its caller's token. Progress of
// a task belongs to related, the call on whose stream it arrived, which may be nil. The token is nil if progressToken
// is unknown.
func (p *pendingCalls) withToken(progressToken jsonrpc.ID, related *call) (*call, json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cl := p.byProgressToken[progressToken]; cl != nil {
		return cl, cl.token
	}
	for _, t := range p.taskTokens {
		if t.progressToken == progressToken {
			return related, t.token
		}
	}
	return related, nil
}

// originOf returns for whom cl, which may be nil, is made.
func (p *pendingCalls) originOf(cl *call) origin {
	if cl == nil {
		return origin{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return cl.origin
}

// addCancelled notes that the server may be at work for cl for some time still.
func (p *pendingCalls) addCancelled(cl *call, timeout time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cancelled) < maxCancelled { // only whether there are any matters
		p.cancelled[cl.ID] = time.Now().Add(min(cancelledFor, timeout))
	}
}

// only returns the call under way if there is exactly one, else nil. On a shared connection it also returns nil while
// the server may still be at work for a cancelled call: what it sends may be for another client. Requests of the hub
// itself, such as pings and lists that are read again, have no sink, and do not count beside the call of a client.
func (p *pendingCalls) only(shared bool) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared && p.hasCancelled(time.Now()) {
		return nil
	}
	var clients, own []*call
	for _, cl := range p.byID {
		switch {
		case cl.acknowledged != nil || len(cl.Reply) > 0: // a stream of subscriptions/listen, or the response has arrived
		case cl.sink != nil:
			clients = append(clients, cl)
		default:
			own = append(own, cl)
		}
	}
	switch {
	case len(clients) == 1:
		return clients[0]
	case len(clients) == 0 && len(own) == 1:
		return own[0]
	}
	return nil
}

// hasCancelled reports whether the server may still be at work for a cancelled call. The caller holds mu.
func (p *pendingCalls) hasCancelled(now time.Time) bool {
	for id, until := range p.cancelled {
		if now.After(until) {
			delete(p.cancelled, id)
		}
	}
	return len(p.cancelled) > 0
}
