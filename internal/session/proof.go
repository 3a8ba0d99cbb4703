package session

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Cookie is the name of the proof's cookie. It is nothing to the upstream and need not be sent there.
	Cookie = "quickthorn-session"
	// MaxAge is the longest time for which a proof is good.
	MaxAge = 30 * 24 * time.Hour
	// KeySize is the smallest size of a key in bytes.
	KeySize = 32
	// MinValue is the length in bytes below which a cookie's value proves nothing: it could be guessed, or be the same for many.
	MinValue = 16

	maxNames   = 64
	maxName    = 128      // bytes of a cookie's name
	maxValue   = 8 << 10  // bytes of its value; browsers keep 4 KiB
	maxProofs  = 4        // in our cookie, for applications with several session cookies
	maxTries   = 4        // cookies of one name, ours or a session's, that are looked at in a request
	maxHeader  = 32 << 10 // bytes of Cookie that are looked at
	macSize    = 16
	entrySize  = 1 + 4 + 3 + macSize // key's id, minute of expiry, tag of the name, MAC
	entryText  = entrySize / 3 * 4
	version    = "1"
	maxMinutes = int64(1)<<32 - 1
)

// Options say which cookies prove what. Keys is required.
type Options struct {
	Keys [][]byte // secret, at least KeySize bytes each, the same at all edges; the first makes proofs, all are accepted
	// Names are the cookies that an upstream sets for people who are logged in; a "*" at the end stands for anything, as in
	// "wordpress_logged_in_*". These then count in every answer, and no others do. None: every HttpOnly cookie counts that the answer to a POST sets.
	Names []string
}

// Prover makes and checks proofs. It may be used by many goroutines at once.
type Prover struct {
	names []string
	keys  atomic.Pointer[[]*key]
}

// key is one secret.
type key struct {
	secret []byte
	id     byte
	states sync.Pool // of *state
}

// state is the memory of one MAC, reused because keying costs two hash blocks.
type state struct {
	mac  hash.Hash
	sum  [sha256.Size]byte
	text [512]byte
}

// New returns a prover. The error says which option is wrong and what would be right.
func New(o Options) (*Prover, error) {
	if len(o.Names) > maxNames {
		return nil, fmt.Errorf("session: %d names of cookies: want at most %d", len(o.Names), maxNames)
	}
	for _, n := range o.Names {
		bare := strings.TrimSuffix(n, "*")
		if bare == "" || len(bare) > maxName || strings.ContainsFunc(bare, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`*;,="\`, r) }) {
			return nil, fmt.Errorf("session: cookie %q: want the name of a cookie of at most %d bytes, with or without a \"*\" at its end", n, maxName)
		}
		if strings.HasPrefix(bare, ownPrefix) {
			return nil, fmt.Errorf("session: cookie %q is one of quickthorn's own: want one of the site's", n)
		}
	}
	p := &Prover{names: slices.Clone(o.Names)}
	return p, p.Replace(o.Keys...)
}

// Replace changes the keys: the first makes proofs, all are accepted. Proofs of a key that is no longer among them are worth nothing. On error the old
// keys stay.
func (p *Prover) Replace(keys ...[]byte) error {
	if len(keys) == 0 {
		return errors.New("session: there is no key")
	}
	made := make([]*key, 0, len(keys))
	for _, k := range keys {
		if len(k) < KeySize {
			return fmt.Errorf("session: a key has %d bytes: want at least %d", len(k), KeySize)
		}
		derived, err := hkdf.Key(sha256.New, k, nil, "quickthorn session proof "+version, 33)
		if err != nil {
			return fmt.Errorf("session: key: %w", err)
		}
		n := &key{secret: derived[:32], id: derived[32]}
		n.states.New = func() any { return &state{mac: hmac.New(sha256.New, n.secret)} }
		made = append(made, n)
	}
	p.keys.Store(&made)
	return nil
}

// Proof is what a request's cookies prove.
type Proof struct {
	text string // our cookie's value, "" unless it proves something
}

// LoggedIn reports whether the client has a session that the upstream gave it.
func (p Proof) LoggedIn() bool { return p.text != "" }

// Read returns what the Cookie lines of a request to a site prove. It neither fails nor waits: what cannot be read proves nothing.
func (p *Prover) Read(h http.Header, site string, now time.Time) (proof Proof) {
	lines := h["Cookie"]
	eachCookie(lines, Cookie, func(text string) bool {
		for rest := entries(text); ; {
			var e entry
			if rest = e.next(rest); !e.ok {
				return false
			}
			if p.proves(&e, lines, site, now) {
				proof.text = text
				return true
			}
		}
	})
	return proof
}

// proves reports whether the proof is good for one of the cookies.
func (p *Prover) proves(e *entry, lines []string, site string, now time.Time) bool {
	if e.expires() <= now.Unix() {
		return false
	}
	good := false
	eachTagged(lines, e.tag(), func(name, value string) bool {
		for _, k := range *p.keys.Load() {
			if k.id == e.raw[0] {
				good = good || k.check(e, site, name, value)
			}
		}
		return good
	})
	return good
}

// entry is one proof as it stands in our cookie, which holds the version and up to maxProofs of them, with "." between.
type entry struct {
	raw [entrySize]byte
	ok  bool
}

// entries returns the entries of our cookie's value, for next to read; "" if it has not the form of ours.
func entries(text string) string {
	rest, ok := strings.CutPrefix(text, version)
	if !ok || len(rest)%(1+entryText) != 0 || len(rest) > maxProofs*(1+entryText) {
		return ""
	}
	return rest
}

// next reads the first of the entries and returns the others. e.ok is false if there is none.
func (e *entry) next(text string) string {
	e.ok = false
	if len(text) < 1+entryText || text[0] != '.' {
		return ""
	}
	var chars [entryText]byte
	copy(chars[:], text[1:])
	n, err := encoding.Decode(e.raw[:], chars[:])
	e.ok = err == nil && n == entrySize
	return text[1+entryText:]
}

var encoding = base64.RawURLEncoding.Strict()

func (e *entry) minutes() uint32 { return binary.BigEndian.Uint32(e.raw[1:]) }

// expires is the Unix time at which the proof is no longer good.
func (e *entry) expires() int64 { return int64(e.minutes()) * 60 }

func (e *entry) tag() tag { return tag(e.raw[5:8]) }

// tag is a short hash of a cookie's name, by which it is found. It need not be secret or free of collisions: the MAC is over the name.
type tag [3]byte

func tagOf(name string) tag {
	h := uint32(2166136261) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	h ^= h >> 24
	return tag{byte(h >> 16), byte(h >> 8), byte(h)}
}

// check reports whether the entry's MAC is right.
func (k *key) check(e *entry, site, name, value string) bool {
	st := k.states.Get().(*state)
	st.sign(e, site, name, value)
	good := hmac.Equal(st.sum[:macSize], e.raw[entrySize-macSize:])
	k.states.Put(st)
	return good
}

// make returns a proof that is good until the minute after expires.
func (k *key) make(site, name, value string, expires time.Time) *entry {
	e := &entry{ok: true}
	e.raw[0] = k.id
	binary.BigEndian.PutUint32(e.raw[1:], uint32(min(max(expires.Unix()+59, 0)/60, maxMinutes)))
	t := tagOf(name)
	copy(e.raw[5:], t[:])
	st := k.states.Get().(*state)
	st.sign(e, site, name, value)
	copy(e.raw[entrySize-macSize:], st.sum[:])
	k.states.Put(st)
	return e
}

// sign makes the MAC over the entry's head and the three texts, each with its length, so that none can pass for a part of another.
func (st *state) sign(e *entry, site, name, value string) {
	st.mac.Reset()
	n := copy(st.text[:], e.raw[:entrySize-macSize])
	for _, s := range [...]string{site, name, value} {
		n += copy(st.text[n:], binary.BigEndian.AppendUint32(st.sum[:0], uint32(len(s))))
	}
	for _, s := range [...]string{site, name, value} {
		for s != "" { // through text's memory, so that no copy of the cookies is made
			if n == len(st.text) {
				st.mac.Write(st.text[:])
				n = 0
			}
			c := copy(st.text[n:], s)
			n, s = n+c, s[c:]
		}
	}
	st.mac.Write(st.text[:n])
	st.mac.Sum(st.sum[:0])
}
