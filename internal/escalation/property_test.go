package escalation

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// extremes are values far out on either side of what a feature can be.
func extremes() []float64 { return []float64{-1, 0, 0.001, 0.5, 1, 3, 100, 1e6, 1e300} }

func TestNoSingleObservationChangesAVerdict(t *testing.T) {
	e := newEngine(t, func(o *Options) { o.Settings.Answers = 0 })
	bases := map[string]values{"nothing else observed": {}, "otherwise a reader": reader()}
	families := []defense.AgentFamily{
		defense.AgentUnknown, defense.AgentNone, defense.AgentBrowser, defense.AgentCrawler, defense.AgentFeed, defense.AgentGit, defense.AgentTool, defense.AgentApp,
	}
	for name, base := range bases {
		for _, f := range behaviour.Schema() {
			for _, x := range extremes() {
				for _, family := range families {
					for _, kind := range []defense.CaseKind{defense.CaseClient, defense.CaseCampaign} {
						c := client("192.0.2.1", base.with(values{f.Name: x}))
						if kind == defense.CaseCampaign {
							c = campaign("pattern:9f2c41d07b3ea865", 1000, base.with(values{f.Name: x}))
						}
						c.Family = family
						j := judge(t, e, c)
						trap := f.Name == "traps" && x >= 1 && kind == defense.CaseClient && family != defense.AgentFeed && family != defense.AgentGit
						if want := defense.OutcomeDecided; trap && (j.Outcome != want || action(j) != defense.Challenge) {
							t.Errorf("%s, %s, %s = %g: %s, %s; want a challenge", name, family, f.Name, x, j.Outcome, action(j))
						}
						if !trap && j.Outcome == defense.OutcomeDecided {
							t.Errorf("%s, %s, %s, %s = %g decides:\n%s", name, kind, family, f.Name, x, explain(j))
						}
					}
				}
			}
		}
	}
}

// permitted reports what is wrong with a judgement by the contract of automatic decisions, whatever the case.
func permitted(c *defense.Case, j *defense.Judgement, groups int) string {
	if !(j.Score >= 0 && j.Score <= 1) {
		return "the score is no probability"
	}
	if (j.Outcome == defense.OutcomeDecided) != (len(j.Proposals) > 0) {
		return "an outcome that does not go with the proposals"
	}
	for _, s := range j.Stages {
		if math.IsNaN(s.Score) || s.Sentence == "" && s.Problem == "" {
			return "a stage without score or sentence"
		}
	}
	for _, p := range j.Proposals {
		d := defense.Decision{Scope: p.Scope, Value: p.Value, Action: p.Action, Origin: "engine", Reason: p.Reason, Created: at(), Expires: at().Add(time.Duration(p.Seconds) * time.Second)}
		if err := d.Normalize(); err != nil || d.Value != p.Value || d.Scope != p.Scope {
			return "a proposal that is no decision"
		}
		single := p.Scope == defense.ScopeAddress
		if r, err := netip.ParsePrefix(p.Value); err == nil && r.Addr().Is6() && r.Bits() >= 64 {
			single = true
		}
		switch {
		case p.Action == defense.Allow || p.Action == defense.Observe || p.Action == defense.Charge:
			return "an action that stops nobody"
		case !single && (p.Action == defense.Deny || p.Action == defense.Tarpit || p.Seconds > 3600 || c.Posture < defense.Guarded):
			return "too much for more than one client"
		case c.Kind == defense.CaseCampaign && p.Action != defense.Challenge && p.Action != defense.Throttle:
			return "too much for a campaign"
		case c.Identity.Status == defense.IdentityVerified || c.ObserveOnly:
			return "a decision where there must be none"
		case p.Action > defense.Challenge && groups < 3:
			return "too much for so little evidence"
		}
	}
	return ""
}

// randomCase makes a case of features that are near a reader's, near a scraper's, or anything.
func randomCase(r *rand.Rand) *defense.Case {
	f := values{}
	near := []values{reader(), scraper(), quietCrowd(), scraper().with(values{"challenged": 150, "solved": 0, "score": 40})}
	if r.IntN(2) == 0 {
		near = near[3:]
	}
	for _, s := range behaviour.Schema() {
		switch r.IntN(10) {
		case 0, 1:
		case 2:
			f[s.Name] = extremes()[r.IntN(len(extremes()))]
		default:
			if x, ok := near[r.IntN(len(near))][s.Name]; ok {
				f[s.Name] = x * (0.5 + r.Float64())
			}
		}
	}
	c := client("192.0.2.1", f)
	if r.IntN(2) == 0 {
		c = campaign([]string{"pattern:9f2c41d07b3ea865", "program:9f2c41d07b3ea865", "192.0.2.0/24", "2001:db8::/48", "nonsense"}[r.IntN(5)], r.Uint64N(2000), f)
	}
	c.Family = defense.AgentFamily(r.IntN(8))
	c.Identity.Status = defense.IdentityStatus(r.IntN(4))
	c.Identity.Crawler = []string{"", "googlebot", "gptbot", "unheard-of"}[r.IntN(4)]
	c.Posture = defense.Posture(r.IntN(3))
	if r.IntN(3) == 0 {
		c.Readers = r.Uint64N(500)
	}
	c.ObserveOnly = r.IntN(8) == 0
	c.Strikes = r.IntN(20)
	return c
}

func TestWhateverTheCaseAJudgementKeepsTheContract(t *testing.T) {
	e := newEngine(t, func(o *Options) { o.Settings.Answers = 0 })
	r := rand.New(rand.NewPCG(1, 2))
	tally := make(map[string]int)
	for range 6_000 {
		c := randomCase(r)
		j := judge(t, e, c)
		v := newView(c)
		w := weigh(e.rules, v, &e.s.Evidence)
		if problem := permitted(c, j, len(w.against(e.s.Evidence.Least))); problem != "" {
			b, _ := json.Marshal(c)
			t.Fatalf("%s: %s\n%s", problem, b, explain(j))
		}
		var sum float64
		for _, p := range w.parts {
			sum += p.LogOdds
			if math.Abs(p.LogOdds) > e.s.Evidence.MaxFeature {
				t.Fatalf("%s contributes %g", p.Name, p.LogOdds)
			}
		}
		if math.Abs(sum-w.sum) > 1e-9 {
			t.Fatalf("the parts add up to %g, not %g", sum, w.sum)
		}
		for group, odds := range w.groups {
			if math.Abs(odds) > e.s.Evidence.MaxGroup+1e-9 {
				t.Fatalf("%s contributes %g", group, odds)
			}
		}
		if again := judge(t, e, c); again.Score != j.Score || !slices.Equal(again.Proposals, j.Proposals) {
			t.Fatalf("judged again: %g, not %g", again.Score, j.Score)
		}
		tally[string(c.Kind)+" "+string(j.Outcome)+" "+action(j).String()]++
	}
	// The cases must reach what is tested.
	for _, want := range []string{
		"client clear allow", "client watch allow", "client decided throttle", "client decided challenge", "client decided tarpit", "client decided deny",
		"campaign clear allow", "campaign watch allow", "campaign decided throttle", "campaign decided challenge",
	} {
		if tally[want] < 10 {
			t.Errorf("%q came up %d times: %v", want, tally[want], tally)
		}
	}
}

func TestWhatWasNotObservedSaysNothing(t *testing.T) {
	e := newEngine(t, func(o *Options) { o.Settings.Answers = 0 })
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		f := values{}
		for _, s := range behaviour.Schema() {
			f[s.Name] = x
		}
		for _, c := range []*defense.Case{client("192.0.2.1", f), campaign("pattern:9f2c41d07b3ea865", 50, f)} {
			if j := judge(t, e, c); math.Abs(j.Score-e.s.Prior) > 1e-9 || j.Outcome != defense.OutcomeClear {
				t.Errorf("%g: %s", x, explain(j))
			}
		}
	}
}

func TestEveryFeatureOfARuleIsInTheSchema(t *testing.T) {
	known := map[string]bool{"identity": true}
	for _, f := range behaviour.Schema() {
		known[f.Name] = true
	}
	for _, r := range newRules() {
		if !known[r.feature] {
			t.Errorf("%q is not in the schema", r.feature)
		}
		for i, p := range r.curve {
			if i > 0 && p.x <= r.curve[i-1].x {
				t.Errorf("%s: the curve does not ascend", r.feature)
			}
			if p.odds > 0 && r.bad == nil || p.odds < 0 && r.good == nil {
				t.Errorf("%s: no sentence for %g", r.feature, p.odds)
			}
		}
	}
}

// FuzzJudge feeds cases as the network may bring them.
func FuzzJudge(f *testing.F) {
	for _, c := range []*defense.Case{client("192.0.2.1", scraper()), campaign("192.0.2.0/24", 99, quietCrowd()), client("2001:db8::/64", reader().with(values{"traps": 1}))} {
		b, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	e := newEngine(f, func(o *Options) { o.Settings.Answers = 0 })
	f.Fuzz(func(t *testing.T, b []byte) {
		var c defense.Case
		if json.Unmarshal(b, &c) != nil {
			return
		}
		j, err := e.Judge(t.Context(), &c)
		if err != nil {
			return
		}
		groups := len(weigh(e.rules, newView(&c), &e.s.Evidence).against(e.s.Evidence.Least))
		if problem := permitted(&c, j, groups); problem != "" {
			t.Fatalf("%s:\n%s", problem, explain(j))
		}
	})
}
