package policy

import (
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

// BenchmarkEvaluate is the policy's share of a verdict under the default policy.
func BenchmarkEvaluate(b *testing.B) {
	for _, bm := range []struct {
		name string
		p    *defense.Profile
		sig  []defense.Signal
	}{
		{"chrome", chrome(), nil},
		{"chrome-signals", chrome(), []defense.Signal{{Name: "no-sec-fetch", Weight: 30}, {Name: "no-client-hints", Weight: 15}}},
		{"gptbot", crawler("gptbot", "GPTBot", defense.PurposeAITraining), nil},
		{"unknown-bot", agent(defense.AgentUnknown, "NiceBot/1.0 (+https://example.com/bot)"), nil},
	} {
		for _, preset := range presetNames() {
			b.Run(bm.name+"/"+preset, func(b *testing.B) {
				pol := mustLoad(b, preset)
				in := &Input{Profile: bm.p, Signals: bm.sig, Posture: defense.Guarded}
				var out Outcome
				b.ReportAllocs()
				for b.Loop() {
					s := pol.Section(bm.p.Host)
					bm.p.Class = s.Class(bm.p)
					s.Evaluate(in, &out)
				}
			})
		}
	}
}

// BenchmarkBudgets asks all budgets of the default policy whether they cover a request.
func BenchmarkBudgets(b *testing.B) {
	pol, p := mustLoad(b, "readers-first"), chrome()
	b.ReportAllocs()
	for b.Loop() {
		budgets := pol.Section(p.Host).Budgets()
		n := 0
		for i := range budgets {
			if budgets[i].Covers(p) {
				n++
			}
		}
		if n == 0 {
			b.Fatal("no budget covers a page")
		}
	}
}

// BenchmarkInterpreted is what a condition costs that cannot be lowered.
func BenchmarkInterpreted(b *testing.B) {
	pol := mustCompile(b, `rules: [{name: x, when: 'signals.exists(s, s.startsWith("no-"))', action: deny}]`)
	in := &Input{Profile: chrome(), Signals: []defense.Signal{{Name: "a"}, {Name: "b"}}}
	var out Outcome
	b.ReportAllocs()
	for b.Loop() {
		pol.Section("").Evaluate(in, &out)
	}
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load("readers-first", Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestJudgingAPageAllocatesNothing(t *testing.T) {
	race.SkipAllocations(t)
	pol, p := mustLoad(t, "readers-first"), chrome()
	in := &Input{Profile: p, Signals: []defense.Signal{{Name: "no-sec-fetch", Weight: 30}}, Posture: defense.Siege}
	var out Outcome
	pol.Section(p.Host).Evaluate(in, &out) // grows out's slices
	if n := testing.AllocsPerRun(100, func() { pol.Section(p.Host).Evaluate(in, &out) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
