package decision

import (
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// entry is a decision as held in memory: 64 bytes and its id. It is immutable, so
// that readers need no lock; a change replaces it.
type entry struct {
	hi, lo  uint64 // of the key; zero for agents
	id      string // ULID
	seq     uint64 // of the log
	about   *about // what many entries have in common
	created uint32 // Unix seconds, 0: unknown
	expires uint32 // Unix seconds, 0: until deleted
	bits    uint8  // of the key
	scope   defense.Scope
	action  defense.Action
	rank    defense.Rank
}

// about is shared by all decisions that say the same: an imported list of a
// million addresses has one.
type about struct {
	origin, reason, site, caseID string
	agent                        string // the value when the scope is agent
}

func (e *entry) key() key { return key{e.hi, e.lo, e.bits} }

func (e *entry) expired(nowUnix int64) bool { return e.expires != 0 && int64(e.expires) <= nowUnix }

// value returns the canonical text of what the decision is about.
func (e *entry) value() string {
	switch e.scope {
	case defense.ScopeAddress:
		return e.key().prefix().Addr().String()
	case defense.ScopeRange:
		return e.key().prefix().String()
	case defense.ScopeFingerprint:
		return e.key().fingerprint().String()
	case defense.ScopeToken:
		return defense.TokenID(e.hi).String()
	}
	return e.about.agent
}

func (e *entry) decision() defense.Decision {
	return defense.Decision{
		ID: e.id, Scope: e.scope, Value: e.value(), Action: e.action,
		Origin: e.about.origin, Reason: e.about.reason, CaseID: e.about.caseID, Site: e.about.site,
		Created: fromUnix(e.created), Expires: fromUnix(e.expires), Sequence: e.seq,
	}
}

// fromUnix and toUnix keep the zero time zero.
func fromUnix(t uint32) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0).UTC()
}

func toUnix(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(t.Unix())
}

// width orders scopes: a smaller value is narrower. A token is narrower than anything. Any address range is narrower than any
// fingerprint, of which a pattern is the narrowest and a program the widest, and any fingerprint narrower than any
// agent, of which the longer name is the narrower.
func (e *entry) width() int {
	switch e.scope {
	case defense.ScopeAgent:
		return 1<<16 - len(e.about.agent)
	case defense.ScopeToken:
		return -1
	case defense.ScopeFingerprint:
		return 1<<8 + int(e.key().fingerprint().Kind)
	}
	return 128 - int(e.bits)
}

// wide reports whether the decision is about more than one client. An IPv6 /64 is one.
func (e *entry) wide() bool {
	switch e.scope {
	case defense.ScopeAddress, defense.ScopeToken:
		return false
	case defense.ScopeRange:
		return !oneClient(e.key().prefix())
	}
	return true
}

// oneClient reports whether a range is counted as one client, see defense.NewClient.
func oneClient(p netip.Prefix) bool {
	return p.IsSingleIP() || p.Addr().Is6() && p.Bits() >= 64
}

// holds reports whether the decision is about that address or a range around it.
func (e *entry) holds(a netip.Addr) bool {
	return (e.scope == defense.ScopeAddress || e.scope == defense.ScopeRange) && e.key().prefix().Contains(a)
}

// beats reports whether e takes precedence over o: by rank, then the narrower
// scope (one site before every site), then the later. A nil o loses.
func (e *entry) beats(o *entry) bool {
	switch {
	case o == nil:
		return true
	case e.rank != o.rank:
		return e.rank > o.rank
	case e.width() != o.width():
		return e.width() < o.width()
	case (e.about.site == "") != (o.about.site == ""):
		return e.about.site != ""
	}
	return e.seq > o.seq
}
