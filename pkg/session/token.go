package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// maxToken bounds the length of a token from outside, in bytes.
const maxToken = 256

// newToken makes the split token of a new session: a public id of 100 random
// bits and a secret verifier of 130, both lower-case base32.
func newToken() (id, verifier string) {
	return strings.ToLower(rand.Text()[:20]), strings.ToLower(rand.Text())
}

// splitToken takes a token from outside apart. A token without a dot is a bare
// id, as mcp-hub-lite issued them. It reports false for what cannot be a token.
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

// verify reports whether verifier opens the session with the stored hash. A
// session imported from mcp-hub-lite has no hash and is opened by its bare id.
func verify(hash, verifier string) bool {
	if hash == "" {
		return verifier == ""
	}
	return subtle.ConstantTimeCompare([]byte(hash), []byte(hashVerifier(verifier))) == 1
}
