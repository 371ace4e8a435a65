package gateway

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// parked is the conversations that wait for their clients. What a client gets
// to come back with, the requestState, is sealed with a key of this process:
// the calls that wait do not outlive it either.
type parked struct {
	process string // random; tells states of other processes from forged ones
	aead    cipher.AEAD

	mu     sync.Mutex
	open   map[string]*conversation
	closed bool // nobody will come back
}

// statePrefix begins every requestState of a hub.
const statePrefix = "mcphub1."

func newParked() *parked {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil { // the key has the right length
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &parked{process: rand.Text()[:stream.EpochLength], aead: aead, open: map[string]*conversation{}}
}

// add gives c an id; "" if too many wait.
func (p *parked) add(c *conversation) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= maxParked {
		return ""
	}
	id := rand.Text()
	p.open[id] = c
	return id
}

func (p *parked) remove(c *conversation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c.id)
}

// stop cancels every conversation that waits for its client, and has none wait
// from now on.
func (p *parked) stop() {
	p.mu.Lock()
	p.closed = true
	all := make([]*conversation, 0, len(p.open))
	for _, c := range p.open {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		c.mu.Lock()
		if c.round == nil {
			c.end(errStopping)
		}
		c.mu.Unlock()
	}
}

func (p *parked) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// state is what a requestState holds.
type state struct {
	ID        string `json:"i"`
	Round     int    `json:"r"`
	Expires   int64  `json:"e"` // ms
	Principal string `json:"p"`
	Digest    []byte `json:"d"`
}

// seal makes the requestState of a conversation.
func (p *parked) seal(c *conversation) (string, error) {
	plain, err := json.Marshal(state{c.id, c.rounds, time.Now().Add(parkTimeout).UnixMilli(), c.about.principal, c.digest})
	if err != nil {
		return "", err
	}
	sealed := p.aead.Seal(nil, nil, plain, []byte(p.process)) //nolint:gosec // it makes a random nonce itself
	return statePrefix + p.process + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Why a requestState is of no use.
var (
	errStateForged  = errors.New("requestState is not one that this hub gave for this request")
	errStateExpired = errors.New("requestState has expired; send the request again without it")
	errStateForeign = errors.New("the hub was restarted while the call waited for these answers; whether the server carried it out is not known: " +
		"send the request again without requestState to start over")
)

// find returns the conversation that sealed belongs to, and its round.
func (p *parked) find(sealed, principal string, digest []byte) (*conversation, int, error) {
	process, rest, ok := strings.Cut(strings.TrimPrefix(sealed, statePrefix), ".")
	switch {
	case !ok || len(process) != stream.EpochLength:
		return nil, 0, errStateForged
	case process != p.process:
		return nil, 0, errStateForeign
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return nil, 0, errStateForged
	}
	plain, err := p.aead.Open(nil, nil, box, []byte(p.process))
	var s state
	if err != nil || json.Unmarshal(plain, &s) != nil || s.Principal != principal || !bytes.Equal(s.Digest, digest) {
		return nil, 0, errStateForged
	}
	p.mu.Lock()
	c := p.open[s.ID]
	p.mu.Unlock()
	if c == nil || time.Now().UnixMilli() > s.Expires {
		return nil, 0, errStateExpired
	}
	return c, s.Round, nil
}

// digestOf is over what all requests of a conversation have in common.
func digestOf(m jsonrpc.Message) []byte {
	params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta"}, jsonrpc.Edit{Name: "inputResponses"}, jsonrpc.Edit{Name: "requestState"})
	if err != nil {
		params = m.Params
	}
	value := jsontext.Value(bytes.Clone(params))
	_ = value.Canonicalize() // what has no canonical form stays as it is
	sum := sha256.New()
	_, _ = sum.Write([]byte(m.Method + "\x00")) // never fails
	_, _ = sum.Write(value)
	return sum.Sum(nil)
}
