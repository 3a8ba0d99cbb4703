package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/model"
)

// Options say what to make a model of.
type Options struct {
	Sources []Source
	Train   model.TrainOptions // Defaults() if it names no features
	OneIn   int                // one group in so many is tested with instead of trained on; default 4
	Checks  bool               // train again without some features, to see what the model rests on; takes about as long once more each
}

// Result is a model and what it was made of.
type Result struct {
	Model       *model.Model // with metrics on Test
	Train, Test []model.Sample
	Checks      []Check
}

// Check is how well a model does that was made without some of the features or data.
type Check struct {
	Name    string // what it was made without
	Metrics *model.Metrics
}

// Unused is a feature that the built-in model does not use though the list has it.
type Unused struct{ Name, Why string }

// UnusedFeatures are the features that training leaves out unless it is told otherwise, with the reason.
func UnusedFeatures() []Unused {
	const (
		site   = "tells the site, not its visitors"
		own    = "is what quickthorn itself did or thought: a model that learns from it would confirm it"
		length = "grows with how long one looks"
	)
	out := []Unused{
		{"depth", site}, {"bytes", site}, {"queried", site}, {"patternShare", site},
		{"disallowed", "speaks to robots only, and the model is not told what a client says it is: readers may well read what robots are asked not to"},
		{"score", own}, {"challenged", own}, {"solved", own},
		{"requests", length}, {"navigations", length}, {"hours", length},
		{"traps", "leads to a challenge by itself, and no more: links that people do not see are followed by prefetchers, too"},
		{"agents", "is many for a household or an office behind one address"}, {"shapes", "is many for a household or an office behind one address"},
		{"languageless", "is not told by access logs, so the data hold it for simulated clients only"},
	}
	for _, f := range behaviour.Schema() {
		if f.Campaign {
			out = append(out, Unused{f.Name, "campaigns only: there are no labelled ones yet"})
		}
	}
	return out
}

// Defaults returns the options of the built-in model, without its version: the features that mean the same on every site, and the
// direction in which they can count where that is known beforehand.
func Defaults() model.TrainOptions {
	o := model.TrainOptions{
		Seed: 1,
		Monotone: map[string]int{
			"regularity": 1, "referrerOdd": 1, "unlinked": 1, "disallowed": 1, "rate": 1, "burst": 1, "sequential": 1, "errors": 1, "notFound": 1,
			"assets": -1, "referred": -1, "revalidated": -1,
		},
		Bound: map[string]float64{
			// They helped to choose the people of the log, so that it knows none without.
			"assets": 1.5, "referred": 1, "revalidated": 1,
			// Few clients of the samples have asked for the same page twice.
			"breadth": 1,
			// One of them is part of the other.
			"errors": 0.6, "notFound": 0.6,
		},
	}
	unused := UnusedFeatures()
	for _, f := range behaviour.Schema() {
		if !slices.ContainsFunc(unused, func(u Unused) bool { return u.Name == f.Name }) {
			o.Features = append(o.Features, f.Name)
		}
	}
	return o
}

// Build reads the sources, trains on most of the groups and tests with the others.
func Build(ctx context.Context, o Options) (*Result, error) {
	if len(o.Sources) == 0 {
		return nil, errors.New("train model: no source")
	}
	if o.Train.Features == nil {
		d := Defaults()
		o.Train.Features = d.Features
		if o.Train.Monotone == nil {
			o.Train.Monotone = d.Monotone
		}
		if o.Train.Bound == nil {
			o.Train.Bound = d.Bound
		}
	}
	var samples []model.Sample
	for _, s := range o.Sources {
		more, err := s.Samples(ctx)
		if err != nil {
			return nil, fmt.Errorf("train model: %w", err)
		}
		samples = append(samples, more...)
	}
	r := &Result{}
	r.Train, r.Test = model.Split(samples, cmp.Or(o.OneIn, 4), o.Train.Seed)
	m, metrics, err := r.fit(o.Train)
	if err != nil {
		return nil, err
	}
	f := m.File()
	f.Metrics = metrics
	if r.Model, err = model.New(f); err != nil {
		return nil, fmt.Errorf("train model: %w", err)
	}
	if !o.Checks {
		return r, nil
	}
	for _, without := range []struct {
		name  string
		names []string
	}{
		{"without assets, revalidated and referred, which helped to choose the people of the log", []string{"assets", "revalidated", "referred"}},
		{"without anything about links and referrers", []string{"referred", "referrerOdd", "unlinked"}},
		{"without anything about pace", []string{"rate", "burst", "regularity"}},
	} {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		t := o.Train
		t.Features = slices.DeleteFunc(slices.Clone(t.Features), func(name string) bool { return slices.Contains(without.names, name) })
		_, metrics, err := r.fit(t)
		if err != nil {
			return nil, err
		}
		r.Checks = append(r.Checks, Check{without.name, metrics})
	}
	return r, r.across(samples, o.Train)
}

// across trains without each origin and tests with it: what is learnt in one place, is it true in another?
func (r *Result) across(samples []model.Sample, o model.TrainOptions) error {
	for _, origin := range r.Model.File().Metrics.Origins {
		var others, own []model.Sample
		for _, s := range samples {
			if s.Origin == origin.Name {
				own = append(own, s)
			} else {
				others = append(others, s)
			}
		}
		m, err := model.Train(others, o)
		if err != nil {
			return fmt.Errorf("without %s: %w", origin.Name, err)
		}
		metrics, err := m.Evaluate(own)
		if err != nil {
			return fmt.Errorf("without %s: %w", origin.Name, err)
		}
		r.Checks = append(r.Checks, Check{fmt.Sprintf("without the %s, and tested with all of it", origin.Name), metrics})
	}
	return nil
}

func (r *Result) fit(o model.TrainOptions) (*model.Model, *model.Metrics, error) {
	m, err := model.Train(r.Train, o)
	if err != nil {
		return nil, nil, err
	}
	metrics, err := m.Evaluate(r.Test)
	if err != nil {
		return nil, nil, err
	}
	return m, metrics, nil
}
