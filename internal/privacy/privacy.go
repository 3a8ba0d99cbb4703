// Package privacy decides what personal data the archive keeps: in what form client addresses, and whether query
// strings. Both archives, store/sqlite and store/postgres, write through a [Masker], so that what one of them leaves out
// the other does not keep.
package privacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"slices"
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

// KeyFile is the name, in the data directory, of the file with the key that addresses are hashed with.
const KeyFile = "privacy.key"

// MinKey is the least length of Settings.Key, in bytes.
const MinKey = 16

// Settings say what personal data the archive keeps. They are applied when an event or a case is
// written; what was written before stays as it is.
type Settings struct {
	Addresses AddressMode
	Key       []byte // of the hash, at least 16 bytes; needed by Hashed only
	// KeepQuery keeps query strings, with the values of parameters that look like
	// secrets masked; otherwise they are dropped, from referrers too.
	KeepQuery bool
}

// Validate reports settings that cannot work.
func (s Settings) Validate() error {
	switch {
	case s.Addresses > Hashed:
		return fmt.Errorf("privacy: form of addresses is %s", s.Addresses)
	case s.Addresses == Hashed && len(s.Key) < MinKey:
		return fmt.Errorf("privacy: hashed addresses need a key of at least %d bytes, not %d", MinKey, len(s.Key))
	}
	return nil
}

// Masker applies settings. It is safe for concurrent use.
type Masker struct {
	settings Settings
	macs     *sync.Pool // of hash.Hash, nil unless Hashed
}

// Masker prepares valid settings for use.
func (s Settings) Masker() *Masker {
	m := &Masker{settings: s}
	if s.Addresses == Hashed {
		m.macs = &sync.Pool{New: func() any { return hmac.New(sha256.New, s.Key) }}
	}
	return m
}

// hashSize is what is kept of a hash, in bytes.
const hashSize = 8

// Client returns what is stored for an address and for its neighbourhood: 4 or 16 bytes of address and 3 or 6 of prefix, or
// 8 bytes of hash each. Text that is no address gives nothing.
func (m *Masker) Client(address string) (client, prefix []byte) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return []byte{}, []byte{} // not nil, which would be NULL
	}
	c := defense.NewClient(addr)
	switch m.settings.Addresses {
	case Truncated:
		return c.Prefix.Addr().AsSlice(), prefixBytes(c.Prefix)
	case Hashed:
		return m.hash(c.Counted), m.hash(c.Prefix)
	}
	return c.Address.AsSlice(), prefixBytes(c.Prefix)
}

func prefixBytes(p netip.Prefix) []byte { return p.Addr().AsSlice()[:p.Bits()/8] }

// hash returns the keyed hash of a prefix's text.
func (m *Masker) hash(p netip.Prefix) []byte {
	h := m.macs.Get().(hash.Hash)
	defer m.macs.Put(h)
	h.Reset()
	h.Write(p.AppendTo(make([]byte, 0, 64)))
	return h.Sum(make([]byte, 0, 32))[:hashSize]
}

// ReadClient undoes [Masker.Client] as far as that is possible: addresses and prefixes as their usual text, hashes as 16 hex digits.
func ReadClient(client, prefix []byte) (c, p string) {
	if len(client) == hashSize {
		c = hex.EncodeToString(client)
	} else if a, ok := netip.AddrFromSlice(client); ok {
		c = a.String()
	}
	return c, ReadPrefix(prefix)
}

// ReadPrefix returns the text of a stored neighbourhood.
func ReadPrefix(b []byte) string {
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

// ErrTooWide is wrapped by Range's error when addresses are stored in a form that does not show who is within the range.
var ErrTooWide = errors.New("addresses are stored hashed, which allows to look for one address, one /24 or one /48")

// Range is how stored clients within a prefix are found: those whose bytes lie between Low and High, which have the
// same length, or whose Client or Prefix, where they are given, are equal.
type Range struct {
	Low, High      []byte
	Client, Prefix []byte // hashes; at most one of them is given
}

// Range returns how clients within p are found, in whatever form their addresses may have been stored. With truncated
// addresses it finds the whole neighbourhood.
func (m *Masker) Range(p netip.Prefix) (Range, error) {
	if m.settings.Addresses == Truncated {
		// All that is known of a truncated address is its neighbourhood.
		p = widened(p, defense.NewClient(p.Addr()).Prefix)
	}
	r := Range{Low: p.Masked().Addr().AsSlice(), High: lastAddr(p).AsSlice()}
	if m.settings.Addresses == Hashed {
		client := defense.NewClient(p.Addr())
		// An IPv6 address is hashed by its /64, so that it matches whoever shares that.
		switch {
		case p.Bits() >= client.Counted.Bits():
			r.Client = m.hash(client.Counted)
		case p == client.Prefix:
			r.Prefix = m.hash(p)
		default:
			return r, fmt.Errorf("%w, not for %s", ErrTooWide, p)
		}
	}
	return r, nil
}

// widened returns wide if p is narrower, else p.
func widened(p, wide netip.Prefix) netip.Prefix {
	if p.Bits() > wide.Bits() {
		return wide
	}
	return p
}

// lastAddr returns the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
