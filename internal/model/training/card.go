package training

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

// Card is what a model's card says beside what the result holds.
type Card struct {
	Data   []string // of each source, what it is, from where, under which licence, and how it is labelled
	Limits []string // what the model cannot do, or has not been tested for
}

// Write writes the model's card as Markdown: what the model is, what it was made of, how well it does, and what it rests on.
func (c *Card) Write(w io.Writer, r *Result) error {
	f := r.Model.File()
	if f.Metrics == nil {
		return fmt.Errorf("model %s has no metrics", f.Version)
	}
	p := &page{}
	p.linef("# The built-in model")
	p.linef("")
	p.linef("<!-- Written by internal/model/gen; change that. -->")
	p.linef("")
	p.linef("Version %s, of features version %d. It answers one question about a client that has looked suspicious already: **how likely is it a program**, from what it did.", f.Version, f.Schema)
	p.linef("It is one of the stages of the escalation engine and never decides alone. Whether a program is wanted is not its business: a search engine's crawler is as much a")
	p.linef("program as a scraper, and identity and policy tell them apart.")
	p.linef("")
	p.linef("The model is additive: each feature has a table of log-odds by ranges of its value; their sum and a bias (%s) make the probability. So every answer can be", signed(f.Bias))
	p.linef("explained exactly, and no feature counts for more than ±%v. The probability holds for equally many people and programs. What was not observed counts nothing.", model.MaxLogOdds)
	p.linef("")
	c.data(p, r)
	metrics(p, f.Metrics)
	checks(p, r)
	effects(p, &f)
	p.linef("## What it does not use, and why")
	p.linef("")
	p.linef("| feature | reason |")
	p.linef("| --- | --- |")
	for _, u := range UnusedFeatures() {
		p.linef("| `%s` | %s |", u.Name, u.Why)
	}
	p.linef("")
	p.linef("## Limits")
	p.linef("")
	for _, l := range c.Limits {
		p.linef("- %s", l)
	}
	p.linef("")
	p.linef("## Making it again")
	p.linef("")
	p.linef("```sh")
	p.linef("%s", f.Training.Command)
	p.linef("```")
	p.linef("")
	p.linef("The same data give the same file (seed %d), byte for byte on one processor architecture; a test holds that, and that the metrics above are what the file does on the groups held out.", f.Training.Seed)
	p.linef("Training: gradient-boosted steps on one feature at a time, an ensemble over folds of the groups stopped after %d rounds on the mean by groups that each had not seen,", f.Training.Rounds)
	p.linef("averaged, and tempered to %.0f %% of its log-odds by what each member said of groups that it had not seen (Platt). Three labels in a hundred are taken to be wrong.", 100*f.Training.Slope)
	_, err := io.WriteString(w, p.String())
	return err
}

// page is text that is written line by line.
type page struct{ strings.Builder }

func (p *page) linef(format string, args ...any) {
	fmt.Fprintf(&p.Builder, format, args...) // a Builder does not fail
	p.WriteByte('\n')
}

func (c *Card) data(p *page, r *Result) {
	p.linef("## What it was made of")
	p.linef("")
	for _, d := range c.Data {
		p.linef("- %s", d)
	}
	p.linef("")
	p.linef("A client is measured some seconds after its 1st, 2nd, 3rd, 5th, 10th, … navigation; each measurement is a sample, and a client's samples together weigh 1. Groups")
	p.linef("(one neighbourhood of addresses, or one operator) are either trained on or tested with. People and programs count alike within each origin.")
	p.linef("")
	p.linef("| origin and kind of client | label | groups | samples | trained on | tested with |")
	p.linef("| --- | --- | ---: | ---: | ---: | ---: |")
	type key struct {
		name  string
		label defense.CaseLabel
	}
	type tally struct {
		groups      map[string]bool
		train, test int
	}
	rows := map[key]*tally{}
	count := func(samples []model.Sample, add func(*tally)) {
		for i := range samples {
			s := &samples[i]
			k := key{s.Origin + ": " + s.Slice, s.Label}
			if rows[k] == nil {
				rows[k] = &tally{groups: map[string]bool{}}
			}
			rows[k].groups[s.Group] = true
			add(rows[k])
		}
	}
	count(r.Train, func(t *tally) { t.train++ })
	count(r.Test, func(t *tally) { t.test++ })
	for _, k := range slices.SortedFunc(maps.Keys(rows), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.label, b.label))
	}) {
		t := rows[k]
		p.linef("| %s | %s | %d | %d | %d | %d |", k.name, k.label, len(t.groups), t.train+t.test, t.train, t.test)
	}
	p.linef("")
}

func metrics(p *page, x *model.Metrics) {
	p.linef("## How well it does")
	p.linef("")
	p.linef("On %d samples of %d groups that it was not trained on (%d of people, %d of programs; %d with too little observed for an answer):", x.Samples, x.Groups, x.Humans, x.Automated, x.Unjudged)
	p.linef("")
	p.linef("| | AUC | log-loss | Brier | accuracy |")
	p.linef("| --- | ---: | ---: | ---: | ---: |")
	p.linef("| all | %.3f | %.3f | %.3f | %.3f |", x.AUC, x.LogLoss, x.Brier, x.Accuracy)
	for _, o := range x.Origins {
		p.linef("| %s | %.3f | %.3f | | %.3f |", o.Name, o.AUC, o.LogLoss, o.Accuracy)
	}
	p.linef("")
	p.linef("A model that knows nothing has 0.5, 0.693, 0.25 and 0.5.")
	p.linef("")
	p.linef("| called a program from | precision | recall | people called so |")
	p.linef("| ---: | ---: | ---: | ---: |")
	for _, t := range x.Thresholds {
		p.linef("| %.2f | %.3f | %.3f | %s |", t.At, t.Precision, t.Recall, percent(t.FalsePositive))
	}
	p.linef("")
	p.linef("By kind of client:")
	p.linef("")
	p.linef("| kind | truth | groups | samples | mean probability | at least 0.5 | at least 0.9 |")
	p.linef("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
	for _, s := range x.Slices {
		truth := "people"
		if s.Automated {
			truth = "programs"
		}
		p.linef("| %s | %s | %d | %d | %.2f | %s | %s |", s.Name, truth, s.Groups, s.Samples, s.Mean, percent(s.Half), percent(s.Sure))
	}
	p.linef("")
	p.linef("Reliability: of the answers in a range, what share was of programs?")
	p.linef("")
	p.linef("| probability | share of answers | mean | programs among them |")
	p.linef("| --- | ---: | ---: | ---: |")
	for _, c := range x.Calibration {
		if c.Share > 0 {
			p.linef("| %.1f–%.1f | %s | %.2f | %.2f |", c.From, c.To, percent(c.Share), c.Predicted, c.Observed)
		}
	}
	p.linef("")
}

func checks(p *page, r *Result) {
	if len(r.Checks) == 0 {
		return
	}
	p.linef("## What it rests on")
	p.linef("")
	p.linef("Trained again from the same samples, but")
	p.linef("")
	p.linef("| | AUC | log-loss | accuracy |")
	p.linef("| --- | ---: | ---: | ---: |")
	for _, c := range r.Checks {
		p.linef("| %s | %.3f | %.3f | %.3f |", c.Name, c.Metrics.AUC, c.Metrics.LogLoss, c.Metrics.Accuracy)
	}
	p.linef("")
}

func effects(p *page, f *model.File) {
	doc := map[string]behaviour.Feature{}
	for _, s := range behaviour.Schema() {
		doc[s.Name] = s
	}
	p.linef("## What each feature counts")
	p.linef("")
	p.linef("Log-odds by the range of the value: above 0 towards a program. ± is the standard deviation among the members of the ensemble, in the least certain range.")
	p.linef("")
	p.linef("| feature | unit | from … counts | ± |")
	p.linef("| --- | --- | --- | ---: |")
	for i := range f.Features {
		s := &f.Features[i]
		ranges := []string{"less: " + signed(s.LogOdds[0])}
		if len(s.Edges) == 0 {
			ranges[0] = "any: " + signed(s.LogOdds[0])
		}
		for k, e := range s.Edges {
			ranges = append(ranges, fmt.Sprintf("%v: %s", e, signed(s.LogOdds[k+1])))
		}
		p.linef("| `%s` | %s | %s | %.2f |", s.Name, doc[s.Name].Unit, strings.Join(ranges, ", "), s.Spread)
	}
	p.linef("")
	for i := range f.Features {
		p.linef("- `%s`: %s", f.Features[i].Name, doc[f.Features[i].Name].Doc)
	}
	p.linef("")
}

func signed(x float64) string { return strings.Replace(fmt.Sprintf("%+.2f", x), "-", "−", 1) }

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }
