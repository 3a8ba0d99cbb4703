package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

// fingerprintOf is the widest fingerprint of a page that chrome opens.
func fingerprintOf(p *defense.Profile) string {
	return defense.Fingerprints(p.Agent.Text.Value, p.Headers.Shape, p.TLS.JA4, p.Path, p.Query)[defense.FingerprintProgram].String()
}

// What the engine decides about many clients at once meets readers too: it waits until the site is under strain.
func TestTheEnginesWideDecisionsAreCarriedOutUnderStrainOnly(t *testing.T) {
	program := fingerprintOf(chrome("/"))
	for _, on := range []string{program, "203.0.113.0/24", "203.0.113.6/31", "agent Chrome"} {
		t.Run(on, func(t *testing.T) {
			w := newWorld(t, rules)
			w.decide(t, "challenge by engine on "+on)
			for posture, want := range map[defense.Posture]defense.Action{
				defense.Calm: defense.Observe, defense.Guarded: defense.Challenge, defense.Siege: defense.Challenge,
			} {
				w.posture = posture
				v, x := w.explain(chrome("/"))
				if live := w.judge(chrome("/")); !cmp.Equal(live, v) {
					t.Errorf("%s: explained differently: %s", posture, cmp.Diff(live, v))
				}
				if v.Action != want || v.Intended != defense.Challenge || v.DecisionID != "id1" || v.Rule != "decision:id1" || v.Reason == "" || v.Posture != posture {
					t.Errorf("%s: %+v", posture, v)
				}
				held := slices.ContainsFunc(x.Notes, func(s string) bool { return strings.Contains(s, "recorded, not carried out") }) &&
					strings.Contains(x.Decisions[0].Note, "held back")
				if held != (posture == defense.Calm) {
					t.Errorf("%s: %v, %v", posture, x.Decisions, x.Notes)
				}
				if v := w.judge(chrome("/", cleared)); v.Action != defense.Allow || v.Intended != defense.Allow {
					t.Errorf("%s, with clearance: %s, intended %s", posture, v.Action, v.Intended)
				}
				if v := w.judge(chrome("/", verified)); v.Action != defense.Allow {
					t.Errorf("%s, a verified crawler: %s", posture, v.Action)
				}
			}
		})
	}
}

func TestAWideDecisionAgainstTheRest(t *testing.T) {
	program := fingerprintOf(chrome("/"))
	elsewhere := fingerprintOf(chrome("/", func(p *defense.Profile) { p.Headers.Shape++ }))
	tests := []struct {
		name      string
		decisions string
		path      string
		changes   []change
		posture   defense.Posture
		want      defense.Action
		intended  defense.Action
		by        string
	}{
		{"one IPv6 client is no crowd", "deny by engine on 2001:db8::/64", "/", []change{from("2001:db8::7")}, defense.Calm, defense.Deny, defense.Deny, "decision:"},
		{"an address is no crowd", "deny by engine", "/", nil, defense.Calm, defense.Deny, defense.Deny, "decision:"},
		{"an operator's is carried out at once", "challenge by operator on " + program, "/", nil, defense.Calm, defense.Challenge, defense.Challenge, "decision:"},
		{"a list's too", "challenge by list:b on " + program, "/", nil, defense.Calm, defense.Challenge, defense.Challenge, "decision:"},
		{"the engine's allow needs no strain", "allow by engine on 203.0.113.0/24", "/forged", nil, defense.Calm, defense.Allow, defense.Allow, "decision:"},
		{"another program", "challenge by engine on " + elsewhere, "/", nil, defense.Siege, defense.Allow, defense.Allow, ""},
		{"one's own address before a crowd", "throttle by engine, challenge by engine on " + program, "/", nil, defense.Siege, defense.Throttle, defense.Throttle, "decision:id1"},

		{"in calm it lifts no rule's ban", "challenge by engine on " + program, "/denied", nil, defense.Calm, defense.Deny, defense.Deny, "denied"},
		{"under strain neither", "challenge by engine on " + program, "/denied", nil, defense.Siege, defense.Deny, defense.Deny, "denied"},
		{"nor a threshold's", "throttle by engine on " + program, "/forged", nil, defense.Siege, defense.Deny, defense.Deny, "threshold:90"},
		{"nor a list's", "challenge by engine on " + program + ", deny by list:b", "/", nil, defense.Siege, defense.Deny, defense.Deny, "decision:id2"},
		{"in calm a list's ban is carried out", "challenge by engine on " + program + ", deny by list:b", "/", nil, defense.Calm, defense.Deny, defense.Deny, "decision:id2"},
		{"it beats a milder list", "challenge by engine on " + program + ", throttle by list:b", "/", nil, defense.Siege, defense.Challenge, defense.Challenge, "decision:id1"},
		{"under strain it beats an allowing rule", "challenge by engine on " + program, "/allowed", nil, defense.Siege, defense.Challenge, defense.Challenge, "decision:"},
		{"in calm an allowing rule passes", "challenge by engine on " + program, "/allowed", nil, defense.Calm, defense.Observe, defense.Challenge, "decision:"},

		{"held back, an asset is what it would be", "challenge by engine on 203.0.113.0/24", "/", []change{kind(defense.KindAsset)}, defense.Calm, defense.Allow, defense.Allow, ""},
		{"held back, a feed would wait", "challenge by engine on 203.0.113.0/24", "/", []change{kind(defense.KindFeed)}, defense.Calm, defense.Observe, defense.Throttle, "decision:"},
		{"robots.txt stays readable", "challenge by engine on 203.0.113.0/24", "/robots.txt", []change{kind(defense.KindRobots)}, defense.Siege, defense.Allow, defense.Allow, ""},
		{"robots.txt is not even held back", "challenge by engine on 203.0.113.0/24", "/robots.txt", []change{kind(defense.KindRobots)}, defense.Calm, defense.Allow, defense.Allow, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, rules)
			w.posture = tt.posture
			w.decide(t, strings.Split(tt.decisions, ", ")...)
			v := w.judge(chrome(tt.path, tt.changes...))
			if v.Action != tt.want || v.Intended != tt.intended || tt.by != "" && !strings.HasPrefix(v.Rule, tt.by) {
				t.Errorf("%s, intended %s, by %q; want %s, %s, %q", v.Action, v.Intended, v.Rule, tt.want, tt.intended, tt.by)
			}
		})
	}
}

func TestWhatIsHeldBackIsStillChargedToBudgets(t *testing.T) {
	w := newWorld(t, `
budgets:
  - {name: pages, per: client, rate: 0.001/s, burst: 2}
`)
	w.decide(t, "challenge by engine on "+fingerprintOf(chrome("/")))
	for i, want := range []defense.Action{defense.Observe, defense.Observe, defense.Throttle} {
		if v := w.judge(chrome("/")); v.Action != want {
			t.Errorf("request %d: %s by %q, want %s", i, v.Action, v.Rule, want)
		}
	}
}

func TestVerdictsWithFingerprintsAllocateTheirTextsOnly(t *testing.T) {
	race.SkipAllocations(t)
	w := newWorld(t, "imports: [readers-first]")
	w.decide(t, "challenge by engine on "+fingerprintOf(chrome("/")))
	p := chrome("/")
	var v defense.Verdict
	if n := testing.AllocsPerRun(100, func() { w.Judge(p, &w.scratch, &v, nil) }); n > 2 {
		t.Errorf("%v allocations, want the texts of Verdict.Rule and Verdict.Reason", n)
	}
	if v.Action != defense.Observe {
		t.Errorf("%s by %q", v.Action, v.Rule)
	}
}
