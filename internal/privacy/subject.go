package privacy

import (
	"encoding/hex"
	"net/netip"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Subject returns the text under which a client is kept that is given as an address or a prefix within its
// neighbourhood: as it is, as its /24 or /48, or as the 16 hex digits of its hash. Ranges of several clients are widened to the
// neighbourhood; wider ones, fingerprints and what is masked already stay as they are, so that masking twice changes nothing.
func (m *Masker) Subject(text string) string {
	p, err := defense.ParseAddressOrPrefix(text)
	if err != nil {
		return text
	}
	c := defense.NewClient(p.Addr())
	if m.settings.Addresses == Full || p.Bits() <= c.Prefix.Bits() {
		return text
	}
	if m.settings.Addresses == Truncated || p.Bits() < c.Counted.Bits() {
		return c.Prefix.String()
	}
	return hex.EncodeToString(m.hash(c.Counted))
}

// Counted returns the prefix of the client that a text names: an address or a prefix within one client.
func Counted(text string) (netip.Prefix, bool) {
	p, err := defense.ParseAddressOrPrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	c := defense.NewClient(p.Addr()).Counted
	return c, p.Bits() >= c.Bits()
}

// Matcher returns a function that reports whether a text of [Masker.Subject] is of a client within p, in whatever form
// it may have been stored. With truncated addresses that is the whole neighbourhood. The error wraps ErrTooWide.
func (m *Masker) Matcher(p netip.Prefix) (func(text string) bool, error) {
	c := defense.NewClient(p.Addr())
	if _, err := m.Range(p); err != nil {
		return nil, err
	}
	p = widened(p, c.Counted) // who shares a /64 is one client
	hashes := map[string]bool{}
	if m.settings.Addresses == Hashed {
		// A neighbourhood has 256 or 65,536 clients: few enough to try them all.
		for at, end := p.Masked().Addr(), lastAddr(p); ; {
			counted := defense.NewClient(at).Counted
			hashes[hex.EncodeToString(m.hash(counted))] = true
			last := lastAddr(counted)
			if last.Compare(end) >= 0 {
				break
			}
			at = last.Next()
		}
	}
	return func(text string) bool {
		q, err := defense.ParseAddressOrPrefix(text)
		if err != nil {
			return hashes[text]
		}
		return p.Overlaps(q)
	}, nil
}

// StoredSubject returns what is stored, as by [Masker.Client], for the client that a text of [Masker.Subject] or an
// address or a prefix within one client names, as far as the text shows it; nothing for anything else.
func (m *Masker) StoredSubject(text string) (client, prefix []byte) {
	if c, ok := Counted(text); ok {
		return m.Client(c.Addr().String())
	}
	if h, err := hex.DecodeString(text); err == nil && len(h) == hashSize {
		return h, []byte{}
	}
	if p, err := netip.ParsePrefix(text); err == nil && p == defense.NewClient(p.Addr()).Prefix {
		return p.Addr().AsSlice(), prefixBytes(p)
	}
	return []byte{}, []byte{}
}

// Restores reports whether masked, as [Masker.Subject] returned it, can only stem from text, so
// that who names text may be shown it again.
func (m *Masker) Restores(text, masked string) bool {
	return m.settings.Addresses == Hashed && m.Subject(text) == masked
}
