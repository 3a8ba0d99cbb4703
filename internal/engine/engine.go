// Package engine turns a request profile into a verdict: decisions, signals,
// policy, budgets, and what the mode lets through, in that order.
//
// The same engine runs live in the edge, over access logs in replay, and for a
// single request in explain. It reads no clock and no configuration of its own:
// time is the profile's, so that a log of last week is judged as it would have been then.
package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// Decisions finds what has been decided about a client. It must not block.
type Decisions interface {
	Lookup(q *decision.Subject, now time.Time) decision.Match
}

// Options are the parts that an engine works with. All but Budgets are required.
type Options struct {
	Decisions Decisions
	Policy    func() *policy.Policy
	Budgets   *budget.Store // nil: budgets are not counted (explain of a single request)
	Posture   func() defense.Posture
	Mode      func() defense.Mode
}

// Engine judges requests. It is safe for concurrent use.
type Engine struct{ o Options }

// New returns an engine of these parts.
func New(o Options) *Engine { return &Engine{o: o} }

// Scratch is memory that one request at a time reuses. The zero value is ready.
type Scratch struct {
	signals [24]defense.Signal // as observed
	weighed [32]defense.Signal // with the policy's weights and rules added
	shadow  [4]defense.ShadowHit
	subject decision.Subject
	input   policy.Input
	outcome policy.Outcome
}

// defaultRetry is what a client is told to wait when neither rule nor budget says.
const defaultRetry = 30 * time.Second

// Judge decides what to do with the request and writes it to v. v's slices
// live in s and are valid until s is used again. With a non-nil x the way to the verdict is
// noted step by step, and no budget is charged.
//
// The profile's Class is set as a side effect: it is the policy that knows the classes.
func (e *Engine) Judge(p *defense.Profile, s *Scratch, v *defense.Verdict, x *Explanation) {
	*v = defense.Verdict{Mode: e.o.Mode(), Posture: e.o.Posture()}
	if v.Mode == defense.ModeOff {
		x.note("mode off: every request passes unjudged")
		return
	}
	section := e.o.Policy().Section(p.Host)
	p.Class = section.Class(p)

	s.subject = decision.Subject{
		Addr: p.Client.Address, Agent: p.Agent.Text.Value, Site: p.Site,
		Token: p.Clearance.ID, Shape: p.Headers.Shape, JA4: p.TLS.JA4, Path: p.Path, Query: p.Query,
	}
	match := e.o.Decisions.Lookup(&s.subject, p.Time)
	if match.Strong.OK && match.Strong.Rank == defense.RankOperatorAllow {
		decided(v, &match.Strong)
		x.decision(&match.Strong, "an operator's allow beats everything")
		return
	}

	wait := e.spendClearance(p, v, x)
	s.input = policy.Input{Profile: p, Posture: v.Posture, Signals: profile.Signals(s.signals[:0], p), Explain: x != nil}
	s.outcome = policy.Outcome{Signals: s.weighed[:0], Shadow: s.shadow[:0]}
	out := &s.outcome
	section.Evaluate(&s.input, out)
	v.Score, v.Signals, v.Shadow = out.Score, out.Signals, out.Shadow
	v.Intended, v.Rule, v.Reason, v.Basis, v.RetryAfter = out.Action, out.Rule, out.Reason, out.Basis, out.RetryAfter
	v.Ladder, v.Status = out.Ladder, out.Status
	x.policy(out)

	waits := e.applyDecisions(p, &match, v, x)
	satisfy(p, v, match.Created(v.DecisionID), x)
	spare(p, v, x)
	if wait > 0 && v.Intended == defense.Challenge {
		v.Intended, v.Rule, v.RetryAfter = defense.Throttle, RuleClearance, wait
		v.Reason = "more pages in a minute than the clearance is good for"
	}
	fit(p, v, x)
	// After fit: what it lets through must not go free of charge. What is always readable could
	// not be throttled, so it costs nothing.
	if !v.Intended.Stops() && !p.Kind.AlwaysReadable() {
		e.charge(p, section, v, x)
	}
	v.Action = carriedOut(v, x)
	if waits != nil {
		holdBack(p, waits, v, x)
	}
	if v.Action == defense.Throttle && v.RetryAfter == 0 {
		v.RetryAfter = defaultRetry
	}
}

func decided(v *defense.Verdict, f *decision.Found) {
	v.Action, v.Intended, v.RetryAfter = f.Action, f.Action, 0
	v.Ladder, v.Status = defense.Ladder{}, 0
	v.DecisionID, v.Rule, v.Reason = f.ID, "decision:"+f.ID, f.Reason
	v.Basis = defense.BasisJudged
	if f.Rank >= defense.RankOperatorBan {
		v.Basis = defense.BasisOperator
	}
	if v.Reason == "" {
		v.Reason = "decided by " + f.Origin
	}
}

// applyDecisions places decisions among the policy's rules by the precedence
// operator, verified identity, engine, rule, peer, list. It returns a decision that waits for a
// tenser posture, nil if none does.
//
// What the engine decides about more than one client meets readers too. So it never stands in for something
// sterner, which was meant for this client, and is carried out only while the site is under strain.
func (e *Engine) applyDecisions(p *defense.Profile, m *decision.Match, v *defense.Verdict, x *Explanation) *decision.Found {
	strong := &m.Strong
	if strong.OK && strong.Rank < defense.RankVerified && p.Identity.Status == defense.IdentityVerified {
		x.decision(strong, "not applied: the client's identity is verified")
		strong = &decision.Found{}
	}
	crowd := strong.OK && strong.Wide && strong.Rank == defense.RankEngine && strong.Action.Stops()
	if strong.OK && !crowd {
		x.decision(strong, "beats rules and scores")
		decided(v, strong)
		return nil
	}
	applyWeak(p, &m.Weak, v, x)
	switch {
	case !crowd:
	case strong.Action < v.Intended:
		x.decision(strong, "milder than what is asked for anyway")
	case v.Posture == defense.Calm:
		x.decision(strong, "held back: about more than one client, it is carried out in posture guarded or siege only")
		return strong
	default:
		x.decision(strong, "beats rules and scores")
		decided(v, strong)
	}
	return nil
}

// applyWeak applies a decision of a rule, peer or list.
func applyWeak(p *defense.Profile, weak *decision.Found, v *defense.Verdict, x *Explanation) {
	if !weak.OK {
		return
	}
	switch {
	case p.Identity.Status == defense.IdentityVerified:
		x.decision(weak, "not applied: the client's identity is verified")
	case ruleDecided(v):
		if x != nil { // the note is made for who reads it: every request would pay for it
			x.decision(weak, fmt.Sprintf("not applied: rule %q comes before lists and peers", v.Rule))
		}
	case weak.Action == defense.Allow:
		// An allow of a list or peer beats only lists and peers: it lifts no threshold.
		x.decision(weak, "beats only other lists and peers")
	case weak.Action < v.Intended:
		x.decision(weak, "milder than what the score asks for")
	default:
		x.decision(weak, "applied")
		decided(v, weak)
	}
}

// spendClearance takes a page from the budget of the clearance that a solved challenge earned. When the day's is spent, the
// clearance is none: where one is needed, the client is challenged again. When the minute's is, it is none for
// as long as wait says, and the client is to wait where it would be challenged.
func (e *Engine) spendClearance(p *defense.Profile, v *defense.Verdict, x *Explanation) (wait time.Duration) {
	c := &p.Clearance
	if !c.Valid || c.Name != "" || !p.Kind.Challengeable() {
		return 0
	}
	if x != nil {
		x.note("clearance %s is good for %d pages a minute, %d a day", c.ID, c.Minute, c.Day)
		return 0
	}
	minute, day, retry := e.spend(c, p.Time)
	if minute && day {
		return 0
	}
	c.Valid = false
	if v.Spent = !day; v.Spent {
		return 0
	}
	return retry
}

// spend takes one request from a token's budgets, and says which of them had enough.
func (e *Engine) spend(c *defense.Clearance, now time.Time) (minute, day bool, retry time.Duration) {
	if e.o.Budgets == nil {
		return true, true, 0
	}
	take := func(limit string, n uint32, span time.Duration) (bool, time.Duration) {
		return e.o.Budgets.Take(budget.Key{Limit: limit, Token: uint64(c.ID)}, float64(n)/span.Seconds(), float64(n), c.Cost(), now)
	}
	if minute, retry = take("clearance minute", c.Minute, time.Minute); !minute {
		return false, true, retry
	}
	day, retry = take("clearance day", c.Day, 24*time.Hour)
	return true, day, retry
}

// satisfy lets a client pass that has solved the challenge which it would meet. Out of the tarpit it leads only when it was solved after that
// was decided: who earned a clearance first and was convicted later is not let go for it.
func satisfy(p *defense.Profile, v *defense.Verdict, since time.Time, x *Explanation) {
	if !p.Clearance.Valid {
		return
	}
	switch v.Intended {
	case defense.Challenge:
		if x != nil {
			x.note("clearance %s satisfies the challenge", p.Clearance.ID)
		}
		v.Reason = "has clearance: the challenge was passed before"
	case defense.Tarpit:
		if p.Clearance.Name != "" || !p.Clearance.Issued.After(since) {
			return
		}
		if x != nil {
			x.note("clearance %s was earned after that: the client found the tarpit's way out", p.Clearance.ID)
		}
		v.Reason = "has clearance: the tarpit's way out was found"
	default:
		return
	}
	v.Intended, v.RetryAfter = defense.Allow, 0
}

// spare keeps out of the tarpit who must not get lost in it, whoever wants them there: crawlers that proved who they are, since an index of
// made-up pages harms the site, and people with a session that the site gave them.
func spare(p *defense.Profile, v *defense.Verdict, x *Explanation) {
	switch {
	case v.Intended != defense.Tarpit:
	case p.Identity.Status == defense.IdentityVerified:
		x.note("a client whose identity is verified is refused, never tarpitted")
		v.Intended = defense.Deny
	case !p.LoggedIn:
	case p.Clearance.Valid:
		x.note("who is logged in is never tarpitted: throttled instead, since the challenge was passed before")
		v.Intended = defense.Throttle
	default:
		x.note("who is logged in is never tarpitted: challenged instead")
		v.Intended, v.Ladder, v.Status = defense.Challenge, defense.Ladder{}, 0
	}
}

// RuleClearance is the rule of a verdict that a clearance's own budget made.
const RuleClearance = "budget:clearance"

// holdBack makes the verdict say what the decision that waits for a tenser posture would do with the request,
// unless something else stops it.
func holdBack(p *defense.Profile, waits *decision.Found, v *defense.Verdict, x *Explanation) {
	if v.Intended.Stops() {
		return
	}
	then := *v
	decided(&then, waits)
	satisfy(p, &then, waits.Created(), x)
	spare(p, &then, x)
	if fit(p, &then, x); !then.Intended.Stops() {
		return
	}
	if x != nil {
		x.note("posture calm: %s is recorded, not carried out", then.Intended)
	}
	then.Action = defense.Observe
	*v = then
}

// ruleDecided reports whether one of the policy's rules, not a threshold, made the verdict.
func ruleDecided(v *defense.Verdict) bool {
	return v.Rule != "" && !strings.HasPrefix(v.Rule, "threshold:")
}

// charge takes the request from every budget that covers it; the strictest that is spent throttles.
func (e *Engine) charge(p *defense.Profile, section *policy.Section, v *defense.Verdict, x *Explanation) {
	issued := p.Clearance.Valid && p.Clearance.Name != ""
	if issued {
		e.chargeIssued(p, v, x)
	}
	budgets := section.Budgets()
	for i := range budgets {
		b := &budgets[i]
		if !b.Covers(p) {
			continue
		}
		if issued && (b.Per == policy.PerClient || b.Per == policy.PerPrefix) {
			continue // the owner has given this client a budget of its own
		}
		if x != nil {
			if v.Posture < b.Posture {
				x.note("budget %q: not in force below posture %s", b.Name, b.Posture)
			} else {
				x.note("budget %q: %g per second, burst %g, counted per %s", b.Name, b.Rate, b.Burst, b.Per)
			}
			continue
		}
		if v.Posture < b.Posture || e.o.Budgets == nil {
			continue
		}
		key, ok := budgetKey(b, p)
		if !ok {
			continue
		}
		ok, retry := e.o.Budgets.Take(key, b.Rate, b.Burst, 1, p.Time)
		if ok {
			continue
		}
		if b.Shadow() {
			v.Shadow = append(v.Shadow, defense.ShadowHit{Rule: "budget:" + b.Name, Action: defense.Throttle})
			continue
		}
		if v.Intended < defense.Throttle || retry > v.RetryAfter {
			v.Intended, v.Rule, v.Reason, v.Basis = defense.Throttle, "budget:"+b.Name, b.Reason, b.Basis
			v.RetryAfter = retry
		}
	}
}

// chargeIssued takes the request from the budget that came with an issued token.
func (e *Engine) chargeIssued(p *defense.Profile, v *defense.Verdict, x *Explanation) {
	if x != nil {
		x.note("token %q: %d requests a minute, %d a day, in place of the budgets per client", p.Clearance.Name, p.Clearance.Minute, p.Clearance.Day)
		return
	}
	if minute, day, retry := e.spend(&p.Clearance, p.Time); !minute || !day {
		v.Intended, v.Rule, v.Basis, v.RetryAfter = defense.Throttle, "token:"+p.Clearance.Name, defense.BasisCertain, retry
		v.Reason = "more requests than the token is good for"
	}
}

// fit makes the verdict answerable for the kind of request: only a navigation
// can solve a challenge, and what tells crawlers how to behave stays readable.
func fit(p *defense.Profile, v *defense.Verdict, x *Explanation) {
	if v.Intended == defense.Tarpit && p.Path == "/robots.txt" {
		// Also where the operator wants the client tarpitted: what the site asks of robots must not be made up.
		x.note("robots.txt is never of the tarpit")
		v.Intended, v.RetryAfter = defense.Allow, 0
		return
	}
	if v.Basis == defense.BasisOperator && v.Intended != defense.Challenge || !v.Intended.Stops() {
		return
	}
	switch {
	case p.Kind.AlwaysReadable() && !p.Trap: // the maze has sitemaps, too
		x.note("%s is always readable", p.Kind)
		v.Intended, v.RetryAfter = defense.Allow, 0
	case v.Intended != defense.Challenge:
	case p.Kind.Challengeable() && (p.Method == "GET" || p.Method == "HEAD" || v.Posture == defense.Siege):
	case p.Kind.Challengeable():
		// A challenge would lose what a reader has typed into a form.
		x.note("a form is not challenged below siege")
		v.Intended, v.RetryAfter = defense.Observe, 0
	case p.Kind == defense.KindAsset:
		// Browsers fetch fonts and crossorigin scripts without cookies: a reader
		// who passed would see a broken page.
		x.note("an asset is not challenged: browsers fetch some without cookies")
		v.Intended, v.RetryAfter = defense.Observe, 0
	default:
		x.note("a %s request cannot solve a challenge: throttled instead", p.Kind)
		v.Intended = defense.Throttle // Judge adds a Retry-After if the rule has none
	}
}

// carriedOut returns what the mode makes of the intended action.
func carriedOut(v *defense.Verdict, x *Explanation) defense.Action {
	if !v.Intended.Stops() {
		return v.Intended
	}
	switch v.Mode {
	case defense.ModeObserve:
		x.note("mode observe: %s is recorded, not carried out", v.Intended)
		return defense.Observe
	case defense.ModeCertain:
		if v.Basis == defense.BasisJudged {
			x.note("mode certain: %s rests on judgement, so it is recorded, not carried out", v.Intended)
			return defense.Observe
		}
	}
	return v.Intended
}

// budgetKey names the bucket that the request's budget is counted in; ok is false
// when the client has no address to be counted by.
func budgetKey(b *policy.Budget, p *defense.Profile) (k budget.Key, ok bool) {
	k = budget.Key{Limit: b.Name, Site: p.Site}
	switch b.Per {
	case policy.PerClient:
		k.Client = p.Client.Counted
	case policy.PerPrefix:
		k.Client = p.Client.Prefix
	case policy.PerClass:
		k.Class = p.Class
		return k, true
	default:
		return k, true
	}
	return k, k.Client.IsValid()
}
