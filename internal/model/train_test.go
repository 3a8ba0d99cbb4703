package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// planted draws samples from a known additive function of three features; a fourth says nothing.
func planted(n int, seed uint64, noise float64) []Sample {
	random := rand.New(rand.NewPCG(seed, 1))
	out := make([]Sample, n)
	for i := range out {
		values := map[string]float64{"rate": 60 * random.Float64(), "breadth": random.Float64(), "depth": random.Float64(), "hours": random.Float64()}
		if random.Float64() < 0.7 {
			values["referred"] = random.Float64()
		}
		human := random.Float64() >= sigmoid(effect(values))
		if random.Float64() < noise {
			human = !human
		}
		s := Sample{Origin: "planted", Slice: "any", Group: fmt.Sprint(i), Label: defense.LabelBot, Weight: 1, Features: features(values)}
		if human {
			s.Label = defense.LabelHuman
		}
		out[i] = s
	}
	return out
}

func rateEffect(x float64) float64 {
	if x >= 30 {
		return 1.5
	}
	return -1.5
}

func breadthEffect(x float64) float64 { return 1 - 2*math.Abs(x-0.5)*2 } // highest in the middle

func effect(values map[string]float64) float64 {
	sum := rateEffect(values["rate"]) + breadthEffect(values["breadth"])
	if x, ok := values["referred"]; ok {
		if x > 0.5 {
			return sum - 1
		}
		return sum + 1
	}
	return sum
}

func trained(t testing.TB, samples []Sample, change ...func(*TrainOptions)) *Model {
	t.Helper()
	o := TrainOptions{Version: "test", Seed: 1, Folds: 3, Rate: 0.2}
	for _, c := range change {
		c(&o)
	}
	m, err := Train(samples, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func shapeOf(t testing.TB, m *Model, name string) *Shape {
	t.Helper()
	for i := range m.file.Features {
		if s := &m.file.Features[i]; s.Name == name {
			return s
		}
	}
	t.Fatalf("the model does not use %s: %+v", name, m.file.Features)
	return nil
}

func TestTrainingFindsThePlantedFunction(t *testing.T) {
	m := trained(t, planted(4000, 1, 0), func(o *TrainOptions) { o.Smoothing = 0.001 })
	var worst float64
	for x := 0.025; x < 1; x += 0.05 { // not at the ends of ranges
		for _, c := range []struct {
			name string
			x    float64
			want float64
		}{{"rate", 60 * x, rateEffect(60 * x)}, {"breadth", x, breadthEffect(x)}, {"hours", x, 0}} {
			got := 0.0
			for i := range m.file.Features {
				if s := &m.file.Features[i]; s.Name == c.name {
					got = s.LogOdds[s.bin(c.x)]
				}
			}
			d := math.Abs(got - c.want)
			worst = max(worst, d)
			if d > 0.5 {
				t.Errorf("%s at %v counts %.2f, want %.2f", c.name, c.x, got, c.want)
			}
		}
	}
	t.Logf("largest difference in log-odds: %.2f", worst)
	held := planted(3000, 2, 0)
	x, err := m.Evaluate(held)
	if err != nil {
		t.Fatal(err)
	}
	// The function itself is the best that anybody could do.
	var best float64
	weight := balance(held)
	for i := range held {
		best += weight[i] * logLoss(float64(one(held[i].automated())), sigmoid(effect(held[i].Values))) / float64(len(held))
	}
	if x.LogLoss > best+0.02 {
		t.Errorf("log-loss on new samples %v, of the planted function itself %v", x.LogLoss, best)
	}
	for _, r := range x.Calibration {
		if r.Share > 0.04 && math.Abs(r.Predicted-r.Observed) > 0.08 {
			t.Errorf("what is said to be %v is true of %v", r.Predicted, r.Observed)
		}
	}
}

func TestWrongLabelsDoNotTurnTheModel(t *testing.T) {
	m := trained(t, planted(2000, 1, 0.15), func(o *TrainOptions) { o.Smoothing = 0.15 })
	x, err := m.Evaluate(planted(3000, 2, 0))
	if err != nil {
		t.Fatal(err)
	}
	clean := trained(t, planted(2000, 1, 0))
	y, err := clean.Evaluate(planted(3000, 2, 0))
	if err != nil {
		t.Fatal(err)
	}
	if x.AUC < y.AUC-0.02 {
		t.Errorf("with one label in seven wrong the AUC is %v, with none %v", x.AUC, y.AUC)
	}
}

func TestTheSameSamplesGiveTheSameFile(t *testing.T) {
	samples := planted(500, 3, 0)
	first := written(t, trained(t, samples))
	if again := written(t, trained(t, samples)); again != first {
		t.Error(cmp.Diff(strings.Split(first, "\n"), strings.Split(again, "\n")))
	}
	if other := written(t, trained(t, samples, func(o *TrainOptions) { o.Seed = 2 })); other == first {
		t.Error("another seed changes nothing")
	}
}

func TestNoFeatureDecidesAloneHoweverClearTheSamples(t *testing.T) {
	samples := planted(1000, 1, 0)
	for i := range samples { // one feature tells all
		samples[i].Values["traps"] = 0
		if samples[i].automated() {
			samples[i].Values["traps"] = 5
		}
	}
	m := trained(t, samples, func(o *TrainOptions) { o.Smoothing = 1e-6; o.Rounds = 2000; o.Penalty = 1e-6; o.Rate = 1 })
	s := shapeOf(t, m, "traps")
	if top := s.LogOdds[len(s.LogOdds)-1]; top < 1.5 || top > MaxLogOdds {
		t.Errorf("traps count %v", top)
	}
	m = trained(t, samples, func(o *TrainOptions) { o.Rounds = 50; o.Bound = map[string]float64{"traps": 0.5} })
	for _, l := range shapeOf(t, m, "traps").LogOdds {
		if math.Abs(l) > 0.5 {
			t.Errorf("traps count %v, beyond their bound", l)
		}
	}
}

func TestMissingValuesCountOnlyWhenAskedFor(t *testing.T) {
	// Nothing but whether "errors" was observed tells people and programs apart.
	samples := planted(1200, 5, 0)
	random := rand.New(rand.NewPCG(9, 9))
	for i := range samples {
		v := map[string]float64{"rate": random.Float64(), "breadth": random.Float64(), "depth": random.Float64(), "hours": random.Float64()}
		if samples[i].automated() {
			v["errors"] = random.Float64()
		}
		samples[i].Features = features(v)
	}
	without := trained(t, samples)
	for _, s := range without.file.Features {
		if s.Missing != 0 {
			t.Errorf("%s counts %v when missing", s.Name, s.Missing)
		}
	}
	x, err := without.Evaluate(samples)
	if err != nil {
		t.Fatal(err)
	}
	if x.AUC > 0.6 {
		t.Errorf("what was observed told programs from people: AUC %v", x.AUC)
	}
	with := trained(t, samples, func(o *TrainOptions) { o.Missing = true })
	if s := shapeOf(t, with, "errors"); s.Missing > -1 {
		t.Errorf("errors count %v when missing, want clearly below 0", s.Missing)
	}
}

func TestMonotoneFeaturesDoNotTurnBack(t *testing.T) {
	samples := planted(1500, 1, 0)
	m := trained(t, samples, func(o *TrainOptions) { o.Monotone = map[string]int{"breadth": 1, "referred": -1} })
	for i, s := range m.file.Features {
		sign := map[string]float64{"breadth": 1, "referred": -1}[s.Name]
		for k := 1; k < len(s.LogOdds) && sign != 0; k++ {
			if sign*(s.LogOdds[k]-s.LogOdds[k-1]) < 0 {
				t.Errorf("%s turns back: %v", s.Name, m.file.Features[i].LogOdds)
			}
		}
	}
	shapeOf(t, m, "referred")
}

func TestOriginsAndLabelsCountAlike(t *testing.T) {
	samples := []Sample{
		{Origin: "a", Label: defense.LabelHuman, Weight: 6}, {Origin: "a", Label: defense.LabelBot, Weight: 1}, {Origin: "a", Label: defense.LabelCrawler, Weight: 1},
		{Origin: "b", Label: defense.LabelHuman, Weight: 1}, {Origin: "b", Label: defense.LabelBot, Weight: 3},
		{Origin: "c", Label: defense.LabelBot, Weight: 12},
	}
	// In a each side weighs 4, in b 2; c has programs only. Of 24 in all each side then gets 12.
	people, programs := 12.0/(4+2), 12.0/(4+2+12)
	want := []float64{4 * people, 2 * programs, 2 * programs, 2 * people, 2 * programs, 12 * programs}
	got := balance(samples)
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-12 {
			t.Errorf("sample %d weighs %v, want %v", i, got[i], want[i])
		}
	}
}

func TestAGroupIsTrainedOnOrTestedWithAndEachKindInBoth(t *testing.T) {
	var samples []Sample
	for i := range 400 {
		s := Sample{Origin: "a", Slice: fmt.Sprint(i / 4 % 5), Group: fmt.Sprint(i / 4), Label: defense.LabelBot, Weight: 1}
		if i/4%2 == 0 {
			s.Label = defense.LabelHuman
		}
		samples = append(samples, s)
	}
	train, test := Split(samples, 4, 1)
	if len(train)+len(test) != len(samples) || len(test) < 90 || len(test) > 110 {
		t.Errorf("%d to train on, %d to test with", len(train), len(test))
	}
	in, kinds := map[string]bool{}, map[string]bool{}
	for _, s := range train {
		in[s.Group] = true
	}
	for _, s := range test {
		if in[s.Group] {
			t.Errorf("group %s is in both", s.Group)
		}
		kinds[s.Slice+string(s.Label)] = true
	}
	if len(kinds) != 10 {
		t.Errorf("the test has %d kinds of 10", len(kinds))
	}
	if again, _ := Split(samples, 4, 1); !cmp.Equal(again, train) {
		t.Error("parted again it is another part")
	}
}

func TestWhatCannotBeTrainedOnIsRefused(t *testing.T) {
	good := planted(50, 1, 0)
	people := make([]Sample, 0, 50)
	for _, s := range good {
		s.Label = defense.LabelHuman
		people = append(people, s)
	}
	constant := make([]Sample, 0, 50)
	for _, s := range good {
		s.Features = features(map[string]float64{"rate": 1})
		constant = append(constant, s)
	}
	bad := func(change func(*Sample)) []Sample {
		s := append([]Sample(nil), good...)
		change(&s[7])
		return s
	}
	for _, test := range []struct {
		name    string
		samples []Sample
		o       TrainOptions
		want    string
	}{
		{"no samples", nil, TrainOptions{}, "of people and of programs"},
		{"people only", people, TrainOptions{}, "of people and of programs"},
		{"no label", bad(func(s *Sample) { s.Label = defense.LabelNone }), TrainOptions{}, "sample 7: label"},
		{"no weight", bad(func(s *Sample) { s.Weight = 0 }), TrainOptions{}, "sample 7: weight"},
		{"endless weight", bad(func(s *Sample) { s.Weight = math.Inf(1) }), TrainOptions{}, "sample 7: weight"},
		{"another schema", bad(func(s *Sample) { s.Schema = behaviour.SchemaVersion + 1 }), TrainOptions{}, "sample 7: features of version"},
		{"nothing varies", constant, TrainOptions{}, "no feature was observed"},
		{"an unknown feature", good, TrainOptions{Features: []string{"speed"}}, `feature "speed"`},
		{"an unknown monotone feature", good, TrainOptions{Monotone: map[string]int{"speed": 1}}, `feature "speed"`},
		{"too many bins", good, TrainOptions{Bins: 100}, "bins 100"},
		{"a rate that is no number", good, TrainOptions{Rate: math.NaN()}, "rate NaN"},
		{"a bound that is none", good, TrainOptions{Bound: map[string]float64{"rate": 9}}, "bound 9 of rate"},
		{"a bound of nothing", good, TrainOptions{Bound: map[string]float64{"speed": 1}}, `feature "speed"`},
		{"one fold", good, TrainOptions{Folds: 1}, "folds 1"},
		{"too much smoothing", good, TrainOptions{Smoothing: 0.5}, "smoothing 0.5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.Version = "test"
			if _, err := Train(test.samples, test.o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := Train(good, TrainOptions{}); err == nil || !strings.Contains(err.Error(), "no version") {
		t.Errorf("without a version: %v", err)
	}
}

func TestEdgesAreNumbersThatPeopleCanRead(t *testing.T) {
	for _, test := range []struct{ a, b, want float64 }{
		{0, 1, 0.5}, {1, 2, 2}, {0.31, 0.39, 0.35}, {-3, 8, 2}, {0.123456, 0.123458, 0.123457}, {1e-9, 1, 0.5}, {-1e308, 1.7e308, 3e307},
	} {
		if got := between(test.a, test.b); got != test.want || !(got > test.a && got <= test.b) {
			t.Errorf("between %v and %v: %v, want %v", test.a, test.b, got, test.want)
		}
	}
	a := 0.1
	if got := between(a, math.Nextafter(a, 1)); got != math.Nextafter(a, 1) {
		t.Errorf("between neighbours: %v", got)
	}
}

func TestMetricsOfKnownAnswers(t *testing.T) {
	// A model of one step that is right three times of four, and knows nothing of the fourth.
	f := small()
	f.Bias = 0
	f.Features = []Shape{
		{Name: "rate", Edges: []float64{5}, LogOdds: []float64{-2, 2}}, {Name: "breadth", LogOdds: []float64{0}},
		{Name: "depth", LogOdds: []float64{0}}, {Name: "hours", LogOdds: []float64{0}},
	}
	sample := func(label defense.CaseLabel, rate float64) Sample {
		return Sample{Origin: "o", Slice: string(label), Group: fmt.Sprint(label, rate), Label: label, Weight: 1,
			Features: features(map[string]float64{"rate": rate, "breadth": 0, "depth": 0, "hours": 0})}
	}
	samples := []Sample{
		sample(defense.LabelHuman, 1), sample(defense.LabelHuman, 2), sample(defense.LabelHuman, 3), sample(defense.LabelHuman, 9),
		sample(defense.LabelBot, 11), sample(defense.LabelBot, 12), sample(defense.LabelCrawler, 13), sample(defense.LabelCrawler, 4),
	}
	x, err := made(t, f).Evaluate(samples)
	if err != nil {
		t.Fatal(err)
	}
	if x.Accuracy != 0.75 || x.AUC != 0.75 || x.Humans != 4 || x.Automated != 4 || x.Unjudged != 0 {
		t.Errorf("%+v", x)
	}
	if want := (Threshold{At: 0.5, Precision: 0.75, Recall: 0.75, FalsePositive: 0.25}); x.Thresholds[1] != want {
		t.Errorf("%+v, want %+v", x.Thresholds[1], want)
	}
	if want := round(0.75*logLoss(1, sigmoid(2)) + 0.25*logLoss(0, sigmoid(2))); x.LogLoss != want {
		t.Errorf("log-loss %v, want %v", x.LogLoss, want)
	}
	if want := (SliceMetric{Name: "o: crawler", Automated: true, Samples: 2, Groups: 2, Mean: 0.5, Half: 0.5}); x.Slices[2] != want {
		t.Errorf("%+v, want %+v", x.Slices[2], want)
	}
	if want := (Reliability{From: 0.8, To: 0.9, Share: 0.5, Predicted: round(sigmoid(2)), Observed: 0.75}); x.Calibration[8] != want {
		t.Errorf("%+v, want %+v", x.Calibration[8], want)
	}
	samples[0].Values = map[string]float64{"rate": 1}
	if x, err = made(t, f).Evaluate(samples); err != nil || x.Unjudged != 1 {
		t.Errorf("%+v, %v: want one without an answer", x, err)
	}
	if _, err := made(t, f).Evaluate(nil); err == nil {
		t.Error("nothing is evaluated without an error")
	}
}
