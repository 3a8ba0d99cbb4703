// Package clearance makes and checks the signed tokens by which an edge knows a
// client again: the clearance that a passed challenge earns, the long-lived
// token that an owner issues to a program, and the short tokens that challenges themselves need.
//
// There is one algorithm, HMAC-SHA-256 (RFC 2104), and it stands nowhere in a
// token, so that nobody can ask for another. A token names its key by one byte, so that keys can
// be changed while tokens of the old one are still good. Nothing is stored for a token: every edge with the same keys
// accepts it.
//
// The one rule that must never break: a token is good or it is nothing. What
// cannot be read is as if it had not been sent, never an error for a reader.
package clearance

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quickthorn/quickthorn/internal/keyfile"
)

const (
	// KeyFile is the name of the signing key's file in the data directory.
	KeyFile = "clearance.key"
	// PreviousSuffix and NextSuffix, added to a key file's name, name the files of keys that are accepted but do
	// not sign: the one that signed before, and the one that will sign soon at some of several edges.
	PreviousSuffix = ".previous"
	NextSuffix     = ".next"
	// KeySize is the length of a signing key in bytes.
	KeySize = keyfile.Size
)

// LoadKeys reads the signing key from the file at path, creating it (mode 0600) with
// random bytes when it does not exist, and the keys beside it that are accepted as well. The first of the
// result signs. A file that cannot be read or is too short is an error.
func LoadKeys(path string) ([][]byte, error) {
	key, err := keyfile.Key(path)
	if err != nil {
		return nil, fmt.Errorf("clearance key: %w", err)
	}
	keys := [][]byte{key}
	for _, suffix := range []string{PreviousSuffix, NextSuffix} {
		key, ok, err := keyfile.Existing(path + suffix)
		if err != nil {
			return nil, fmt.Errorf("clearance key: %w", err)
		}
		if ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Signer makes and checks tokens. It is safe for concurrent use.
type Signer struct{ keys atomic.Pointer[[]*key] }

// key is one signing key.
type key struct {
	id     byte
	secret []byte
	states sync.Pool // of *state: keyed HMACs, reused because keying costs two hash blocks
}

// state is the memory of one signing or checking.
type state struct {
	mac  hash.Hash
	sum  [sha256.Size]byte
	raw  [maxRaw]byte
	text [maxText]byte
}

// NewSigner returns a signer that signs with the first key and accepts all. Each has at least KeySize bytes.
func NewSigner(keys ...[]byte) (*Signer, error) {
	s := &Signer{}
	return s, s.Replace(keys...)
}

// Replace changes the keys. Tokens of a key that is no longer among them are
// worth nothing from then on. On error the old keys stay.
func (s *Signer) Replace(keys ...[]byte) error {
	if len(keys) == 0 {
		return errors.New("a signer needs a key")
	}
	made := make([]*key, 0, len(keys))
	for _, k := range keys {
		if len(k) < KeySize {
			return fmt.Errorf("signing key has %d bytes, want at least %d", len(k), KeySize)
		}
		secret := append([]byte(nil), k...)
		n := &key{secret: secret, id: derive(secret, "key id")[0]}
		n.states.New = func() any { return &state{mac: hmac.New(sha256.New, secret)} }
		made = append(made, n)
	}
	if old := s.keys.Load(); old == nil || !slices.EqualFunc(*old, made, func(a, b *key) bool { return bytes.Equal(a.secret, b.secret) }) {
		s.keys.Store(&made)
	}
	return nil
}

// derive returns 32 bytes that depend on the key and the purpose and tell nothing of either.
func derive(secret []byte, purpose string) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("quickthorn " + purpose))
	return m.Sum(nil)
}

// Secrets returns a key for that purpose from each of the signing keys, the one that signs first: for
// what must be sealed, not only signed.
func (s *Signer) Secrets(purpose string) [][]byte {
	var out [][]byte
	for _, k := range *s.keys.Load() {
		out = append(out, derive(k.secret, purpose))
	}
	return out
}

// A token is, in unpadded URL-safe base64: its use (1 byte), the key's id (1 byte),
// the body (as long as the use has it), and the MAC over all before and the bound text, truncated to 128 bits (RFC 2104
// section 5 allows truncation to half the hash).
const (
	headSize = 2
	macSize  = 16
	// MaxBody is the largest body of a token in bytes.
	MaxBody = 64
	maxRaw  = headSize + MaxBody + macSize
	maxText = (maxRaw*8 + 5) / 6
)

// Use says what a token is for; one of another use is no token. The uses of this
// package are below 0x20.
type Use byte

var encoding = base64.RawURLEncoding.Strict()

// Length returns the number of characters of a token with a body of n bytes.
func Length(n int) int { return ((headSize+n+macSize)*8 + 5) / 6 }

// Sign returns a token for that use with that body of at most MaxBody bytes, bound to a text
// that does not stand in it.
func (s *Signer) Sign(u Use, body []byte, bound string) string {
	k := (*s.keys.Load())[0]
	st := k.states.Get().(*state)
	defer k.states.Put(st)
	st.raw[0], st.raw[1] = byte(u), k.id
	n := headSize + copy(st.raw[headSize:headSize+MaxBody], body)
	st.sign(n, bound)
	copy(st.raw[n:], st.sum[:macSize])
	return encoding.EncodeToString(st.raw[:n+macSize])
}

func (st *state) sign(n int, bound string) {
	st.mac.Reset()
	st.mac.Write(st.raw[:n])
	for len(bound) > 0 { // chunked through sum's array so that no []byte(string) escapes
		c := copy(st.sum[:], bound)
		st.mac.Write(st.sum[:c])
		bound = bound[c:]
	}
	st.mac.Sum(st.sum[:0])
}

// Verify reports whether the token was signed for that use and bound text with one of
// the keys, and copies its body, which must be exactly as long as body, there. It allocates nothing, and
// takes the same time wherever a MAC differs.
func (s *Signer) Verify(u Use, token string, body []byte, bound string) bool {
	if len(body) > MaxBody || len(token) != Length(len(body)) {
		return false
	}
	keys := *s.keys.Load()
	for _, k := range keys {
		if k.verify(u, token, body, bound) {
			return true
		}
	}
	return false
}

func (k *key) verify(u Use, token string, body []byte, bound string) bool {
	st := k.states.Get().(*state)
	defer k.states.Put(st)
	size := headSize + len(body) + macSize
	copy(st.text[:], token)
	if n, err := encoding.Decode(st.raw[:], st.text[:len(token)]); err != nil || n != size || st.raw[0] != byte(u) || st.raw[1] != k.id {
		return false
	}
	st.sign(size-macSize, bound)
	if !hmac.Equal(st.sum[:macSize], st.raw[size-macSize:size]) {
		return false
	}
	copy(body, st.raw[headSize:])
	return true
}

// RandomID returns a random identifier, never 0.
func RandomID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return max(binary.BigEndian.Uint64(b[:]), 1)
}
