package gateway

import (
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
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
	id     jsonrpc.ID // of the ping under way
	reply  chan jsonrpc.Message
	missed int
	off    bool
}

// beat is called at each heartbeat. It returns a ping to be written, if one is
// due, and false if the client is gone.
func (p *prober) beat() (ping *jsonrpc.Message, alive bool) {
	if p.off {
		return nil, true
	}
	if reply := p.reply; reply != nil {
		p.stop() // an answer is there now, or it is refused
		select {
		case <-reply: // a refusal is an answer too
			p.missed = 0
			p.cs.answersPings.Store(true)
		default:
			if p.off = !p.cs.answersPings.Load(); p.off {
				return nil, true
			}
			if p.missed++; p.missed >= maxMissed {
				return nil, false
			}
		}
	}
	if p.id, p.reply = p.cs.expect("ping"); p.reply == nil {
		return nil, true // too many questions wait; the next beat tries again
	}
	return &jsonrpc.Message{ID: p.id, Method: "ping"}, true
}

// stop forgets the ping under way.
func (p *prober) stop() {
	if p.reply != nil {
		p.cs.unexpect(p.id)
		p.reply = nil
	}
}
