package escalation

import (
	"cmp"
	"math"
	"slices"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// The groups of evidence: what one habit, or one setting of a program, moves together.
const (
	groupTiming     = "timing"
	groupPaths      = "paths"
	groupAssets     = "assets"
	groupReferrers  = "referrers"
	groupRobots     = "robots"
	groupTraps      = "traps"
	groupStatuses   = "statuses"
	groupHeaders    = "headers"
	groupIdentity   = "identity"
	groupChallenges = "challenges"
	groupCrowd      = "crowd"   // how many came, how suddenly, from where
	groupReaders    = "readers" // who else shares what the members share
	groupReputation = "reputation"
)

// maxContributions is how many parts a stage shows.
const maxContributions = 12

// view is a case as the rules see it.
type view struct {
	c        *defense.Case
	campaign bool
	// declared says that the client does not pretend to be a person: what people do and robots do not is then no evidence.
	declared bool
	// automated says that robots.txt speaks to it.
	automated bool
	// persons is how many people seem to share a client's address, at least 1: what they do together is not one's haste.
	persons float64
	// unserved says that most of what was asked for was answered with a challenge: who gets no page fetches no parts of one
	// and follows no links of it.
	unserved bool
	pages    float64 // navigations, on average for a campaign's members; 0 if not observed
}

func newView(c *defense.Case) *view {
	v := &view{c: c, campaign: c.Kind == defense.CaseCampaign, persons: 1}
	switch c.Family {
	case defense.AgentCrawler, defense.AgentTool:
		v.declared, v.automated = true, true
	case defense.AgentFeed, defense.AgentGit:
		v.declared = true
	case defense.AgentUnknown, defense.AgentNone:
		v.automated = true
	}
	v.pages, _ = v.get("navigations")
	if agents, ok := v.get("agents"); ok && !v.campaign {
		if shapes, ok := v.get("shapes"); ok {
			// A scraper that rotates agents sends them all with the headers of one program.
			v.persons = max(1, min(agents, shapes))
		}
	}
	if challenged, ok := v.get("challenged"); ok && challenged > 0 {
		served := v.pages - challenged
		v.unserved = served < v.pages/2 || !v.campaign && served < 3
	}
	return v
}

// get returns a feature. What is no number was not observed.
func (v *view) get(name string) (float64, bool) {
	x, ok := v.c.Features.Values[name]
	if !ok || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, false
	}
	return x, true
}

// evidence is what the features say.
type evidence struct {
	parts  []part             // those that say something, the weightiest first
	groups map[string]float64 // log-odds by group, bounded
	sum    float64
}

type part struct {
	group string
	defense.Contribution
}

// weigh turns a case's features into evidence.
func weigh(rules []rule, v *view, s *Evidence) *evidence {
	e := &evidence{groups: make(map[string]float64)}
	for i := range rules {
		r := &rules[i]
		if r.who == clients && v.campaign || r.who == campaigns && !v.campaign || r.undeclared && v.declared {
			continue
		}
		x, ok := v.get(r.feature)
		if r.value != nil {
			x, ok = r.value(v)
		}
		if !ok {
			continue
		}
		odds := r.curve.at(x)
		if odds > 0 && (r.served && v.unserved || !v.campaign && v.pages < r.pages) {
			odds = 0
		}
		if odds == 0 {
			continue
		}
		odds = max(-s.MaxFeature, min(s.MaxFeature, odds))
		text := r.bad
		if odds < 0 {
			text = r.good
		}
		e.parts = append(e.parts, part{r.group, defense.Contribution{Name: r.feature, Value: x, LogOdds: odds, Sentence: text(v, x)}})
		e.groups[r.group] += odds
	}
	slices.SortStableFunc(e.parts, func(a, b part) int { return cmp.Compare(math.Abs(b.LogOdds), math.Abs(a.LogOdds)) })

	// What a group says beyond its bound is taken back from its parts in proportion, so that the parts shown still add up to the score.
	for group, sum := range e.groups {
		most := s.MaxGroup
		if group == groupCrowd || group == groupStatuses {
			most = min(most, maxMild) // readers come in crowds and meet dead links, too
		}
		if math.Abs(sum) <= most {
			continue
		}
		bounded := math.Copysign(most, sum)
		for i := range e.parts {
			if e.parts[i].group == group {
				e.parts[i].LogOdds *= bounded / sum
			}
		}
		e.groups[group] = bounded
	}
	slices.SortStableFunc(e.parts, func(a, b part) int { return cmp.Compare(math.Abs(b.LogOdds), math.Abs(a.LogOdds)) })
	for i := range e.parts { // in their order, so that the same features give the same sum to the last bit
		e.sum += e.parts[i].LogOdds
	}
	return e
}

// maxMild bounds the groups that crowds of readers fill as well.
const maxMild = 1.2

// contributions are the parts as a stage shows them.
func (e *evidence) contributions() []defense.Contribution {
	n := min(len(e.parts), maxContributions)
	out := make([]defense.Contribution, n)
	for i := range n {
		out[i] = e.parts[i].Contribution
	}
	return out
}

// against returns the groups that point towards automation, in alphabetical order.
func (e *evidence) against(least float64) []string {
	var out []string
	for group, sum := range e.groups {
		if sum >= least {
			out = append(out, group)
		}
	}
	slices.Sort(out)
	return out
}

// curve is a piecewise linear function from a measurement to log-odds. Its points ascend; beyond them it is flat.
type curve []struct{ x, odds float64 }

func (c curve) at(x float64) float64 {
	last := len(c) - 1
	switch {
	case x <= c[0].x:
		return c[0].odds
	case x >= c[last].x:
		return c[last].odds
	}
	i := 1
	for x > c[i].x {
		i++
	}
	a, b := c[i-1], c[i]
	return a.odds + (b.odds-a.odds)*(x-a.x)/(b.x-a.x)
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// logit of a probability that is kept away from certainty, which nobody has.
func logit(p float64) float64 {
	p = max(0.001, min(0.999, p))
	return math.Log(p / (1 - p))
}
