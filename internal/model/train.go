package model

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// MaxSamples is the largest number of samples that are trained on.
const MaxSamples = 1_000_000

// maxWeight is the largest weight of a sample.
const maxWeight = 1e6

// Sample is what is known of one client at one moment, with the truth about it.
type Sample struct {
	Origin string // the data set; people and programs count alike within each, so that an origin's habits are not taken for its clients'
	Slice  string // the row of the table of metrics: what kind of client in what kind of data
	Group  string // samples that belong together: one client's, or one operator's. A group is either trained on or tested with
	Label  defense.CaseLabel
	Weight float64 // above 0, at most a million; a client's samples together have 1, so that one who stays long is not many
	defense.Features
}

// automated reports whether the label says that the client is a program: a crawler is one, wanted or not.
func (s *Sample) automated() bool { return s.Label != defense.LabelHuman }

// TrainOptions say how to train. The zero value of a field is its default.
type TrainOptions struct {
	Version string // of the model; required
	Created string // RFC 3339, for the file; not read from a clock
	Data    string // what the samples are, for the file
	Command string // what makes the same file again, for the file

	Seed uint64
	// Features are the names of those that may be used; nil is all of the schema.
	Features []string
	// Monotone says that a feature's log-odds must not fall (+1) or not rise (-1) with its value: what is known
	// beforehand and what few samples should not contradict.
	Monotone map[string]int
	// Bound is the most log-odds, either way, that a feature may count, where that is less than MaxLogOdds: for what the
	// samples are likely to exaggerate.
	Bound map[string]float64
	// Missing learns from what was not observed, too. Otherwise it counts nothing, which
	// is right when samples come from sources that see different things.
	Missing bool

	Folds     int     // models in the ensemble, each tested on its own share of the groups; default 8, 2..64
	Rounds    int     // at most, of one model; default 300, 1..10000
	Rate      float64 // share of each step that is taken; default 0.1, above 0 and at most 1
	Bins      int     // ranges of a feature, at most; default 12, 2..MaxEdges+1
	MinLeaf   float64 // weight that a step must rest on; default 6 or 1 % of all, the larger
	Penalty   float64 // ridge on a step, in units of a sample's curvature; default 4
	Smoothing float64 // share of labels that are taken to be wrong; default 0.03, below 0.5
}

func (o *TrainOptions) fill() error {
	o.Folds, o.Rounds, o.Bins = cmp.Or(o.Folds, 8), cmp.Or(o.Rounds, 300), cmp.Or(o.Bins, 12)
	o.Rate, o.Penalty, o.Smoothing = cmp.Or(o.Rate, 0.1), cmp.Or(o.Penalty, 4), cmp.Or(o.Smoothing, 0.03)
	switch {
	case o.Version == "":
		return errors.New("no version")
	case o.Folds < 2 || o.Folds > 64:
		return fmt.Errorf("folds %d: want 2..64", o.Folds)
	case o.Rounds < 1 || o.Rounds > 10_000:
		return fmt.Errorf("rounds %d: want 1..10000", o.Rounds)
	case o.Bins < 2 || o.Bins > MaxEdges+1:
		return fmt.Errorf("bins %d: want 2..%d", o.Bins, MaxEdges+1)
	case !(o.Rate > 0 && o.Rate <= 1):
		return fmt.Errorf("rate %v: want above 0, at most 1", o.Rate)
	case !(o.Penalty > 0) || math.IsInf(o.Penalty, 0):
		return fmt.Errorf("penalty %v: want above 0", o.Penalty)
	case !(o.Smoothing >= 0 && o.Smoothing < 0.5):
		return fmt.Errorf("smoothing %v: want 0..0.5", o.Smoothing)
	case !(o.MinLeaf >= 0) || math.IsInf(o.MinLeaf, 0):
		return fmt.Errorf("least leaf %v: want 0 or more", o.MinLeaf)
	}
	known := map[string]bool{}
	var all []string
	for _, f := range behaviour.Schema() {
		known[f.Name] = true
		all = append(all, f.Name)
	}
	if o.Features == nil {
		o.Features = all
	}
	seen := map[string]bool{}
	for _, name := range o.Features {
		if !known[name] || seen[name] {
			return fmt.Errorf("feature %q is not in the list of features, or named twice", name)
		}
		seen[name] = true
	}
	for name := range o.Monotone {
		if !known[name] {
			return fmt.Errorf("feature %q is not in the list of features", name)
		}
	}
	for name, bound := range o.Bound {
		if !known[name] {
			return fmt.Errorf("feature %q is not in the list of features", name)
		}
		if !(bound > 0 && bound <= MaxLogOdds) {
			return fmt.Errorf("bound %v of %s: want above 0, at most %v", bound, name, MaxLogOdds)
		}
	}
	return nil
}

// Train makes a model of the samples: gradient-boosted steps on one feature at a time, each with at most three
// levels, stopped when a share of the groups that a model has not seen is told no better; an ensemble of such
// models is averaged and its log-odds tempered (Platt) by what each said of the groups it had not seen. The same samples in
// the same order, options and processor architecture give the same model.
func Train(samples []Sample, o TrainOptions) (*Model, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("train model: %w", err)
	}
	if err := checkSamples(samples); err != nil {
		return nil, fmt.Errorf("train model: %w", err)
	}
	n := groups(samples)
	if n < 2 {
		return nil, errors.New("train model: want at least two groups")
	}
	o.Folds = min(o.Folds, n) // no fold is empty
	t := newTable(samples, &o)
	if len(t.features) == 0 {
		return nil, errors.New("train model: no feature was observed with more than one value")
	}
	f, err := New(t.train(&o, samples))
	if err != nil {
		return nil, fmt.Errorf("train model: %w", err)
	}
	return f, nil
}

func checkSamples(samples []Sample) error {
	if len(samples) > MaxSamples {
		return fmt.Errorf("%d samples: at most %d", len(samples), MaxSamples)
	}
	var people, programs bool
	for i := range samples {
		s := &samples[i]
		switch s.Label {
		case defense.LabelHuman:
			people = true
		case defense.LabelBot, defense.LabelCrawler:
			programs = true
		default:
			return fmt.Errorf("sample %d: label %q: want human, bot or crawler", i, s.Label)
		}
		if !(s.Weight > 0 && s.Weight <= maxWeight) {
			return fmt.Errorf("sample %d: weight %v: want above 0, at most %v", i, s.Weight, maxWeight)
		}
		if s.Schema != behaviour.SchemaVersion {
			return fmt.Errorf("sample %d: features of version %d: want %d", i, s.Schema, behaviour.SchemaVersion)
		}
	}
	if !people || !programs {
		return errors.New("want samples of people and of programs")
	}
	return nil
}

// balance returns the samples' weights, such that people and programs count alike in each origin that has both, and in all.
// The sum is that of the given weights.
func balance(samples []Sample) []float64 {
	type key struct {
		origin    string
		automated bool
	}
	sums := map[key]float64{}
	for i := range samples {
		sums[key{samples[i].Origin, samples[i].automated()}] += samples[i].Weight
	}
	w := make([]float64, len(samples))
	var total float64
	var side [2]float64
	for i := range samples {
		s := &samples[i]
		w[i] = s.Weight
		total += s.Weight
		mine, other := sums[key{s.Origin, s.automated()}], sums[key{s.Origin, !s.automated()}]
		if other > 0 {
			w[i] *= (mine + other) / 2 / mine
		}
		side[one(s.automated())] += w[i]
	}
	for i := range samples {
		w[i] *= total / 2 / side[one(samples[i].automated())]
	}
	return w
}

// one returns 1 for true and 0 for false.
func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hash mixes a seed and texts to 64 bits, the same everywhere and in every version of Go.
func hash(seed uint64, texts ...string) uint64 {
	h := fnv.New64a()
	h.Write(strconv.AppendUint(nil, seed, 16)) // writing to a hash never fails
	for _, s := range texts {
		h.Write([]byte{0})
		h.Write([]byte(s))
	}
	// FNV's low bits follow the last byte; the finaliser of MurmurHash3 spreads it.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// folds gives each sample one of n folds by its group. Groups are dealt out in the order of their hashes within
// origin, slice and label, so that every fold has its share of each kind.
func folds(samples []Sample, n int, seed uint64) []int {
	type group struct {
		stratum, name string
		hash          uint64
	}
	strata := map[string]string{} // group -> stratum of its first sample
	var groups []group
	for i := range samples {
		s := &samples[i]
		if _, ok := strata[s.Group]; !ok {
			strata[s.Group] = s.Origin + "\x00" + s.Slice + "\x00" + string(s.Label)
			groups = append(groups, group{strata[s.Group], s.Group, hash(seed, s.Group)})
		}
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.stratum, b.stratum), cmp.Compare(a.hash, b.hash), cmp.Compare(a.name, b.name))
	})
	of := make(map[string]int, len(groups))
	// Dealing goes on from one kind to the next, so that small kinds do not all begin with the same fold.
	for i, g := range groups {
		of[g.name] = i % n
	}
	out := make([]int, len(samples))
	for i := range samples {
		out[i] = of[samples[i].Group]
	}
	return out
}

// Split parts the samples into those to train on and those to test with: of every kind of client about one group in so many
// is for testing (2 or more), and no group is in both.
func Split(samples []Sample, oneIn int, seed uint64) (train, test []Sample) {
	if oneIn < 2 {
		oneIn = 2
	}
	for i, fold := range folds(samples, oneIn, seed) {
		if fold == 0 {
			test = append(test, samples[i])
		} else {
			train = append(train, samples[i])
		}
	}
	return train, test
}
