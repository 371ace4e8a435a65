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
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcphub-go/mcphub/pkg/gateway/stream"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// statePrefix is the beginning of every requestState of a hub.
const statePrefix = "mcphub1."

// suspensionTimeout is the time for which a suspended call waits for its client, and a requestState is valid.
const suspensionTimeout = 15 * time.Minute

// requestState is the content of a requestState.
type requestState struct {
	ID        string `json:"i"` // of the suspended call
	Round     int    `json:"r"`
	Expires   int64  `json:"e"` // ms since the start of the sealer: a wall clock that is set changes nothing
	Principal string `json:"p"`
	Digest    []byte `json:"d"` // see digestOf
}

// stateSealer encrypts and authenticates requestStates with a key of this process, because suspended calls do
// not outlive the process either. Its methods may be called concurrently.
type stateSealer struct {
	started time.Time
	process string // random; tells states of other processes from forged ones
	aead    cipher.AEAD
}

func newStateSealer() stateSealer {
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
	return stateSealer{started: time.Now(), process: rand.Text()[:stream.EpochLength], aead: aead}
}

// seal makes a requestState that expires after suspensionTimeout.
func (x stateSealer) seal(id string, round int, principal string, digest []byte) (string, error) {
	expires := (time.Since(x.started) + suspensionTimeout).Milliseconds()
	plain, err := json.Marshal(requestState{id, round, expires, principal, digest})
	if err != nil {
		return "", err
	}
	sealed := x.aead.Seal(nil, nil, plain, []byte(x.process)) //nolint:gosec // this AEAD adds a random nonce
	return statePrefix + x.process + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// The reasons to refuse a requestState.
var (
	errStateForged  = errors.New("requestState is not one that this hub gave for this request")
	errStateExpired = errors.New("requestState has expired; send the request again without it")
	errStateForeign = errors.New("the hub was restarted while the call waited for these answers; " +
		"whether the server carried it out is not known: send the request again without requestState to start over")
)

// open returns the content of a requestState that was sealed for this principal and digest.
func (x stateSealer) open(sealed, principal string, digest []byte) (requestState, error) {
	process, rest, ok := strings.Cut(strings.TrimPrefix(sealed, statePrefix), ".")
	switch {
	case !ok || len(process) != stream.EpochLength:
		return requestState{}, errStateForged
	case process != x.process:
		return requestState{}, errStateForeign
	}
	box, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return requestState{}, errStateForged
	}
	plain, err := x.aead.Open(nil, nil, box, []byte(x.process))
	var s requestState
	if err != nil || json.Unmarshal(plain, &s) != nil || s.Principal != principal || !bytes.Equal(s.Digest, digest) {
		return requestState{}, errStateForged
	}
	return s, nil
}

// digestOf returns a digest of the parts that the requests of all rounds of a call have in common.
func digestOf(m jsonrpc.Message) []byte {
	params, err := jsonrpc.Rewrite(m.Params,
		jsonrpc.Edit{Name: "_meta"}, jsonrpc.Edit{Name: "inputResponses"}, jsonrpc.Edit{Name: "requestState"})
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
