package defense

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Scope is what a decision is about.
type Scope uint8

// The scopes.
const (
	ScopeAddress Scope = iota // one IP address
	ScopeRange                // a CIDR prefix
	ScopeASN
	ScopeFingerprint
	ScopeAgent // a substring of the User-Agent at token boundaries, without case
	ScopeToken // the public number of a clearance or an issued token
	ScopeAll
)

var scopeNames = [...]string{"address", "range", "asn", "fingerprint", "agent", "token", "all"}

// String returns the scope's name.
func (s Scope) String() string { return nameOf(scopeNames[:], uint8(s)) }

// ParseScope returns the scope with that name.
func ParseScope(s string) (Scope, error) {
	i, err := indexOf("scope", scopeNames[:], s)
	return Scope(i), err
}

// MarshalText writes the scope's name.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a scope's name.
func (s *Scope) UnmarshalText(b []byte) (err error) {
	*s, err = ParseScope(string(b))
	return err
}

// Decision is a time-limited statement about a client, range, fingerprint or agent that every edge enforces.
type Decision struct {
	ID       string    `json:"id"` // ULID
	Scope    Scope     `json:"scope"`
	Value    string    `json:"value"` // canonical text of what it is about
	Action   Action    `json:"action"`
	Origin   string    `json:"origin"` // "operator", "engine", "rule", "peer:NAME", "list:NAME"
	Reason   string    `json:"reason,omitempty"`
	CaseID   string    `json:"caseId,omitempty"`
	Site     string    `json:"site,omitempty"` // "" for every site
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: until deleted
	Sequence uint64    `json:"sequence"`         // assigned by the decision log; increases with every change
}

// Rank is the precedence of a decision's origin and action: the higher wins.
type Rank uint8

// The ranks, weakest first. Verified identity and policy rules stand among
// them: the engine applies decisions of RankEngine and above before the policy's
// rules and those below after them.
const (
	RankList Rank = iota
	RankPeer
	RankRule
	RankEngine
	RankVerified
	RankOperatorBan
	RankOperatorAllow
)

// Rank returns the decision's precedence. Only an operator's allow beats every ban.
func (d *Decision) Rank() Rank {
	switch kind, _, _ := strings.Cut(d.Origin, ":"); kind {
	case "operator":
		if d.Action == Allow {
			return RankOperatorAllow
		}
		return RankOperatorBan
	case "engine":
		return RankEngine
	case "rule":
		return RankRule
	case "peer":
		return RankPeer
	}
	return RankList
}

// MaxDecisionReason bounds a decision's reason, in bytes.
const MaxDecisionReason = 1024

// Normalize checks the decision and brings Value to its canonical form: an
// address unmapped, a prefix masked, a single-address prefix turned into an address, a fingerprint in lower
// case, an agent trimmed. The error says which field is wrong and what would be right.
func (d *Decision) Normalize() error {
	d.Value = strings.TrimSpace(d.Value)
	switch d.Scope {
	case ScopeAddress, ScopeRange:
		p, err := ParseAddressOrPrefix(d.Value)
		if err != nil {
			return fmt.Errorf("value: %w", err)
		}
		if p.IsSingleIP() {
			d.Scope, d.Value = ScopeAddress, p.Addr().String()
		} else {
			d.Scope, d.Value = ScopeRange, p.String()
		}
	case ScopeFingerprint:
		f, err := ParseFingerprint(strings.ToLower(d.Value))
		if err != nil {
			return fmt.Errorf("value: %w", err)
		}
		d.Value = f.String()
	case ScopeToken:
		t, err := ParseTokenID(d.Value)
		if err != nil {
			return fmt.Errorf("value: %w", err)
		}
		d.Value = t.String()
	case ScopeAgent:
		if n := len(d.Value); n < 3 || n > 256 {
			return fmt.Errorf("value: an agent needs 3 to 256 characters, not %d", n)
		}
	default:
		return fmt.Errorf("scope: %q is not enforced by this version: use address, range, fingerprint, agent or token", d.Scope)
	}
	switch d.Action {
	case Allow, Throttle, Challenge, Tarpit, Deny:
	default:
		return fmt.Errorf("action: a decision cannot %q: use allow, throttle, challenge, tarpit or deny", d.Action)
	}
	switch kind, name, named := strings.Cut(d.Origin, ":"); kind {
	case "operator", "engine":
		if named {
			return fmt.Errorf("origin: %q takes no name", kind)
		}
	case "list", "peer", "rule":
		if name == "" {
			return fmt.Errorf("origin: %q needs a name, as in %q", d.Origin, kind+":NAME")
		}
	default:
		return fmt.Errorf("origin: unknown origin %q: use operator, engine, rule:NAME, list:NAME or peer:NAME", d.Origin)
	}
	if len(d.Reason) > MaxDecisionReason {
		return fmt.Errorf("reason: %d bytes, at most %d", len(d.Reason), MaxDecisionReason)
	}
	if !d.Expires.IsZero() && !d.Expires.After(d.Created) {
		return fmt.Errorf("expires: %s is not after created %s", d.Expires.Format(time.RFC3339), d.Created.Format(time.RFC3339))
	}
	return nil
}

// ParseAddressOrPrefix reads "192.0.2.1", "192.0.2.0/24" or their IPv6 forms. IPv4-in-IPv6
// is folded to IPv4, host bits are masked, zones are refused.
func ParseAddressOrPrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is not an IP address", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR range such as 192.0.2.0/24 or 2001:db8::/32", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q: write the IPv4 range itself", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
