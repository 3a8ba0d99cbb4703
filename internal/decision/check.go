package decision

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/multimatch"
)

// InvalidError says what is wrong with a decision.
type InvalidError struct {
	Field   string // JSON name of the field, "" when it cannot be told
	Problem string // what is wrong and what would be right
}

// Error returns "field: problem".
func (e *InvalidError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// ProtectedError refuses a decision that would stop a trusted proxy, and with it
// everybody behind it. It cannot be forced.
type ProtectedError struct {
	Value     string       // of the decision
	Protected netip.Prefix // the trusted range that it meets
}

// Error names both.
func (e *ProtectedError) Error() string {
	return fmt.Sprintf("value: %s would stop the trusted proxy %s and everybody behind it", e.Value, e.Protected)
}

// WideError refuses a decision that would stop so many that it is more likely a slip. It can be forced.
type WideError struct {
	Value string
	Whom  string // who would be stopped
}

// Error says who would be stopped and how to insist.
func (e *WideError) Error() string {
	return fmt.Sprintf("value: %s would stop %s: repeat with force if that is meant", e.Value, e.Whom)
}

// AutomaticError refuses what only an operator may decide.
type AutomaticError struct {
	Field   string
	Problem string
}

// Error returns "field: problem".
func (e *AutomaticError) Error() string { return e.Field + ": " + e.Problem }

// Widest ranges that a decision may stop without being forced.
const (
	widestIPv4 = 8
	widestIPv6 = 16
)

// maxAutomaticWide is how long a decision wider than one client may last when no operator took it.
const maxAutomaticWide = time.Hour

// Bounds on a decision's texts, in bytes; the reason's is defense.MaxDecisionReason.
const (
	maxOrigin = 128
	maxSite   = 255
	maxCaseID = 64
)

// ordinaryAgents are what readers' browsers send: an agent decision that matches
// one of them would stop readers, not robots.
func ordinaryAgents() [6]string {
	return [...]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
	}
}

// normalize brings d to its canonical form, with times in UTC and whole seconds
// (an expiry is rounded up, so that nothing ends early). Errors are *InvalidError.
func normalize(d *defense.Decision) error {
	d.Created = d.Created.UTC().Truncate(time.Second)
	if !d.Expires.IsZero() {
		e := d.Expires.UTC()
		if t := e.Truncate(time.Second); t.Equal(e) {
			d.Expires = t
		} else {
			d.Expires = t.Add(time.Second)
		}
	}
	if err := d.Normalize(); err != nil {
		field, problem, ok := strings.Cut(err.Error(), ": ")
		if !ok {
			return &InvalidError{Problem: err.Error()}
		}
		return &InvalidError{Field: field, Problem: problem}
	}
	for _, f := range [...]struct {
		name, text string
		most       int
	}{
		{"value", d.Value, 256}, {"origin", d.Origin, maxOrigin}, {"reason", d.Reason, defense.MaxDecisionReason},
		{"site", d.Site, maxSite}, {"caseId", d.CaseID, maxCaseID},
	} {
		if len(f.text) > f.most {
			return &InvalidError{f.name, fmt.Sprintf("%d bytes, at most %d", len(f.text), f.most)}
		}
		if !printable(f.text) {
			return &InvalidError{f.name, "only printable characters in UTF-8"}
		}
	}
	if !d.Created.IsZero() && !inRange(d.Created) {
		return &InvalidError{"created", "must lie between 1970 and 2106"}
	}
	if !d.Expires.IsZero() && !inRange(d.Expires) {
		return &InvalidError{"expires", "must lie before 2106; leave it out for a decision that lasts until it is deleted"}
	}
	return nil
}

func inRange(t time.Time) bool { return t.Unix() > 0 && t.Unix() <= math.MaxUint32 }

// printable reports whether s can be shown on a terminal or in a log as it is.
func printable(s string) bool {
	for i, r := range s {
		if r >= ' ' && r < 0x7f {
			continue
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// checkProtected refuses what would stop a trusted proxy. Errors are *ProtectedError.
func (s *Set) checkProtected(d *defense.Decision, p netip.Prefix) error {
	if !d.Action.Stops() {
		return nil
	}
	for _, q := range s.protected {
		if p.Overlaps(q) {
			return &ProtectedError{Value: d.Value, Protected: q}
		}
	}
	return nil
}

// checkWide refuses a likely slip: a ban of much of the internet or of ordinary
// browsers. Errors are *WideError. The decision is normalized.
func checkWide(d *defense.Decision) error {
	if !d.Action.Stops() {
		return nil
	}
	switch d.Scope {
	case defense.ScopeRange:
		p, err := netip.ParsePrefix(d.Value)
		if err != nil {
			return &InvalidError{"value", err.Error()}
		}
		widest := widestIPv4
		if p.Addr().Is6() {
			widest = widestIPv6
		}
		if p.Bits() < widest {
			return &WideError{Value: d.Value, Whom: fmt.Sprintf("more than a /%d", widest)}
		}
	case defense.ScopeFingerprint:
		if d.Action == defense.Deny || d.Action == defense.Tarpit {
			return &WideError{Value: d.Value, Whom: "everybody whose browser sends the same, readers included"}
		}
	case defense.ScopeAgent:
		m, err := multimatch.New([]multimatch.Pattern{{Text: d.Value, Boundary: true}})
		if err != nil {
			return &InvalidError{"value", err.Error()}
		}
		for _, ua := range ordinaryAgents() {
			if _, ok := m.First(ua); ok {
				return &WideError{Value: fmt.Sprintf("%q", d.Value), Whom: "ordinary browsers such as " + ua}
			}
		}
	}
	return nil
}

// AllowedError refuses an automatic decision on a client that the operator has allowed: it would have no effect.
type AllowedError struct {
	Value   string           // of the decision
	Allowed defense.Decision // the operator's
}

// Error names both.
func (e *AllowedError) Error() string {
	return fmt.Sprintf("value: %s is allowed by the operator's decision %s on %s, which beats it", e.Value, e.Allowed.ID, e.Allowed.Value)
}

// checkAllowed refuses an automatic decision whose every client the operator has allowed. Errors are
// *AllowedError. The decision is normalized.
func (s *Set) checkAllowed(d *defense.Decision, now time.Time) error {
	if !automatic(d) || !d.Action.Stops() || d.Scope != defense.ScopeAddress && d.Scope != defense.ScopeRange {
		return nil
	}
	p, err := defense.ParseAddressOrPrefix(d.Value)
	if err != nil {
		return &InvalidError{"value", err.Error()}
	}
	allowed := func(k key) error {
		for q := s.byKey.find(k); q.next(); {
			if e := q.e; e.rank == defense.RankOperatorAllow && !e.expired(now.Unix()) && (e.about.site == "" || e.about.site == d.Site) {
				return &AllowedError{Value: d.Value, Allowed: e.decision()}
			}
		}
		return nil
	}
	if err := allowed(keyOf(p.Addr(), p.Bits())); err != nil {
		return err
	}
	for q := range s.ranges.Load().Supernets(p) {
		if err := allowed(keyOf(q.Addr(), q.Bits())); err != nil {
			return err
		}
	}
	return nil
}

// automatic reports whether nobody but a program took the decision.
func automatic(d *defense.Decision) bool {
	r := d.Rank()
	return r == defense.RankEngine || r == defense.RankRule
}

// checkAutomatic holds decisions of the engine and of rules to one client: on
// anything wider they may slow down or ask, not refuse, and not for long.
// Errors are *AutomaticError. The decision is normalized.
func checkAutomatic(d *defense.Decision, now time.Time) error {
	if !automatic(d) {
		return nil
	}
	if d.Scope == defense.ScopeFingerprint && d.Action == defense.Allow {
		return &AutomaticError{"action", fmt.Sprintf("origin %s may not allow a fingerprint, which anybody can imitate: use challenge or throttle", d.Origin)}
	}
	if !d.Action.Stops() || d.Scope == defense.ScopeAddress {
		return nil
	}
	if p, err := netip.ParsePrefix(d.Value); d.Scope == defense.ScopeRange && err == nil && oneClient(p) {
		return nil
	}
	if d.Action == defense.Deny || d.Action == defense.Tarpit {
		return &AutomaticError{"action", fmt.Sprintf("origin %s may not %s more than one client: use challenge or throttle, or let an operator decide", d.Origin, d.Action)}
	}
	if d.Expires.IsZero() || d.Expires.Sub(now) > maxAutomaticWide {
		return &AutomaticError{"expires", fmt.Sprintf("origin %s may decide on more than one client for an hour at most", d.Origin)}
	}
	return nil
}
