package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"
)

// list is a named list of a policy: addresses and ranges, numbers, or texts.
type list struct {
	name      string
	kind      listKind
	addresses *bart.Lite
	numbers   map[int64]struct{}
	texts     map[string]struct{}
}

type listKind uint8

const (
	listTexts listKind = iota
	listAddresses
	listNumbers
)

var listKindNames = [...]string{"texts", "addresses", "numbers"}

// compileList decides by the entries what the list holds: addresses when the
// first is one, numbers when it is one, texts otherwise. A list that is mixed
// by mistake is an error at its odd entry.
func compileList(spec *listSpec, ps *problems) *list {
	l := &list{name: spec.name}
	if len(spec.entries) == 0 {
		l.texts = map[string]struct{}{}
		l.addresses = new(bart.Lite)
		l.numbers = map[int64]struct{}{}
		ps.warnf(spec.at, "list %q is empty", spec.name)
		return l
	}
	first := spec.entries[0].text
	if _, err := parseRange(first); err == nil {
		l.kind, l.addresses = listAddresses, new(bart.Lite)
	} else if _, err := parseNumber(first); err == nil {
		l.kind, l.numbers = listNumbers, make(map[int64]struct{}, len(spec.entries))
	} else if looksLikeAddress(first) {
		ps.errorf(spec.entries[0].at, "list %q: %v", spec.name, err0(parseRange(first)))
		l.kind, l.addresses = listAddresses, new(bart.Lite)
	} else {
		l.texts = make(map[string]struct{}, len(spec.entries))
	}
	for _, e := range spec.entries {
		switch l.kind {
		case listAddresses:
			p, err := parseRange(e.text)
			if err != nil {
				ps.errorf(e.at, "list %q: %v", spec.name, err)
				continue
			}
			l.addresses.Insert(p)
		case listNumbers:
			n, err := parseNumber(e.text)
			if err != nil {
				ps.errorf(e.at, "list %q holds numbers, but %q is not one", spec.name, clip(e.text))
				continue
			}
			l.numbers[n] = struct{}{}
		default:
			if looksLikeAddress(e.text) {
				ps.errorf(e.at, "list %q holds texts, but %q looks like an address: put addresses in a list of their own", spec.name, clip(e.text))
			}
			l.texts[e.text] = struct{}{}
		}
	}
	return l
}

func err0[T any](_ T, err error) error { return err }

// parseNumber accepts numbers and networks written as AS64496.
func parseNumber(s string) (int64, error) {
	if rest, ok := strings.CutPrefix(s, "AS"); ok {
		s = rest
	}
	return strconv.ParseInt(s, 10, 64)
}

// looksLikeAddress reports whether s was meant as an address or a range.
func looksLikeAddress(s string) bool {
	host, bits, ok := strings.Cut(s, "/")
	if ok {
		if _, err := strconv.Atoi(bits); err != nil {
			return false
		}
	}
	if strings.Count(host, ".") == 3 {
		return strings.Trim(host, "0123456789.") == ""
	}
	return strings.Count(host, ":") >= 2 && strings.Trim(host, "0123456789abcdefABCDEF:.") == ""
}

// parseRange reads an address or a CIDR range. IPv4 in IPv6 is unmapped. Bits
// beyond the mask are an error that names the range that was probably meant.
func parseRange(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is not an IP address or a range such as 192.0.2.0/24", clip(s))
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		host, bits, _ := strings.Cut(s, "/")
		if a, aerr := netip.ParseAddr(host); aerr == nil {
			return netip.Prefix{}, fmt.Errorf("%q is not a range: %q is not a number of bits from 0 to %d", clip(s), clip(bits), a.BitLen())
		}
		return netip.Prefix{}, fmt.Errorf("%q is not a range such as 192.0.2.0/24 or 2001:db8::/32", clip(s))
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("%q has bits set beyond its mask (did you mean %q?)", s, m)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q mixes IPv4 and IPv6", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// ranges is a small set of prefixes given in a condition.
type ranges struct {
	few  []netip.Prefix
	many *bart.Lite
}

func newRanges(ps []netip.Prefix) *ranges {
	if len(ps) <= 4 {
		return &ranges{few: slices.Clone(ps)}
	}
	r := &ranges{many: new(bart.Lite)}
	for _, p := range ps {
		r.many.Insert(p)
	}
	return r
}

func (r *ranges) contains(a netip.Addr) bool {
	if r.many != nil {
		return a.IsValid() && r.many.Contains(a)
	}
	for _, p := range r.few {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
