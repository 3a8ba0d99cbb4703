// Package challenge tells people from programs that will not even keep a cookie.
//
// It holds the simplest honest check: a page that needs no JavaScript, sets a
// signed cookie and refreshes to a pass address, which exchanges the cookie for a
// clearance. A client that keeps cookies and follows a refresh passes within
// seconds; nothing is stored on our side. Every outstanding check is redeemable on its own, so
// ten tabs restored at once all pass.
//
// The one rule that must never break: nothing in here may lock a reader out for
// the state of their clock, their address or their other tabs.
package challenge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/keyfile"
)

// KeyFile is the name of the signing key's file in the data directory.
const KeyFile = "clearance.key"

// KeySize is the length of a signing key in bytes.
const KeySize = 32

// macSize is the length of a truncated HMAC-SHA-256: 128 bits (RFC 2104 section 5
// allows truncation to half the hash).
const macSize = 16

// LoadKey reads the signing key from a file, creating it (mode 0600) with random
// bytes when it does not exist. A file that cannot be read or is too short is an error: clearances
// signed with a guessable key would be worth nothing.
func LoadKey(path string) ([]byte, error) {
	b, err := keyfile.LoadOrCreate(path, func() []byte {
		key := make([]byte, KeySize)
		rand.Read(key) // never fails (crypto/rand since Go 1.24)
		return key
	})
	if err != nil {
		return nil, fmt.Errorf("read clearance key: %w", err)
	}
	if len(b) < KeySize {
		return nil, fmt.Errorf("clearance key %q: %d bytes, want at least %d", path, len(b), KeySize)
	}
	return b[:KeySize], nil
}

// Signer makes and checks tokens. It is safe for concurrent use.
type Signer struct {
	macs sync.Pool // of *macState: keyed HMACs, reused because keying costs two hash blocks
}

type macState struct {
	mac hash.Hash
	sum [sha256.Size]byte
	raw [tokenSize]byte
}

// NewSigner returns a signer for a key of at least KeySize bytes.
func NewSigner(key []byte) (*Signer, error) {
	if len(key) < KeySize {
		return nil, fmt.Errorf("signing key has %d bytes, want at least %d", len(key), KeySize)
	}
	key = append([]byte(nil), key...)
	s := &Signer{}
	s.macs.New = func() any { return &macState{mac: hmac.New(sha256.New, key)} }
	return s, nil
}

// A token is: version and use (1 byte), time of issue (8 bytes, Unix seconds),
// random id (8 bytes), MAC over these and the bound text (16 bytes), in unpadded URL-safe base64.
const (
	bodySize    = 17
	tokenSize   = bodySize + macSize
	tokenLength = (tokenSize*8 + 5) / 6
)

type use byte

const (
	useCheck     use = 0x11 // the cookie that proves that cookies are kept
	usePass      use = 0x12 // the address that a challenge page refreshes to
	useClearance use = 0x13
)

var encoding = base64.RawURLEncoding.Strict()

func (s *Signer) issue(u use, now time.Time, bound string) string {
	m := s.macs.Get().(*macState)
	defer s.macs.Put(m)
	m.raw[0] = byte(u)
	binary.BigEndian.PutUint64(m.raw[1:], uint64(now.Unix()))
	rand.Read(m.raw[9:bodySize]) // never fails (crypto/rand since Go 1.24)
	m.sign(bound)
	copy(m.raw[bodySize:], m.sum[:macSize])
	return encoding.EncodeToString(m.raw[:])
}

func (m *macState) sign(bound string) {
	m.mac.Reset()
	m.mac.Write(m.raw[:bodySize])
	for len(bound) > 0 { // chunked through sum's array so that no []byte(string) escapes
		n := copy(m.sum[:], bound)
		m.mac.Write(m.sum[:n])
		bound = bound[n:]
	}
	m.mac.Sum(m.sum[:0])
}

// verify reports whether the token was issued by this signer for that use and
// bound text, and when. It allocates nothing.
func (s *Signer) verify(u use, token, bound string) (issued time.Time, id uint64, ok bool) {
	if len(token) != tokenLength {
		return time.Time{}, 0, false
	}
	m := s.macs.Get().(*macState)
	defer s.macs.Put(m)
	var text [tokenLength]byte
	copy(text[:], token)
	if n, err := encoding.Decode(m.raw[:], text[:]); err != nil || n != tokenSize || m.raw[0] != byte(u) {
		return time.Time{}, 0, false
	}
	m.sign(bound)
	if !hmac.Equal(m.sum[:macSize], m.raw[bodySize:]) {
		return time.Time{}, 0, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(m.raw[1:])), 0), binary.BigEndian.Uint64(m.raw[9:]), true
}

// Clocks of replicas differ, and a server's clock may have been set back since a token was
// issued: such a token seems to come from the future. Seeming too old has no such excuse.
const (
	earlySkew = 24 * time.Hour
	lateSkew  = 10 * time.Minute
)

// within reports whether a token of that time is good for now.
func within(issued, now time.Time, validity time.Duration) bool {
	age := now.Sub(issued)
	return age >= -earlySkew && age <= validity+lateSkew
}
