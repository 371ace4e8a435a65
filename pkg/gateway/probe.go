package gateway

import (
	"fmt"
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// maxMissed is how many pings in a row a client may leave unanswered that has
// answered one before.
const maxMissed = 2

// prober finds out whether anybody reads a stream. TCP takes what is written to
// a connection that is half open for minutes, and a proxy in between for hours;
// an answer to a ping comes from the client alone. A client that has never
// answered one is not asked again, and not taken for dead. It is used by the
// goroutine that writes the stream.
type prober struct {
	cs     *clientSession
	ping   jsonrpc.Message // under way
	reply  chan jsonrpc.Message
	flight instrument.InFlight // of the ping, once it was written
	since  time.Time           // when it was
	missed int
	off    bool
}

// beat implements pinger.
func (p *prober) Beat() (ping []byte, alive bool) {
	if p.off {
		return nil, true
	}
	if p.reply != nil {
		switch answered := p.end(instrument.TimedOut); {
		case answered: // a refusal is an answer too
			p.missed = 0
			p.cs.answersPings.Store(true)
		case !p.cs.answersPings.Load():
			p.off = true
			return nil, true
		default:
			if p.missed++; p.missed >= maxMissed {
				return nil, false
			}
		}
	}
	id, reply := p.cs.expect()
	if p.reply = reply; reply == nil {
		return nil, true // too many requests wait for an answer; the next beat tries again
	}
	p.ping = jsonrpc.Message{ID: id, Method: protocol.MethodPing}
	return p.ping.Encode(), true
}

// sending implements pinger: it counts the ping.
func (p *prober) Sending() {
	p.flight, p.since = p.cs.g.tel.messages.Begin(instrument.Out, p.ping), time.Now()
	p.cs.g.show(p.cs.ctx, instrument.Out, p.ping, instrument.About{})
}

// stop forgets the ping under way.
func (p *prober) stop() {
	if p.reply != nil {
		p.end(instrument.Disconnected)
	}
}

// end reports whether the ping under way was answered by now; if not, it is
// given up, for that reason, and an answer is refused.
func (p *prober) end(why instrument.CancelReason) (answered bool) {
	if answered = !p.cs.unexpect(p.ping.ID); answered {
		pong := <-p.reply
		p.flight.Answer(pong)
		p.cs.g.show(p.cs.ctx, instrument.In, pong, instrument.About{Method: protocol.MethodPing, Since: p.since})
	} else {
		p.flight.Cancel(why)
	}
	p.reply, p.flight = nil, instrument.InFlight{}
	return answered
}

// expect makes an id for a question to the client and the channel that gets
// the answer; nil if too many wait for one. unexpect forgets it.
func (cs *clientSession) expect() (jsonrpc.ID, chan jsonrpc.Message) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.asks) >= maxAsks {
		return "", nil
	}
	cs.asked++
	id := jsonrpc.ID(fmt.Sprintf(`"hub-%s-%d"`, cs.prefix, cs.asked))
	reply := make(chan jsonrpc.Message, 1)
	put(&cs.asks, id, reply)
	return id, reply
}

// unexpect forgets a question. It reports whether that still waited: if not,
// the answer is in its channel, unless it was taken from there.
func (cs *clientSession) unexpect(id jsonrpc.ID) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	waited := cs.asks[id] != nil
	delete(cs.asks, id)
	delete(cs.progress, id)
	return waited
}
