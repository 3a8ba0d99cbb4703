package escalation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// verdict is what ought to be done about a case.
type verdict struct {
	outcome   defense.CaseOutcome
	proposals []defense.Proposal
	sentence  string // why that and nothing else
}

func cleared(why string) verdict { return verdict{outcome: defense.OutcomeClear, sentence: why} }
func watched(why string) verdict { return verdict{outcome: defense.OutcomeWatch, sentence: why} }

// decide turns a score and its evidence into an outcome. What forbids a decision comes first.
func (e *Engine) decide(v *view, w *evidence, p float64) verdict {
	c := v.c
	if c.Identity.Status == defense.IdentityVerified {
		return cleared("has proved to be the crawler that it says it is: no decision falls on it")
	}
	var d verdict
	if v.campaign {
		d = e.decideCampaign(v, w, p)
	} else {
		d = e.decideClient(v, w, p)
	}
	if c.ObserveOnly && d.outcome == defense.OutcomeDecided {
		return watched("would meet a decision (" + d.sentence + "), but its source does not vouch for the client's address, which may be somebody's proxy")
	}
	return d
}

func (e *Engine) decideClient(v *view, w *evidence, p float64) verdict {
	c := v.c
	client, ok := clientOf(c.Key)
	if !ok {
		return e.undecided(p, "the case is about no address, so that nothing can be decided about it")
	}
	if e.exempt.OverlapsPrefix(client) {
		return e.undecided(p, "the address is one that no decision falls on")
	}
	groups := w.against(e.s.Evidence.Least)
	reason := e.reason(v, w, groups)
	base := e.s.Durations.Base
	propose := func(a defense.Action, why string) verdict {
		scope, value := scopeOf(client)
		p := defense.Proposal{Scope: scope, Value: value, Action: a, Seconds: seconds(base, e.s.Durations.Max, c.Strikes), Reason: reason}
		return verdict{defense.OutcomeDecided, []defense.Proposal{p}, why}
	}

	t := &e.s.Thresholds
	welcome := e.mayBeWelcome(c)
	gentle := welcome || c.Family == defense.AgentFeed || c.Family == defense.AgentGit
	slow := gentle || c.Family == defense.AgentCrawler || c.Family == defense.AgentTool
	least, mild := t.Challenge, defense.Challenge
	if slow {
		least, mild = t.Throttle, defense.Throttle // it cannot solve a challenge, and says so
	}
	traps, _ := v.get("traps")
	switch {
	case p < least || len(groups) < e.s.Evidence.Challenge:
		if traps >= 1 && !gentle {
			base, reason = e.s.Durations.Trap, trapsClause(v, traps)+"; programs that open links ahead of their reader do so, too, hence a challenge and no more"
			return propose(defense.Challenge, "a link that people do not see leads to a challenge by itself, and to no more")
		}
		if p >= least {
			return e.undecided(p, fmt.Sprintf("only one kind of evidence (%s) speaks against it, and no single one changes a verdict", strings.Join(groups, "")))
		}
		return e.undecided(p, "the score asks for nothing")
	case p < t.Tarpit:
		return propose(mild, kinds(groups)+" speak against it")
	case gentle:
		return propose(mild, "may be a program that readers depend on, which has not proved to be it: throttled at most")
	case len(groups) < e.s.Evidence.Harder:
		return propose(mild, "only "+kinds(groups)+" speak against it: nothing harder")
	case c.Readers > 0 || v.persons >= 3:
		return propose(mild, "others share the address: nothing harder")
	}
	hard := e.noReader(v)
	switch {
	case hard == "":
		return propose(mild, kinds(groups)+" speak against it, but nothing that no reader would do: nothing harder")
	case p >= t.Deny:
		return propose(defense.Deny, kinds(groups)+" speak against it, and it "+hard)
	}
	return propose(defense.Tarpit, kinds(groups)+" speak against it, and it "+hard)
}

// undecided is what the score says where nothing is to be decided.
func (e *Engine) undecided(p float64, why string) verdict {
	if p < e.s.Thresholds.Watch {
		return cleared(why)
	}
	return watched(why)
}

// noReader returns what the client did that no reader would go on doing, "" for nothing. Only then may more than a challenge follow.
func (e *Engine) noReader(v *view) string {
	if v.c.Identity.Status == defense.IdentityImpostor {
		return "claims to be what it is not"
	}
	if share, ok := v.get("disallowed"); ok && v.automated && share >= 0.05 && share*v.pages >= 5 {
		return "ignores robots.txt"
	}
	shown, ok := v.get("challenged")
	solved, known := v.get("solved")
	// A reader whose browser keeps no cookies is shown challenges, too, again and again for the page that was wanted.
	breadth, varied := v.get("breadth")
	if ok && known && varied && shown >= float64(e.s.FailedChallenges) && solved <= 0.1 && breadth >= 0.6 {
		return "goes on from page to page in spite of every challenge"
	}
	return ""
}

// mayBeWelcome reports whether the client says that it is a crawler which a site depends on, and could not yet prove it.
func (e *Engine) mayBeWelcome(c *defense.Case) bool {
	if c.Identity.Status != defense.IdentityUnverified {
		return false
	}
	if e.purpose == nil {
		return true
	}
	p, ok := e.purpose(c.Identity.Crawler)
	if !ok {
		return true
	}
	return slices.Contains([]defense.Purpose{
		defense.PurposeSearch, defense.PurposeArchiver, defense.PurposePreview, defense.PurposeFeed, defense.PurposeMonitor, defense.PurposeUserAI,
	}, p)
}

func (e *Engine) decideCampaign(v *view, w *evidence, p float64) verdict {
	c := v.c
	groups := w.against(e.s.Evidence.Least)
	own := len(groups)
	if slices.Contains(groups, groupCrowd) {
		own-- // a crowd comes to a page that others talk about, too
	}
	action, least := defense.Challenge, e.s.Thresholds.Challenge
	switch c.Family {
	case defense.AgentFeed, defense.AgentGit:
		return cleared("many readers use the same program to follow feeds or fetch code: what meets a campaign would meet them all")
	case defense.AgentCrawler:
		if e.mayBeWelcome(c) {
			return e.undecided(p, "may be the machines of a crawler that readers depend on, which has not proved to be it")
		}
		if !slices.Contains(groups, groupRobots) && c.Identity.Status != defense.IdentityImpostor {
			return e.undecided(p, "a crawler that says so may come with many machines as long as it does what robots.txt asks")
		}
		action, least = defense.Throttle, e.s.Thresholds.Throttle
	case defense.AgentTool:
		action, least = defense.Throttle, e.s.Thresholds.Throttle
	}
	switch {
	case p < least:
		return e.undecided(p, "the score asks for nothing")
	case len(groups) < e.s.Evidence.Wide || own < 2:
		return e.undecided(p, fmt.Sprintf("only %s speak against it: too few for a decision on many", kinds(groups)))
	}

	reason := e.reason(v, w, groups)
	scope, value, obstacle := e.wide(v)
	if obstacle == "" {
		return verdict{defense.OutcomeDecided, []defense.Proposal{{
			Scope: scope, Value: value, Action: action, Seconds: seconds(e.s.Durations.Wide, maxWide, c.Strikes), Reason: reason,
		}}, kinds(groups) + " speak against it"}
	}
	var proposals []defense.Proposal
	for _, m := range clientsOf(c.Members.Sample) {
		if e.exempt.OverlapsPrefix(m) {
			continue
		}
		scope, value := scopeOf(m)
		proposals = append(proposals, defense.Proposal{
			Scope: scope, Value: value, Action: action, Seconds: seconds(e.s.Durations.Member, e.s.Durations.Max, c.Strikes), Reason: reason,
		})
	}
	if len(proposals) == 0 {
		return watched(obstacle + ", and no member is known by its address")
	}
	return verdict{defense.OutcomeDecided, proposals, obstacle + ": only the members that are known"}
}

// wide returns on what one decision would meet the whole campaign, or why there must be none.
func (e *Engine) wide(v *view) (scope defense.Scope, value, obstacle string) {
	c := v.c
	odd, readers := float64(c.Members.Count), float64(c.Readers)
	share := 1.0
	if odd+readers > 0 {
		share = readers / (readers + odd)
	}
	most := e.s.Readers.Program
	if f, err := defense.ParseFingerprint(c.Key); err == nil {
		scope, value = defense.ScopeFingerprint, f.String()
		if f.Kind == defense.FingerprintPattern {
			most = e.s.Readers.Pattern
		}
	} else if p, err := defense.ParseAddressOrPrefix(c.Key); err == nil {
		scope, value, most = defense.ScopeRange, p.String(), e.s.Readers.Range
		narrow := p.Addr().Is4() && p.Bits() >= 16 || p.Addr().Is6() && p.Bits() >= 32
		switch {
		case e.exempt.OverlapsPrefix(p):
			return scope, value, "the network holds addresses that no decision falls on"
		case !narrow:
			return scope, value, "the network is too large to be judged as one"
		case c.Members.Count < e.s.RangeMembers:
			return scope, value, fmt.Sprintf("only %d members in the network, fewer than %d", c.Members.Count, e.s.RangeMembers)
		}
	} else {
		return scope, "", "what the members share cannot be decided about"
	}
	if c.Posture < defense.Guarded {
		return scope, value, "the site is not under pressure"
	}
	if share > most {
		return scope, value, fmt.Sprintf("%s readers share what the members share, %s of all", number(readers), percent(share))
	}
	return scope, value, ""
}

// reason is what a decision gives as its reason.
func (e *Engine) reason(v *view, w *evidence, groups []string) string {
	s := w.sentence(v)
	if traps, _ := v.get("traps"); traps >= 1 && !v.campaign && !strings.Contains(s, "people do not see") {
		s += "; " + trapsClause(v, traps)
	}
	if slices.Contains(groups, groupReputation) {
		s += "; known from other sites"
	}
	return clean(s)
}

// kinds names the groups of evidence.
func kinds(groups []string) string {
	switch n := len(groups); n {
	case 0:
		return "no kind of evidence"
	case 1:
		return "one kind of evidence (" + groups[0] + ")"
	default:
		return fmt.Sprintf("%d kinds of evidence (%s)", n, strings.Join(groups, ", "))
	}
}

// scopeOf returns how a decision names one client.
func scopeOf(client netip.Prefix) (defense.Scope, string) {
	if client.IsSingleIP() {
		return defense.ScopeAddress, client.Addr().String()
	}
	return defense.ScopeRange, client.String()
}

// seconds is how long a decision lasts, doubled by each strike up to a limit.
func seconds(base, most time.Duration, strikes int) int64 {
	for ; strikes > 0 && base < most; strikes-- {
		base *= 2
	}
	return int64(min(base, most) / time.Second)
}
