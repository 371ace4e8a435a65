package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// maxToken is the longest token that is accepted from outside, in bytes.
const maxToken = 256

// newToken returns the two parts of the token of a new session: a public id of 100
// random bits and a secret verifier of 130, both in lower-case base32.
func newToken() (id, verifier string) {
	return strings.ToLower(rand.Text()[:20]), strings.ToLower(rand.Text())
}

// splitToken splits a token from outside into id and verifier. A token without a
// dot is an id alone, as mcp-hub-lite issued them. It reports false if the token
// has an invalid form.
func splitToken(token string) (id, verifier string, ok bool) {
	if token == "" || len(token) > maxToken {
		return "", "", false
	}
	id, verifier, split := strings.Cut(token, ".")
	return id, verifier, id != "" && (!split || verifier != "")
}

func hashVerifier(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return hex.EncodeToString(sum[:])
}

// verify reports whether verifier matches the stored hash. A session imported
// from mcp-hub-lite has no hash and no verifier: its id alone opens it.
func verify(hash, verifier string) bool {
	if hash == "" {
		return verifier == ""
	}
	return subtle.ConstantTimeCompare([]byte(hash), []byte(hashVerifier(verifier))) == 1
}
