package escalation

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	s := DefaultSettings()
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if err := new(Settings).Validate(); err == nil {
		t.Error("the zero value is accepted")
	}
}

func TestSettingsThatAreWrongAreNamed(t *testing.T) {
	tests := []struct {
		want   string
		change func(s *Settings)
	}{
		{"stages", func(s *Settings) { s.Stages = nil }},
		{"stages[1]", func(s *Settings) { s.Stages = []string{"model", "oracle"} }},
		{"stages[1]", func(s *Settings) { s.Stages = []string{"model", "model"} }},
		{"weights.model", func(s *Settings) { s.Weights["model"] = 6 }},
		{"weights.model", func(s *Settings) { delete(s.Weights, "model") }},
		{"weights.model", func(s *Settings) { s.Weights["model"] = math.NaN() }},
		{"weights.oracle", func(s *Settings) { s.Weights["oracle"] = 1 }},
		{"prior", func(s *Settings) { s.Prior = 0 }},
		{"prior", func(s *Settings) { s.Prior, s.Thresholds.Watch = 1, 1 }},
		{"prior", func(s *Settings) { s.Prior = 0.5 }},
		{"sureBot", func(s *Settings) { s.SureBot = 0.5 }},
		{"sureReader", func(s *Settings) { s.SureReader = 0.5 }},
		{"grey.high", func(s *Settings) { s.Grey.High = 0.1 }},
		{"thresholds.watch", func(s *Settings) { s.Thresholds.Watch = math.NaN() }},
		{"thresholds.challenge", func(s *Settings) { s.Thresholds.Challenge = 0.2 }},
		{"thresholds.throttle", func(s *Settings) { s.Thresholds.Throttle = 0.69 }},
		{"thresholds.deny", func(s *Settings) { s.Thresholds.Deny = 0.5 }},
		{"thresholds.deny", func(s *Settings) { s.Thresholds.Deny = 1.1 }},
		{"evidence.challenge", func(s *Settings) { s.Evidence.Challenge = 1 }},
		{"evidence.harder", func(s *Settings) { s.Evidence.Harder = 2 }},
		{"evidence.wide", func(s *Settings) { s.Evidence.Wide = 2 }},
		{"evidence.least", func(s *Settings) { s.Evidence.Least = 0 }},
		{"evidence.maxFeature", func(s *Settings) { s.Evidence.MaxFeature = 9 }},
		{"evidence.maxGroup", func(s *Settings) { s.Evidence.MaxGroup = 1 }},
		{"evidence.maxStage", func(s *Settings) { s.Evidence.MaxStage = 0 }},
		{"durations.base", func(s *Settings) { s.Durations.Base = 0 }},
		{"durations.base", func(s *Settings) { s.Durations.Base = 30 * 24 * time.Hour }},
		{"durations.max", func(s *Settings) { s.Durations.Max = 400 * 24 * time.Hour }},
		{"durations.wide", func(s *Settings) { s.Durations.Wide = 2 * time.Hour }},
		{"durations.trap", func(s *Settings) { s.Durations.Trap = -1 }},
		{"durations.member", func(s *Settings) { s.Durations.Member = 0 }},
		{"stageTimeout", func(s *Settings) { s.StageTimeout = 0 }},
		{"opinionTimeout", func(s *Settings) { s.OpinionTimeout = time.Hour }},
		{"readers.range", func(s *Settings) { s.Readers.Range = 0.6 }},
		{"readers.pattern", func(s *Settings) { s.Readers.Pattern = math.NaN() }},
		{"failedChallenges", func(s *Settings) { s.FailedChallenges = 1 }},
		{"rangeMembers", func(s *Settings) { s.RangeMembers = 1 }},
		{"answers", func(s *Settings) { s.Answers = -1 }},
	}
	for _, tt := range tests {
		s := DefaultSettings()
		tt.change(&s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.want+":") {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

func TestTheEngineKeepsItsOwnSettings(t *testing.T) {
	s := DefaultSettings()
	e := newEngine(t, func(o *Options) { o.Settings = s })
	s.Stages[0], s.Weights["behaviour"] = "x", 0
	if e.s.Stages[0] != StageBehaviour || e.s.Weights[StageBehaviour] != 1 {
		t.Error("they were changed from outside")
	}
}
