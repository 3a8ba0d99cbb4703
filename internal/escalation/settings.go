package escalation

import (
	"fmt"
	"slices"
	"time"
)

// The stages' names.
const (
	StageBehaviour  = "behaviour"
	StageModel      = "model"
	StageReputation = "reputation"
	StageOpinion    = "opinion"
	// StageOutcome is no stage that judges: the last entry of a judgement's stages, which says why the outcome is what it is. Its
	// score is the case's, its weight 0.
	StageOutcome = "outcome"
)

// Settings are what an owner may tune. Probabilities are 0..1. Begin with [DefaultSettings]: the zero value is not valid.
type Settings struct {
	// Stages are asked in this order. One that is not configured (no model, nobody to ask) does not exist.
	Stages []string
	// Weights say how much each stage counts, 0..5. The stages look at one client from several sides, so what follows on the first counts less.
	Weights map[string]float64

	Prior      float64 // how likely a case is unwanted automation before anything is known of it
	SureBot    float64 // from here on no further stage is asked; 1: never sure
	SureReader float64 // up to here likewise; 0: never sure
	Grey       Grey

	Thresholds Thresholds
	Evidence   Evidence
	Durations  Durations
	Readers    Readers

	// FailedChallenges is how many challenges a client that claims a browser must have been shown, passing none and going on to
	// different pages, before it is met with more than another. A reader without cookies gives up long before.
	FailedChallenges int
	// RangeMembers is the least number of odd clients in a range before it is challenged or throttled as one.
	RangeMembers uint64

	StageTimeout   time.Duration // of a stage
	OpinionTimeout time.Duration // of the stage "opinion"
	Answers        int           // how many answers are remembered, for who asks again
}

// Grey is where another opinion is worth its price.
type Grey struct{ Low, High float64 }

// Thresholds are the scores from which on something is done; 1: never. None is below the one before it.
type Thresholds struct {
	Watch     float64 // looked at again with more evidence
	Challenge float64
	Throttle  float64 // of what cannot solve a challenge: crawlers and tools that say so
	Tarpit    float64 // of what no reader would do, with three groups of evidence
	Deny      float64 // likewise
}

// Evidence bounds what observations can do. Contributions are in log-odds.
type Evidence struct {
	Challenge int // groups that a challenge or throttling needs, at least 2
	Harder    int // groups that anything harder needs, at least 3
	Wide      int // groups that anything wider than one client needs, at least 3, two of them beyond how many came how suddenly

	Least      float64 // what a group must contribute to count
	MaxFeature float64 // what one observation can contribute, either way
	MaxGroup   float64 // what one group can contribute, either way
	MaxStage   float64 // what a stage other than "behaviour" can contribute before its weight, either way
}

// Durations are how long decisions last. Each strike doubles.
type Durations struct {
	Base   time.Duration // on one client
	Max    time.Duration // the longest on one client
	Trap   time.Duration // on one client that did nothing but follow a link that people do not see
	Member time.Duration // on a member of a campaign
	Wide   time.Duration // on a fingerprint or range; never above an hour
}

// Readers bound how many readers a wide decision may meet: readers among readers and members, by what they share.
type Readers struct {
	Pattern float64 // the same program asking for one kind of page
	Program float64 // the same headers, or the same program, whatever it asks for
	Range   float64 // a network
}

// maxWide is how long an automatic decision on more than one client may last, by the contract of decisions.
const maxWide = time.Hour

// DefaultSettings returns the settings that the engine is tested with.
func DefaultSettings() Settings {
	return Settings{
		Stages:     []string{StageBehaviour, StageModel, StageReputation, StageOpinion},
		Weights:    map[string]float64{StageBehaviour: 1, StageModel: 0.5, StageReputation: 0.5, StageOpinion: 0.5},
		Prior:      0.1,
		SureBot:    0.98,
		SureReader: 0.02,
		Grey:       Grey{Low: 0.35, High: 0.85},
		Thresholds: Thresholds{Watch: 0.35, Challenge: 0.7, Throttle: 0.85, Tarpit: 0.93, Deny: 0.98},
		Evidence:   Evidence{Challenge: 2, Harder: 3, Wide: 3, Least: 0.4, MaxFeature: 1.6, MaxGroup: 2.2, MaxStage: 3},
		Durations: Durations{
			Base: 15 * time.Minute, Max: 7 * 24 * time.Hour, Trap: 15 * time.Minute, Member: 15 * time.Minute, Wide: 15 * time.Minute,
		},
		Readers:          Readers{Pattern: 0.5, Program: 0.2, Range: 0.1},
		FailedChallenges: 10,
		RangeMembers:     20,
		StageTimeout:     3 * time.Second,
		OpinionTimeout:   20 * time.Second,
		Answers:          1024,
	}
}

// Validate returns an error that names the first field that is wrong, in the spelling of the configuration.
func (s *Settings) Validate() error { return s.validate(nil) }

// validate also knows the stages that were added.
func (s *Settings) validate(extra []Stage) error {
	known := []string{StageBehaviour, StageModel, StageReputation, StageOpinion}
	for _, e := range extra {
		known = append(known, e.Name())
	}
	if len(s.Stages) == 0 {
		return fmt.Errorf("stages: there is none: use some of %v", known)
	}
	for i, name := range s.Stages {
		switch {
		case !slices.Contains(known, name):
			return fmt.Errorf("stages[%d]: unknown stage %q: use one of %v", i, name, known)
		case slices.Contains(s.Stages[:i], name):
			return fmt.Errorf("stages[%d]: %q is named twice", i, name)
		}
		if w, ok := s.Weights[name]; !ok || !(w >= 0 && w <= 5) {
			return fmt.Errorf("weights.%s: %v is not between 0 and 5", name, w)
		}
	}
	for name := range s.Weights {
		if !slices.Contains(known, name) {
			return fmt.Errorf("weights.%s: there is no such stage: use one of %v", name, known)
		}
	}

	t := &s.Thresholds
	probabilities := []struct {
		name  string
		value float64
	}{
		{"prior", s.Prior}, {"sureBot", s.SureBot}, {"sureReader", s.SureReader}, {"grey.low", s.Grey.Low}, {"grey.high", s.Grey.High},
		{"thresholds.watch", t.Watch}, {"thresholds.challenge", t.Challenge}, {"thresholds.throttle", t.Throttle}, {"thresholds.tarpit", t.Tarpit},
		{"thresholds.deny", t.Deny},
	}
	for i, p := range probabilities {
		// A prior of 0 or 1 could not be changed by any evidence.
		if !(p.value >= 0 && p.value <= 1) || p.name == "prior" && (p.value == 0 || p.value == 1) {
			return fmt.Errorf("%s: %v is not between 0 and 1", p.name, p.value)
		}
		if before := probabilities[max(i-1, 0)]; i > 5 && p.value < before.value {
			return fmt.Errorf("%s: %v is below %s, which is milder", p.name, p.value, before.name)
		}
	}
	switch {
	case s.Prior > t.Watch:
		return fmt.Errorf("prior: %v is above thresholds.watch: whoever has a case would be suspicious already", s.Prior)
	case s.SureBot < t.Challenge:
		return fmt.Errorf("sureBot: %v is below thresholds.challenge", s.SureBot)
	case s.SureReader > t.Watch:
		return fmt.Errorf("sureReader: %v is above thresholds.watch", s.SureReader)
	case s.Grey.High < s.Grey.Low:
		return fmt.Errorf("grey.high: %v is below grey.low", s.Grey.High)
	}

	e := &s.Evidence
	switch {
	case e.Challenge < 2:
		return fmt.Errorf("evidence.challenge: %d is below 2: no single observation may change a verdict", e.Challenge)
	case e.Harder < max(3, e.Challenge):
		return fmt.Errorf("evidence.harder: %d is below %d", e.Harder, max(3, e.Challenge))
	case e.Wide < max(3, e.Challenge):
		return fmt.Errorf("evidence.wide: %d is below %d", e.Wide, max(3, e.Challenge))
	case !(e.Least > 0 && e.Least <= 2):
		return fmt.Errorf("evidence.least: %v is not above 0 and at most 2", e.Least)
	case !(e.MaxFeature >= e.Least && e.MaxFeature <= 3):
		return fmt.Errorf("evidence.maxFeature: %v is not between evidence.least and 3", e.MaxFeature)
	case !(e.MaxGroup >= e.MaxFeature && e.MaxGroup <= 5):
		return fmt.Errorf("evidence.maxGroup: %v is not between evidence.maxFeature and 5", e.MaxGroup)
	case !(e.MaxStage > 0 && e.MaxStage <= 5):
		return fmt.Errorf("evidence.maxStage: %v is not above 0 and at most 5", e.MaxStage)
	}

	d := &s.Durations
	for _, f := range []struct {
		name        string
		value, most time.Duration
	}{
		{"durations.max", d.Max, 365 * 24 * time.Hour}, {"durations.base", d.Base, d.Max}, {"durations.trap", d.Trap, 24 * time.Hour},
		{"durations.member", d.Member, 24 * time.Hour}, {"durations.wide", d.Wide, maxWide},
		{"stageTimeout", s.StageTimeout, time.Minute}, {"opinionTimeout", s.OpinionTimeout, 5 * time.Minute},
	} {
		least := time.Second
		if f.name == "stageTimeout" || f.name == "opinionTimeout" {
			least = time.Millisecond
		}
		if f.value < least || f.value > f.most {
			return fmt.Errorf("%s: %s is not between %s and %s", f.name, f.value, least, f.most)
		}
	}

	for _, f := range []struct {
		name  string
		value float64
	}{{"readers.pattern", s.Readers.Pattern}, {"readers.program", s.Readers.Program}, {"readers.range", s.Readers.Range}} {
		if !(f.value >= 0 && f.value <= 0.5) {
			return fmt.Errorf("%s: %v is not between 0 and 0.5: where most are readers, nothing wide is done", f.name, f.value)
		}
	}
	switch {
	case s.FailedChallenges < 3:
		return fmt.Errorf("failedChallenges: %d is below 3: readers fail now and then", s.FailedChallenges)
	case s.RangeMembers < 5:
		return fmt.Errorf("rangeMembers: %d is below 5: a network is not judged by a few", s.RangeMembers)
	case s.Answers < 0 || s.Answers > 1<<16:
		return fmt.Errorf("answers: %d is not between 0 and %d", s.Answers, 1<<16)
	}
	return nil
}

// clone returns a copy that shares nothing.
func (s Settings) clone() Settings {
	s.Stages = slices.Clone(s.Stages)
	weights := make(map[string]float64, len(s.Weights))
	for k, v := range s.Weights {
		weights[k] = v
	}
	s.Weights = weights
	return s
}
