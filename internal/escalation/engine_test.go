package escalation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/reputation"
)

// fixed is a stage that says one thing.
type fixed struct {
	name  string
	o     Opinion
	err   error
	asked atomic.Int32
	do    func(ctx context.Context) error
}

func (f *fixed) Name() string { return f.name }
func (f *fixed) Judge(ctx context.Context, _ *defense.Case) (Opinion, error) {
	f.asked.Add(1)
	if f.do != nil {
		if err := f.do(ctx); err != nil {
			return Opinion{}, err
		}
	}
	return f.o, f.err
}

// stagesOf makes an engine of these stages only, each with the weight 1.
func stagesOf(t *testing.T, stages ...*fixed) *Engine {
	t.Helper()
	return newEngine(t, func(o *Options) {
		o.Settings.Stages, o.Settings.Weights = nil, map[string]float64{}
		for _, s := range stages {
			o.Extra = append(o.Extra, s)
			o.Settings.Stages = append(o.Settings.Stages, s.name)
			o.Settings.Weights[s.name] = 1
		}
	})
}

func names(j *defense.Judgement) string {
	var out []string
	for _, s := range j.Stages {
		out = append(out, s.Name)
	}
	return strings.Join(out, " ")
}

func TestStagesAddUpInLogOdds(t *testing.T) {
	e := stagesOf(t, &fixed{name: "a", o: Opinion{Score: 0.8, Weight: 1, Sentence: "a"}}, &fixed{name: "b", o: Opinion{Score: 0.6, Weight: 0.5, Sentence: "b"}}, &fixed{name: "c", o: Opinion{Score: 0.9, Sentence: "has no opinion"}})
	j := judge(t, e, client("192.0.2.1", nil))
	odds := func(p float64) float64 { return math.Log(p / (1 - p)) }
	if want := sigmoid(odds(0.1) + odds(0.8) + odds(0.6)/2); math.Abs(j.Score-want) > 1e-9 {
		t.Errorf("score %g, want %g", j.Score, want)
	}
	if j.Stages[1].Weight != 0.5 || j.Stages[2].Weight != 0 || j.Stages[0].At != at() {
		t.Errorf("%+v", j.Stages)
	}
}

func TestNoStageIsAskedOnceItIsSure(t *testing.T) {
	for score, want := range map[float64]string{0.999: "bot bot2 outcome", 0.001: "bot outcome", 0.5: "bot bot2 last outcome"} {
		last := &fixed{name: "last", o: Opinion{Score: 0.5, Weight: 1, Sentence: "x"}}
		e := stagesOf(t, &fixed{name: "bot", o: Opinion{Score: score, Weight: 1, Sentence: "x"}}, &fixed{name: "bot2", o: Opinion{Score: score, Weight: 1, Sentence: "x"}}, last)
		e.s.SureBot = 0.95
		if j := judge(t, e, client("192.0.2.1", nil)); names(j) != want {
			t.Errorf("%g: asked %s, want %s", score, names(j), want)
		}
	}
}

func TestAStageThatFailsIsToldAndLeftOut(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	tests := []struct {
		name string
		bad  *fixed
		want string
	}{
		{"an error", &fixed{err: errors.New("\x1b[2Jthe list is\naway"), o: Opinion{Score: 0.99, Weight: 1}}, " [2Jthe list is away"},
		{"a panic", &fixed{do: func(context.Context) error { panic("index out of range") }}, "a bug: panic: index out of range"},
		{"too slow", &fixed{do: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, context.DeadlineExceeded.Error()},
		{"no probability", &fixed{o: Opinion{Score: 7, Weight: 1}}, "between 0 and 1"},
		{"no number", &fixed{o: Opinion{Score: math.NaN(), Weight: 1}}, "between 0 and 1"},
		{"no weight", &fixed{o: Opinion{Score: 1, Weight: -1}}, "between 0 and 1"},
		{"a contribution that is no number", &fixed{o: Opinion{Score: 1, Weight: 1, Contributions: []defense.Contribution{{LogOdds: math.Inf(1)}}}}, "no number"},
	}
	for _, tt := range tests {
		tt.bad.name = "bad"
		good := &fixed{name: "good", o: Opinion{Score: 0.8, Weight: 1, Sentence: "x"}}
		e := stagesOf(t, tt.bad, good)
		e.stages[0].timeout = 5 * time.Millisecond
		j := judge(t, e, client("192.0.2.1", nil))
		s := j.Stages[0]
		if !strings.Contains(s.Problem, tt.want) || s.Weight != 0 || s.Score != 0.5 || good.asked.Load() != 1 {
			t.Errorf("%s: %+v", tt.name, s)
		}
		if !e.stages[0].state.Failing() {
			t.Errorf("%s: nobody would know", tt.name)
		}
		// What failed may be back: the answer was not kept.
		judge(t, e, client("192.0.2.1", nil))
		if good.asked.Load() != 2 {
			t.Errorf("%s: an answer without a stage was kept", tt.name)
		}
	}
}

func TestAJudgementEndsWithItsContext(t *testing.T) {
	slow := &fixed{name: "slow", do: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	e := stagesOf(t, slow)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if j, err := e.Judge(ctx, client("192.0.2.1", nil)); j != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v %v", j, err)
	}
	if e.stages[0].state.Failing() {
		t.Error("the stage is blamed for its caller's haste")
	}
}

func TestARevisionIsJudgedOnce(t *testing.T) {
	s := &fixed{name: "s", o: Opinion{Score: 0.8, Weight: 1, Sentence: "x", Contributions: []defense.Contribution{{Name: "a", LogOdds: 1}}}}
	e := stagesOf(t, s)
	c := client("192.0.2.1", reader().with(values{"traps": 1}))
	first := judge(t, e, c)
	again := judge(t, e, c)
	if d := cmp.Diff(first, again); d != "" || s.asked.Load() != 1 {
		t.Errorf("asked %d times: %s", s.asked.Load(), d)
	}
	// Whoever has the answer may do with it what they like.
	again.Stages[0].Contributions[0].Name, again.Proposals[0].Value, again.Stages[0].Sentence = "z", "z", "z"
	if d := cmp.Diff(first, judge(t, e, c)); d != "" {
		t.Errorf("the kept answer was changed: %s", d)
	}
	c.Revision++
	if judge(t, e, c); s.asked.Load() != 2 {
		t.Errorf("a new revision was not judged: asked %d times", s.asked.Load())
	}
}

func TestOnlyTheLatestAnswersAreKept(t *testing.T) {
	s := &fixed{name: "s", o: Opinion{Score: 0.8, Weight: 1, Sentence: "x"}}
	e := stagesOf(t, s)
	e.answers = newAnswers(2)
	ask := func(id string, want int32) {
		t.Helper()
		c := client("192.0.2.1", nil)
		c.ID = id
		judge(t, e, c)
		if n := s.asked.Load(); n != want {
			t.Errorf("%s: asked %d times, want %d", id, n, want)
		}
	}
	ask("a", 1)
	ask("b", 2)
	ask("a", 2)
	ask("c", 3) // b goes
	ask("a", 3)
	ask("b", 4)
	if n := len(e.answers.byID); n != 2 {
		t.Errorf("%d kept", n)
	}
}

func TestAnotherOpinionIsAskedForInTheGreyZoneOnly(t *testing.T) {
	advice := &advisor{score: 0.9, sentence: "looks like a scraper\x1b[2J"}
	e := newEngine(t, func(o *Options) { o.Opinion = advice })
	grey := scraper().with(values{"assets": 0.6, "referred": 0.3, "unlinked": 0.3, "breadth": 0.8})
	for i, tt := range []struct {
		name  string
		c     *defense.Case
		asked int
	}{
		{"a reader", client("192.0.2.1", reader()), 0},
		{"surely a scraper", client("192.0.2.1", scraper()), 0},
		{"doubtful", client("192.0.2.1", grey), 1},
		{"doubtful, and nothing would follow", func() *defense.Case { c := client("192.0.2.1", grey); c.ObserveOnly = true; return c }(), 0},
	} {
		tt.c.Revision, advice.asked = uint64(i), 0
		j := judge(t, e, tt.c)
		if advice.asked != tt.asked {
			t.Errorf("%s at %.2f: asked %d times", tt.name, j.Score, advice.asked)
		}
		if tt.asked == 1 && (j.Stages[1].Name != StageOpinion || j.Stages[1].Sentence != "looks like a scraper [2J") {
			t.Errorf("%s", explain(j))
		}
	}
}

type advisor struct {
	score    float64
	sentence string
	asked    int
}

func (a *advisor) Ask(context.Context, *defense.Case) (float64, string, error) {
	a.asked++
	return a.score, a.sentence, nil
}

type model struct {
	p  float64
	ok bool
}

func (m model) Predict(defense.Features) (float64, []defense.Contribution, bool) {
	return m.p, []defense.Contribution{{Name: "rate", Value: 3, LogOdds: 1, Sentence: "is fast"}}, m.ok
}
func (model) Version() string { return "m1" }

func TestTheModelHasASayButNotTheLastWord(t *testing.T) {
	with := func(m model) *Engine { return newEngine(t, func(o *Options) { o.Model = m }) }
	half := scraper().with(values{"assets": 1, "referred": 0.5, "unlinked": 0.2, "breadth": 0.8})
	low, high := judge(t, with(model{0.05, true}), client("192.0.2.1", half)), judge(t, with(model{0.95, true}), client("192.0.2.1", half))
	if !(low.Score < high.Score) || high.Stages[1].Sentence != "model m1 gives 95 % that this is automation" || len(high.Stages[1].Contributions) != 1 {
		t.Errorf("%s%s", explain(low), explain(high))
	}
	if j := judge(t, with(model{0.95, false}), client("192.0.2.1", half)); j.Stages[1].Weight != 0 {
		t.Errorf("a model without opinion counts: %s", explain(j))
	}
	for name, c := range map[string]*defense.Case{"a reader": client("192.0.2.1", reader()), "nothing observed": client("192.0.2.1", nil)} {
		if j := judge(t, with(model{1, true}), c); j.Outcome == defense.OutcomeDecided {
			t.Errorf("%s: the model alone decides:\n%s", name, explain(j))
		}
	}
}

type lists map[string]reputation.Verdict

func (l lists) Check(_ context.Context, c netip.Prefix) (reputation.Verdict, error) {
	v, ok := l[c.Addr().String()]
	if !ok {
		return reputation.Verdict{Score: 0.5, Sentence: "is on no list"}, nil
	}
	if v.Score == 0 {
		return reputation.Verdict{Score: 0.5}, errors.New("away")
	}
	return v, nil
}

func TestReputationIsOneVoice(t *testing.T) {
	listed := reputation.Verdict{Listed: []string{"drop"}, Score: 0.9, Sentence: "is listed by drop"}
	e := newEngine(t, func(o *Options) {
		o.Reputation, o.Settings.Answers = lists{"192.0.2.1": listed, "2001:db8:1:2::": listed, "192.0.2.66": {}}, 0
	})
	if j := judge(t, e, client("192.0.2.1", nil)); j.Outcome == defense.OutcomeDecided || j.Stages[1].Weight != 0.5 || j.Score <= e.s.Prior {
		t.Errorf("a listed address of which nothing is known:\n%s", explain(j))
	}
	if j := judge(t, e, client("2001:db8:1:2::/64", values{"navigations": 3})); j.Stages[1].Sentence != "is listed by drop" {
		t.Errorf("%s", explain(j))
	}
	// What else speaks against it is one group: with the list there are two.
	one := values{"navigations": 300, "rate": 90, "burst": 60, "regularity": 0.97}
	without := judge(t, e, client("192.0.2.3", one))
	with := judge(t, e, client("192.0.2.1", one))
	if without.Outcome != defense.OutcomeWatch || with.Outcome == defense.OutcomeClear || with.Score <= without.Score {
		t.Errorf("%s%s", explain(without), explain(with))
	}
	if j := judge(t, e, client("192.0.2.66", nil)); j.Stages[1].Problem != "away" || j.Stages[1].Weight != 0 {
		t.Errorf("%s", explain(j))
	}
	if j := judge(t, e, client("192.0.2.5", nil)); j.Stages[1].Weight != 0 || j.Score != judge(t, newEngine(t), client("192.0.2.5", nil)).Score {
		t.Errorf("not being listed is no evidence:\n%s", explain(j))
	}
}

func TestReputationOfACampaignIsThatOfItsMembers(t *testing.T) {
	known := lists{}
	var sample []string
	for i := range 40 {
		sample = append(sample, fmt.Sprintf("198.51.100.%d", i))
	}
	judgeWith := func(listed, away int) *defense.Judgement {
		clear(known)
		for i := range sample {
			switch {
			case i < listed:
				known[sample[i]] = reputation.Verdict{Listed: []string{"x"}, Score: 0.9}
			case i < listed+away:
				known[sample[i]] = reputation.Verdict{}
			}
		}
		e := newEngine(t, func(o *Options) { o.Reputation = known })
		c := campaign("pattern:9f2c41d07b3ea865", 600, values{"clients": 600})
		c.Members.Sample = sample
		return judge(t, e, c)
	}
	for _, tt := range []struct {
		listed, away int
		weight       float64
		want         string
	}{
		{40, 0, 0.5, "16 of 16 members asked about are on a list"},
		{20, 0, 0.5, "8 of 16 members asked about are on a list"},
		{3, 0, 0, "2 of 16 members asked about are on a list"},
		{0, 0, 0, "0 of 16 members asked about are on a list"},
		{0, 30, 0, "away"},
		{30, 10, 0.5, "12 of 12 members asked about are on a list"},
	} {
		s := judgeWith(tt.listed, tt.away).Stages[1]
		if s.Name != StageReputation || s.Weight != tt.weight || !strings.Contains(s.Sentence+s.Problem, tt.want) {
			t.Errorf("%d listed, %d away: %+v", tt.listed, tt.away, s)
		}
	}
}

func TestCasesThatNobodyWouldSendAreRefused(t *testing.T) {
	e := newEngine(t)
	many := make([]string, 65)
	features := values{}
	for i := range 300 {
		features[fmt.Sprint(i)] = 1
	}
	for field, change := range map[string]func(c *defense.Case){
		"id":              func(c *defense.Case) { c.ID = "" },
		"kind":            func(c *defense.Case) { c.Kind = "person" },
		"key":             func(c *defense.Case) { c.Key = strings.Repeat("x", 600) },
		"members.sample":  func(c *defense.Case) { c.Members.Sample = many },
		"features.values": func(c *defense.Case) { c.Features.Values = features },
		"strikes":         func(c *defense.Case) { c.Strikes = -1 },
	} {
		c := client("192.0.2.1", nil)
		change(c)
		var invalid *InvalidError
		if _, err := e.Judge(t.Context(), c); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := e.Judge(t.Context(), nil); err == nil {
		t.Error("no case was judged")
	}
}

func TestMetricsCountWhatCameOfIt(t *testing.T) {
	e := newEngine(t, func(o *Options) {
		o.Extra = []Stage{&fixed{name: StageModel, err: errors.New("broken")}}
	})
	judge(t, e, client("192.0.2.1", scraper()))
	judge(t, e, client("192.0.2.2", nil))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for key, want := range map[string]float64{
		"quickthorn_escalation_judgements_total client decided":   1,
		"quickthorn_escalation_judgements_total client clear":     1,
		"quickthorn_escalation_proposals_total challenge address": 1,
		"quickthorn_escalation_stage_failures_total model":        2,
		"quickthorn_escalation_stage_failures_total behaviour":    0,
		"quickthorn_escalation_stage_seconds behaviour":           2,
		"quickthorn_escalation_repeated_total":                    0,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %g, want %g (%v)", key, v, want, got)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	e := newEngine(b, func(o *Options) { o.Settings.Answers = 0 })
	c := client("192.0.2.1", scraper())
	b.ReportAllocs()
	for b.Loop() {
		judge(b, e, c)
	}
}
