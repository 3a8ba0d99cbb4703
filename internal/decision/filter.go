package decision

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Filter chooses decisions. Every field that is set must fit; the zero Filter
// fits all that are in force.
type Filter struct {
	Client netip.Addr      // decisions on this address or on a range around it
	Value  string          // decisions on exactly this address, range, fingerprint or agent
	Action *defense.Action // nil: any
	Origin string
	Before uint64 // only sequences below; 0: all. For the next page, the last one's sequence.
}

// IsZero reports whether the filter would fit every decision.
func (f *Filter) IsZero() bool { return *f == Filter{} }

// matcher is a filter made ready.
func (f *Filter) matcher(now time.Time) func(*entry) bool {
	unix := now.Unix()
	value := strings.TrimSpace(f.Value)
	client := f.Client.Unmap().WithZone("")
	var k key
	isKey, isAgent := false, true
	if p, err := defense.ParseAddressOrPrefix(value); err == nil {
		k, isKey, isAgent = keyOf(p.Addr(), p.Bits()), true, false
	} else if f, err := defense.ParseFingerprint(strings.ToLower(value)); err == nil {
		k, isKey = fingerprintKey(f), true // it may be a word of an agent as well
	}
	is := func(e *entry) bool {
		if e.scope == defense.ScopeAgent {
			return isAgent && strings.EqualFold(e.about.agent, value)
		}
		return isKey && e.key() == k
	}
	return func(e *entry) bool {
		switch {
		case e.expired(unix):
		case f.Before != 0 && e.seq >= f.Before:
		case f.Action != nil && e.action != *f.Action:
		case f.Origin != "" && e.about.origin != f.Origin:
		case value != "" && !is(e):
		case client.IsValid() && !e.holds(client):
		default:
			return true
		}
		return false
	}
}

// List returns the decisions in force at now that fit, latest first, limit at
// most. It walks over the whole set without stopping readers or writers.
func (s *Set) List(f Filter, now time.Time, limit int) []defense.Decision {
	if limit <= 0 {
		return nil
	}
	var top []*entry
	latest := func(a, b *entry) int { return cmp.Compare(b.seq, a.seq) }
	s.each(f.matcher(now), func(e *entry) {
		if top = append(top, e); len(top) >= 2*limit+64 {
			slices.SortFunc(top, latest)
			top = top[:limit]
		}
	})
	slices.SortFunc(top, latest)
	top = top[:min(limit, len(top))]
	out := make([]defense.Decision, len(top))
	for i, e := range top {
		out[i] = e.decision()
	}
	return out
}

// each calls fn for every entry that fits.
func (s *Set) each(fits func(*entry) bool, fn func(*entry)) {
	s.byKey.each(func(e *entry) bool {
		if fits(e) {
			fn(e)
		}
		return true
	})
	if x := s.agents.Load(); x != nil {
		for _, es := range x.entries {
			for _, e := range es {
				if fits(e) {
					fn(e)
				}
			}
		}
	}
}

// same returns the decision that says the same as it about the same, or nil:
// equal scope, value, origin, site and action.
func (s *Set) same(it *item) *entry {
	is := func(e *entry) bool {
		return e.scope == it.Scope && e.action == it.Action && e.about.origin == it.Origin && e.about.site == it.Site
	}
	if it.Scope != defense.ScopeAgent {
		for p := s.byKey.find(it.k); p.next(); {
			if is(p.e) {
				return p.e
			}
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.words {
		if is(e) && strings.EqualFold(e.about.agent, it.Value) {
			return e
		}
	}
	return nil
}
