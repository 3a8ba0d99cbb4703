package sqlite

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// AddressMode says in what form client addresses are kept.
type AddressMode uint8

// The forms. Truncated keeps the /24 of an IPv4 and the /48 of an IPv6 address. Hashed
// keeps the first 64 bits of an HMAC-SHA-256, stable for a key, of the IPv4 address or
// the /64 of an IPv6 one: clients can be told apart, and found again by who
// holds the key and the address.
const (
	Full AddressMode = iota
	Truncated
	Hashed
)

var addressModes = [...]string{"full", "truncated", "hashed"}

// String returns the mode's name.
func (m AddressMode) String() string {
	if int(m) < len(addressModes) {
		return addressModes[m]
	}
	return fmt.Sprintf("unknown(%d)", uint8(m))
}

// ParseAddressMode returns the mode with that name: "full", "truncated" or "hashed".
func ParseAddressMode(s string) (AddressMode, error) {
	if i := slices.Index(addressModes[:], s); i >= 0 {
		return AddressMode(i), nil
	}
	return 0, fmt.Errorf("unknown form of addresses %q: use full, truncated or hashed", s)
}

// PrivacyKeyFile is the name, in the data directory, of the file with the key that addresses are hashed with.
const PrivacyKeyFile = "privacy.key"

// Privacy says what personal data the archive keeps. It is applied when an event is
// written; what was written before stays as it is.
type Privacy struct {
	Addresses AddressMode
	Key       []byte // of the hash, at least 16 bytes; needed by Hashed only
	// KeepQuery keeps query strings, with the values of parameters that look like
	// secrets masked; otherwise they are dropped, from referrers too.
	KeepQuery bool
}

// masker prepares the settings for use.
func (p Privacy) masker() masker {
	m := masker{Privacy: p}
	if p.Addresses == Hashed {
		m.macs = &sync.Pool{New: func() any { return hmac.New(sha256.New, p.Key) }}
	}
	return m
}

func (p Privacy) validate() error {
	switch {
	case p.Addresses > Hashed:
		return fmt.Errorf("privacy: form of addresses is %s", p.Addresses)
	case p.Addresses == Hashed && len(p.Key) < MinKey:
		return fmt.Errorf("privacy: hashed addresses need a key of at least %d bytes, not %d", MinKey, len(p.Key))
	}
	return nil
}

// MinKey is the least length of Privacy.Key, in bytes.
const MinKey = 16

// masker applies the settings.
type masker struct {
	Privacy
	macs *sync.Pool // of hash.Hash, nil unless Hashed
}

const hashSize = 8

// client returns what is stored for an address and for its prefix. Text that is no address gives nothing.
func (m *masker) client(address string) (client, prefix []byte) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return []byte{}, []byte{} // not nil, which would be NULL
	}
	c := defense.NewClient(addr)
	switch m.Addresses {
	case Truncated:
		return c.Prefix.Addr().AsSlice(), prefixBytes(c.Prefix)
	case Hashed:
		return m.hash(c.Counted), m.hash(c.Prefix)
	}
	return c.Address.AsSlice(), prefixBytes(c.Prefix)
}

func prefixBytes(p netip.Prefix) []byte { return p.Addr().AsSlice()[:p.Bits()/8] }

// hash returns the keyed hash of a prefix's text.
func (m *masker) hash(p netip.Prefix) []byte {
	h := m.macs.Get().(hash.Hash)
	defer m.macs.Put(h)
	h.Reset()
	h.Write(p.AppendTo(make([]byte, 0, 64)))
	return h.Sum(make([]byte, 0, 32))[:hashSize]
}

// readClient undoes client as far as that is possible: addresses and prefixes as their usual text, hashes as 16 hex digits.
func readClient(client, prefix []byte) (c, p string) {
	if len(client) == hashSize {
		c = hex.EncodeToString(client)
	} else if a, ok := netip.AddrFromSlice(client); ok {
		c = a.String()
	}
	return c, readPrefix(prefix)
}

func readPrefix(b []byte) string {
	switch len(b) {
	case 3:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{b[0], b[1], b[2]}), 24).String()
	case 6:
		var a [16]byte
		copy(a[:], b)
		return netip.PrefixFrom(netip.AddrFrom16(a), 48).String()
	case hashSize:
		return hex.EncodeToString(b)
	}
	return ""
}

// query returns a query string as it is stored.
func (m *masker) query(q string) string {
	if !m.KeepQuery {
		return ""
	}
	return maskQuery(q)
}

// referrer returns a referrer as it is stored: without credentials and fragment,
// its query treated like the request's.
func (m *masker) referrer(s string) string {
	s, _, _ = strings.Cut(s, "#")
	base, q, has := strings.Cut(s, "?")
	if scheme, rest, ok := strings.Cut(base, "://"); ok {
		host, path, slash := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			base = scheme + "://" + host[i+1:]
			if slash {
				base += "/" + path
			}
		}
	}
	if q = m.query(q); has && q != "" {
		return base + "?" + q
	}
	return base
}

// secretNames are names of parameters, and secretParts parts of such names, whose values are never stored.
var (
	secretNames = []string{"code", "key", "sig", "sid", "jwt", "otp", "pin", "pwd", "pass", "auth", "hash", "hmac", "state", "nonce", "ticket", "assertion", "bearer", "samlresponse", "samlrequest", "email", "mail", "phone"}
	secretParts = []string{"token", "secret", "passw", "passphrase", "session", "sessid", "signature", "credential", "apikey", "api_key", "api-key", "accesskey", "access_key", "auth_key", "private", "csrf", "xsrf"}
)

const masked = "***"

// maskQuery replaces the values of parameters that look like secrets. The rest
// stays byte for byte.
func maskQuery(q string) string {
	var b strings.Builder
	rest, changed := q, false
	for rest != "" {
		i := strings.IndexAny(rest, "&;")
		part, sep := rest, ""
		if i >= 0 {
			part, sep, rest = rest[:i], rest[i:i+1], rest[i+1:]
		} else {
			rest = ""
		}
		if name, value, ok := strings.Cut(part, "="); ok && value != "" && isSecret(name) {
			if !changed {
				changed = true
				b.Grow(len(q))
				b.WriteString(q[:len(q)-len(rest)-len(sep)-len(part)])
			}
			part = name + "=" + masked
		}
		if changed {
			b.WriteString(part)
			b.WriteString(sep)
		}
	}
	if !changed {
		return q
	}
	return b.String()
}

func isSecret(name string) bool {
	if s, err := url.QueryUnescape(name); err == nil {
		name = s
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if slices.Contains(secretNames, name) {
		return true
	}
	for _, p := range secretParts {
		if strings.Contains(name, p) {
			return true
		}
	}
	return false
}
