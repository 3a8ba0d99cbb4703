package intake

import (
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/model"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/robots"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestACampaignEndsInADecisionAndAnAlert plays a campaign of quiet clients among readers, batch by batch over HTTP, to the
// casebook and the engine that a program has.
func TestACampaignEndsInADecisionAndAnAlert(t *testing.T) {
	t.Parallel()
	scenario, err := simulate.Find("campaign")
	if err != nil {
		t.Fatal(err)
	}
	guarded := defense.Guarded
	start := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	played, _, err := simulate.Events(t.Context(), scenario, simulate.EventsOptions{Options: simulate.Options{Seed: 7, Scale: 0.08}, Start: start, Posture: &guarded})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(played, func(a, b simulate.LabelledEvent) int { return a.Event.Time.Compare(b.Event.Time) })
	labels := map[string]simulate.Label{}
	for _, e := range played {
		record.Bound(e.Event)
		labels[e.Event.Client.Address] = e.Label
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(start))
		weights, err := model.Default()
		if err != nil {
			t.Fatal(err)
		}
		engine, err := escalation.New(escalation.Options{Settings: escalation.DefaultSettings(), Model: weights, Now: time.Now, Log: silent})
		if err != nil {
			t.Fatal(err)
		}
		rules := robots.Parse([]byte(simulate.Robots))
		p := newParts(t, time.Now, func(o *Options) {
			o.Judge = engine
			o.Book = casebook.New(casebook.Options{NewID: newIDs(), Now: time.Now,
				Robots: func(_, agent, path string) (bool, bool) { return rules.Disallowed(agent, path), true }})
		})
		cases := map[string]defense.Case{}
		p.s.o.OnCase = func(c defense.Case) { p.alerts.mu.Lock(); cases[c.ID] = c; p.alerts.mu.Unlock() }
		h, err := handlerOf(p.s)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, p.s)
		var firstDecision time.Time
		var batch []*defense.Event
		for i, e := range played {
			batch = append(batch, e.Event)
			if i+1 < len(played) && played[i+1].Event.Time.Sub(batch[0].Time) < time.Second {
				continue
			}
			time.Sleep(time.Until(e.Event.Time))
			if r, code := post(t, h, batch...); code != http.StatusAccepted || r.Accepted != len(batch) {
				t.Fatalf("%d %+v", code, r)
			}
			batch = nil
			if firstDecision.IsZero() && p.log.Set().Len() > 0 {
				firstDecision = time.Now()
			}
		}
		// What campaigns are dealt with by are short decisions, renewed while they last: take those of the end.
		inForce := p.log.Set().List(decision.Filter{}, time.Now(), 1000)
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if p.archive.len() != len(played) {
			t.Errorf("%d of %d events archived", p.archive.len(), len(played))
		}
		var campaigns []defense.Case
		for _, c := range cases {
			if c.Kind == defense.CaseCampaign && c.Outcome == defense.OutcomeDecided {
				campaigns = append(campaigns, c)
			}
		}
		if len(campaigns) == 0 {
			t.Fatalf("no campaign was decided on; %d cases", len(cases))
		}
		for _, c := range campaigns {
			readers := 0
			for _, who := range c.Members.Sample {
				if labels[who].Expectation() == simulate.ExpectAdmit {
					readers++
				}
			}
			t.Logf("campaign %s: %d members, %d events, score %.2f, %d decisions, %d readers among %d examples", c.Key, c.Members.Count, c.EventCount, c.Score, len(c.DecisionIDs), readers, len(c.Members.Sample))
			if len(c.Stages) == 0 || len(c.DecisionIDs) == 0 {
				t.Errorf("case %+v", c)
			}
		}
		wide := 0
		for _, d := range inForce {
			if d.Origin != "engine" || d.CaseID == "" || d.Expires.IsZero() {
				t.Errorf("decision %+v", d)
			}
			switch {
			case d.Scope != defense.ScopeAddress:
				wide++
				if d.Action != defense.Challenge && d.Action != defense.Throttle {
					t.Errorf("%s on %s %s", d.Action, d.Scope, d.Value)
				}
			case labels[d.Value].Expectation() == simulate.ExpectAdmit && (d.Action == defense.Deny || d.Action == defense.Tarpit):
				t.Errorf("a reader at %s meets %s", d.Value, d.Action)
			}
		}
		if wide == 0 {
			t.Errorf("no decision on what the campaign has in common among %d", len(inForce))
		}
		raised := map[string]int{}
		for _, a := range p.alerts.all() {
			raised[a.Kind]++
		}
		if raised["campaign"] == 0 {
			t.Errorf("alerts %v", raised)
		}
		t.Logf("%d events; %d cases, %d decisions made, %d in force, the first after %s; alerts %v", len(played), len(cases), p.s.Stats().Decided, len(inForce), firstDecision.Sub(start), raised)
	})
}
