package training

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

// elastic is the log that the built-in model learns from.
const elastic = "../../accesslog/testdata/elastic-apache_logs.log.gz"

func TestTrainingAgainGivesTheBuiltInModel(t *testing.T) {
	o, _ := BuiltIn(Kept{})
	r, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := r.Model.Write(&got); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../model.json")
	if err != nil {
		t.Fatal(err)
	}
	const help = "if training, its samples or the features' measurement changed, run: go generate ./internal/model"
	if runtime.GOARCH == "amd64" {
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s\n%s", help, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")))
		}
		return
	}
	// Other processors round the exponential function otherwise in the last digit.
	built, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Test {
		p, _, _ := r.Model.Predict(r.Test[i].Features)
		if q, _, _ := built.Predict(r.Test[i].Features); math.Abs(p-q) > 0.01 {
			t.Fatalf("%s\nof sample %d the built-in model says %v, this one %v", help, i, q, p)
		}
	}
}

func TestTheMetricsInTheFileAreWhatItDoesOnWhatItHasNotSeen(t *testing.T) {
	built, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	samples, err := Kept{}.Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, test := model.Split(samples, 4, built.File().Training.Seed)
	got, err := built.Evaluate(test)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(built.File().Metrics, got, cmpopts.EquateApprox(0, 0.001)); diff != "" {
		t.Error(diff)
	}
	card, err := os.ReadFile("../../../docs/model-card.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Version " + built.Version() + ",",
		fmt.Sprintf("| all | %.3f | %.3f | %.3f | %.3f |", got.AUC, got.LogLoss, got.Brier, got.Accuracy),
	} {
		if !strings.Contains(string(card), want) {
			t.Errorf("the card does not say %q", want)
		}
	}
}

// The samples are kept as they were measured once. If measuring changes, the model no longer knows what it is told.
func TestClientsMeasuredTodayAreToldApartAsWell(t *testing.T) {
	sources, err := Sources(elastic)
	if err != nil {
		t.Fatal(err)
	}
	built, err := model.Default()
	if err != nil {
		t.Fatal(err)
	}
	campaign := *find(t, sources, "campaign-copied")
	campaign.Scale, campaign.Share = 0.04, 0
	for _, s := range []Source{sources[0], &campaign} {
		samples, err := s.Samples(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		x, err := built.Evaluate(samples)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d samples of %d groups, AUC %v, accuracy %v", s.Name(), x.Samples, x.Groups, x.AUC, x.Accuracy)
		if x.AUC < 0.95 || x.Accuracy < 0.9 {
			t.Errorf("%s: AUC %v, accuracy %v", s.Name(), x.AUC, x.Accuracy)
		}
	}
}

func find(t *testing.T, sources []Source, scenario string) *Simulated {
	t.Helper()
	for _, s := range sources {
		if s, ok := s.(*Simulated); ok && s.Scenario == scenario {
			return s
		}
	}
	t.Fatalf("no scenario %q", scenario)
	return nil
}

func TestASimulationGivesTheSameLabelledSamplesEachTime(t *testing.T) {
	sources, err := Sources(elastic)
	if err != nil {
		t.Fatal(err)
	}
	s := *find(t, sources, "campaign")
	s.Scale, s.Share = 0.01, 0
	first, err := s.Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
	var people, programs int
	for _, x := range first {
		switch x.Label {
		case defense.LabelHuman:
			people++
		case defense.LabelBot:
			programs++
			if a, ok := x.Values["assets"]; ok && a > 0 {
				t.Errorf("a campaign's member fetches %v assets", a)
			}
		}
	}
	if people < 15 || programs < 15 {
		t.Errorf("%d samples of people, %d of programs", people, programs)
	}
	s.Scenario = "no such"
	if _, err := s.Samples(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown scenario") {
		t.Errorf("an unknown scenario: %v", err)
	}
}

func TestTheCardTellsWhatAnOwnerMustKnow(t *testing.T) {
	samples, err := Kept{}.Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var some Given // the card does not need a good model
	for i := range samples {
		if i%4 == 0 {
			some = append(some, samples[i])
		}
	}
	o, card := BuiltIn(some)
	o.Train.Rounds, o.Train.Folds, o.Checks = 5, 2, true
	r, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := card.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Apache-2.0", "| elastic log: crawler by name | crawler |", "people called so", "Reliability", "without the elastic log", "| `assets` | per navigation | less: +",
		"| `score` |", "A scraper that drives a real browser", "go generate ./internal/model",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the card does not say %q", want)
		}
	}
	if strings.Contains(b.String(), "%!") {
		t.Error("the card is not formatted right")
	}
}

func TestAnOwnersCasesCanBeAddedToTheSamples(t *testing.T) {
	kept, err := Kept{}.Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := &pages{}
	for i := range 12 {
		c := defense.Case{Kind: defense.CaseClient, Key: fmt.Sprintf("192.0.%d.7", i), Label: defense.LabelHuman, Features: kept[i].Features}
		if i%2 == 0 {
			c.Label = defense.LabelBot
		}
		store.cases = append(store.cases, c)
	}
	o := Options{Train: Defaults(), Sources: []Source{Kept{}, &Cases{Store: store}}}
	o.Train.Version, o.Train.Rounds, o.Train.Folds = "mine", 5, 2
	r, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f := r.Model.File()
	if n := f.Training.Samples + f.Metrics.Samples; n != len(kept)+12 {
		t.Errorf("%d samples, want %d", n, len(kept)+12)
	}
	if f.Training.Origins["cases"] == 0 || f.Version != "mine" {
		t.Errorf("%+v", f.Training)
	}
	if _, err := Build(t.Context(), Options{Train: o.Train}); err == nil {
		t.Error("a model is made of nothing")
	}
}
