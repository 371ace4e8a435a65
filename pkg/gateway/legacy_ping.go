package gateway

import (
	"time"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// maxMissed is the number of unanswered pings in a row after which a client counts as gone, if it has
// ever answered one.
const maxMissed = 2

// pinger is the stream.Pinger of one GET stream of a session. TCP accepts writes to a half-open connection for minutes,
// and a proxy for hours; only the client itself answers a ping. A client that has not answered the first ping gets no
// more on this stream, and does not count as gone. The goroutine that writes the stream uses it.
type pinger struct {
	cs       *clientSession
	ping     jsonrpc.Message      // the ping that waits
	response chan jsonrpc.Message // nil: no ping waits
	inFlight instrument.InFlight  // of the ping, after it was written
	since    time.Time            // when it was written
	missed   int                  // unanswered pings in a row
	off      bool                 // no more pings: the client answers none
}

// Beat implements stream.Pinger.
func (p *pinger) Beat() (ping []byte, alive bool) {
	if p.off {
		return nil, true
	}
	if p.response != nil {
		switch answered := p.end(instrument.TimedOut); {
		case answered: // an error is an answer, too
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
	id, response := p.cs.requests.add()
	if p.response = response; response == nil {
		return nil, true // too many requests wait for an answer; the next beat tries again
	}
	p.ping = jsonrpc.Message{ID: id, Method: protocol.MethodPing}
	return p.ping.Encode(), true
}

// Sending implements stream.Pinger: it counts the ping.
func (p *pinger) Sending() {
	p.inFlight, p.since = p.cs.tel.Messages.Begin(instrument.Out, p.ping), time.Now()
	p.cs.tel.Tap.Message(p.cs.ctx, instrument.Out, p.ping, instrument.About{})
}

// stop gives up the waiting ping.
func (p *pinger) stop() {
	if p.response != nil {
		p.end(instrument.Disconnected)
	}
}

// end ends the waiting ping, and reports whether it was answered. If not, it is cancelled for the
// reason why, and a late answer is refused.
func (p *pinger) end(why instrument.CancelReason) (answered bool) {
	if answered = !p.cs.requests.remove(p.ping.ID); answered {
		pong := <-p.response
		p.inFlight.Answer(pong)
		p.cs.tel.Tap.Message(p.cs.ctx, instrument.In, pong, instrument.About{Method: protocol.MethodPing, Since: p.since})
	} else {
		p.inFlight.Cancel(why)
	}
	p.response, p.inFlight = nil, instrument.InFlight{}
	return answered
}
