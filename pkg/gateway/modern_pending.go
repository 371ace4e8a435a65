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

// maxPendingCalls is the limit of the calls that wait for their clients.
const maxPendingCalls = 1000

// pendingCalls holds the calls that wait for their clients. A client gets a requestState to come back
// with. It is sealed with a key of this process, because the calls do not outlive the process either. Its methods may be
// called concurrently.
type pendingCalls struct {
	process string // random; tells states of other processes from forged ones
	aead    cipher.AEAD

	mu     sync.Mutex
	open   map[string]*multiRoundCall // by id
	closed bool                       // the hub stops
}

// statePrefix is the beginning of every requestState of a hub.
const statePrefix = "mcphub1."

func newPendingCalls() *pendingCalls {
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
	return &pendingCalls{process: rand.Text()[:stream.EpochLength], aead: aead, open: map[string]*multiRoundCall{}}
}

// add adds a call and returns its id, or an empty string if there are too many.
func (p *pendingCalls) add(c *multiRoundCall) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= maxPendingCalls {
		return ""
	}
	id := rand.Text()
	p.open[id] = c
	return id
}

// remove removes the call with that id.
func (p *pendingCalls) remove(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, id)
}

// stop ends every pending call, and lets no call become pending any more.
func (p *pendingCalls) stop() {
	p.mu.Lock()
	p.closed = true
	all := make([]*multiRoundCall, 0, len(p.open))
	for _, c := range p.open {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		c.stop(errStopping)
	}
}

func (p *pendingCalls) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// state is the content of a requestState.
type state struct {
	ID        string `json:"i"`
	Round     int    `json:"r"`
	Expires   int64  `json:"e"` // ms
	Principal string `json:"p"`
	Digest    []byte `json:"d"`
}

// seal makes a requestState.
func (p *pendingCalls) seal(id string, round int, principal string, digest []byte) (string, error) {
	plain, err := json.Marshal(state{id, round, time.Now().Add(pendingTimeout).UnixMilli(), principal, digest})
	if err != nil {
		return "", err
	}
	sealed := p.aead.Seal(nil, nil, plain, []byte(p.process)) //nolint:gosec // this AEAD adds a random nonce
	return statePrefix + p.process + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// The reasons to refuse a requestState.
var (
	errStateForged  = errors.New("requestState is not one that this hub gave for this request")
	errStateExpired = errors.New("requestState has expired; send the request again without it")
	errStateForeign = errors.New("the hub was restarted while the call waited for these answers; whether the server carried it out is not known: " +
		"send the request again without requestState to start over")
)

// find returns the call of a requestState, and the round in which the state was issued.
func (p *pendingCalls) find(sealed, principal string, digest []byte) (*multiRoundCall, int, error) {
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

// digestOf returns a digest of the parts that the requests of all rounds of a call have in common.
func digestOf(m jsonrpc.Message) []byte {
	params, err := jsonrpc.Rewrite(m.Params, jsonrpc.Edit{Name: "_meta"}, jsonrpc.Edit{Name: "inputResponses"}, jsonrpc.Edit{Name: "requestState"})
	if err != nil {
		params = m.Params
	}
	value := jsontext.Value(bytes.Clone(params))
	_ = value.Canonicalize() // a value without canonical form stays as it is
	sum := sha256.New()
	_, _ = sum.Write([]byte(m.Method + "\x00")) // never fails
	_, _ = sum.Write(value)
	return sum.Sum(nil)
}
