package model

import (
	"math"
	"slices"
	"testing"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// built is the built-in model.
func built(t testing.TB) *Model {
	t.Helper()
	m, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func made(t testing.TB, f File) *Model {
	t.Helper()
	m, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// small is a model of five features whose answers can be added up by hand.
func small() File {
	return File{
		Format: Format, Version: "test", Schema: behaviour.SchemaVersion, Bias: -0.25,
		Features: []Shape{
			{Name: "rate", Edges: []float64{1, 10}, LogOdds: []float64{-1, 0.5, 2}},
			{Name: "assets", Edges: []float64{0.5}, LogOdds: []float64{1.5, -1.5}},
			{Name: "referred", Edges: []float64{0.1}, LogOdds: []float64{0.5, -0.5}, Missing: 0.125},
			{Name: "breadth", Edges: []float64{0.9}, LogOdds: []float64{-0.25, 0.25}, Missing: -0.5},
			{Name: "traps", Edges: []float64{1}, LogOdds: []float64{0, 3}},
		},
	}
}

func features(values map[string]float64) defense.Features {
	return defense.Features{Schema: behaviour.SchemaVersion, Values: values}
}

func logit(p float64) float64 { return math.Log(p / (1 - p)) }

func TestTheAnswerIsTheSumOfItsParts(t *testing.T) {
	m := made(t, small())
	for _, test := range []struct {
		name   string
		values map[string]float64
		want   float64 // log-odds
		first  string
	}{
		{"a reader", map[string]float64{"rate": 0.5, "assets": 8, "referred": 1, "breadth": 0.5, "traps": 0}, -0.25 - 1 - 1.5 - 0.5 - 0.25, "assets"},
		{"a scraper", map[string]float64{"rate": 60, "assets": 0, "referred": 0, "breadth": 1, "traps": 2}, -0.25 + 2 + 1.5 + 0.5 + 0.25 + 3, "traps"},
		{"a value on an edge belongs to the upper range", map[string]float64{"rate": 10, "assets": 0.5, "referred": 0.1, "breadth": 0.9, "traps": 1}, -0.25 + 2 - 1.5 - 0.5 + 0.25 + 3, "traps"},
		{"what was not observed counts what the file says", map[string]float64{"rate": 0.5, "assets": 8, "breadth": 0.5, "traps": 0}, -0.25 - 1 - 1.5 + 0.125 - 0.25, "assets"},
		{"what is not a number was not observed", map[string]float64{"rate": 0.5, "assets": 8, "referred": math.NaN(), "breadth": 0.5, "traps": 0}, -0.25 - 1 - 1.5 + 0.125 - 0.25, "assets"},
		{"endless values have a range too", map[string]float64{"rate": math.Inf(1), "assets": math.Inf(-1), "referred": 1, "breadth": 1, "traps": 0}, -0.25 + 2 + 1.5 - 0.5 + 0.25, "rate"},
		{"features that the model does not know are ignored", map[string]float64{"rate": 0.5, "assets": 8, "referred": 1, "breadth": 0.5, "traps": 0, "novelty": 9}, -0.25 - 1 - 1.5 - 0.5 - 0.25, "assets"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, parts, ok := m.Predict(features(test.values))
			if !ok {
				t.Fatal("no answer")
			}
			if got := logit(p); math.Abs(got-test.want) > 1e-9 {
				t.Errorf("log-odds %v, want %v", got, test.want)
			}
			checkParts(t, p, parts)
			if parts[0].Name != test.first {
				t.Errorf("the weightiest part is %s, want %s", parts[0].Name, test.first)
			}
		})
	}
}

// checkParts holds what must be true of every answer.
func checkParts(t *testing.T, p float64, parts []defense.Contribution) {
	t.Helper()
	if len(parts) == 0 || len(parts) > 12 {
		t.Fatalf("%d parts", len(parts))
	}
	sum := 0.0
	for i, c := range parts {
		sum += c.LogOdds
		if c.Sentence == "" || c.Name == "" {
			t.Errorf("part %d has no sentence or name: %+v", i, c)
		}
		if i > 0 && math.Abs(c.LogOdds) > math.Abs(parts[i-1].LogOdds) {
			t.Errorf("part %d weighs more than the one before: %+v", i, parts)
		}
		if math.IsNaN(c.Value) {
			t.Errorf("part %d has a value that JSON cannot hold: %+v", i, c)
		}
	}
	if p != sigmoid(sum) {
		t.Errorf("p is %v, the parts give %v", p, sigmoid(sum))
	}
}

func TestTooLittleObservedGivesNoAnswer(t *testing.T) {
	m := made(t, small())
	for name, f := range map[string]defense.Features{
		"nothing":                           {},
		"three features of the model":       features(map[string]float64{"rate": 1, "assets": 0, "traps": 0}),
		"one too few, others are not known": features(map[string]float64{"rate": 1, "assets": 0, "traps": 0, "a": 1, "b": 2}),
		"numbers that are none":             features(map[string]float64{"rate": 1, "assets": 0, "traps": 0, "breadth": math.NaN()}),
		"another schema":                    {Schema: behaviour.SchemaVersion + 1, Values: map[string]float64{"rate": 1, "assets": 0, "traps": 0, "breadth": 1}},
	} {
		if p, parts, ok := m.Predict(f); ok || p != 0.5 || parts != nil {
			t.Errorf("%s: p %v, parts %v, ok %v", name, p, parts, ok)
		}
	}
}

func TestManyPartsAreFoldedIntoTwelve(t *testing.T) {
	f := File{Format: Format, Version: "test", Schema: behaviour.SchemaVersion}
	values := map[string]float64{}
	for i, s := range behaviour.Schema() {
		f.Features = append(f.Features, Shape{Name: s.Name, Edges: []float64{0}, LogOdds: []float64{0, float64(i%7)/10 - 0.29}, Missing: 0.5})
		if i%5 != 0 {
			values[s.Name] = float64(i)
		}
	}
	p, parts, ok := made(t, f).Predict(features(values))
	if !ok || len(parts) != 12 {
		t.Fatalf("ok %v, %d parts", ok, len(parts))
	}
	checkParts(t, p, parts)
	for _, name := range []string{PartOther, PartUnobserved} {
		if !slices.ContainsFunc(parts, func(c defense.Contribution) bool { return c.Name == name }) {
			t.Errorf("no part %q in %+v", name, parts)
		}
	}
}

func TestTheBuiltInModelKeepsItsPromises(t *testing.T) {
	m := built(t)
	if m.Version() == "" || m.File().Metrics == nil || m.File().Training.Samples == 0 {
		t.Errorf("it does not say what it is: %+v", m.File())
	}
	for _, s := range m.File().Features {
		if s.Missing != 0 {
			t.Errorf("%s counts %v when it was not observed: unknown is not absent", s.Name, s.Missing)
		}
	}
	reader := features(map[string]float64{
		"requests": 40, "navigations": 4, "rate": 1.2, "burst": 1, "breadth": 1, "assets": 9, "revalidated": 0.1, "referred": 1, "referrerOdd": 0,
		"unlinked": 0, "errors": 0, "notFound": 0, "agents": 1, "patternShare": 0.5, "sequential": 0,
	})
	scraper := features(map[string]float64{
		"requests": 60, "navigations": 60, "rate": 20, "burst": 4, "regularity": 0.9, "breadth": 1, "assets": 0, "revalidated": 0, "referred": 0,
		"unlinked": 0.9, "errors": 0.1, "notFound": 0.1, "agents": 1, "patternShare": 1, "sequential": 0.4, "disallowed": 0.5,
	})
	low, parts, ok := m.Predict(reader)
	if !ok || low > 0.2 {
		t.Errorf("a reader is a program with p %v: %+v", low, parts)
	}
	checkParts(t, low, parts)
	high, parts, ok := m.Predict(scraper)
	if !ok || high < 0.8 {
		t.Errorf("a scraper is a program with p %v: %+v", high, parts)
	}
	checkParts(t, high, parts)
}

func TestNoSingleFeatureOfTheBuiltInModelDecides(t *testing.T) {
	m := built(t)
	for _, s := range m.File().Features {
		for i, l := range s.LogOdds {
			if math.Abs(l) > MaxLogOdds {
				t.Errorf("%s counts %v in range %d", s.Name, l, i)
			}
		}
	}
	if b := m.File().Bias; math.Abs(b) > 1 {
		t.Errorf("every client starts with log-odds %v", b)
	}
}

func BenchmarkPredict(b *testing.B) {
	m := built(b)
	values := map[string]float64{}
	for _, s := range behaviour.Schema() {
		values[s.Name] = 0.5
	}
	f := features(values)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := m.Predict(f); !ok {
			b.Fatal("no answer")
		}
	}
}
