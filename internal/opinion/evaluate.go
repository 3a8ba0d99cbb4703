package opinion

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/llm/price"
)

// Sample is a case of which it is known what it is.
type Sample struct {
	Case      *defense.Case
	Automated bool
	Before    float64 // score by the stages before
}

// Report is how good a model's opinions are.
type Report struct {
	Samples int `json:"samples"`
	// What came of the questions; Remembered are those that look the same as one before.
	Answered, Remembered, NotAsked, Nonsense, Failed int
	Unsure                                           int `json:"unsure"` // of the answers
	// Of the answers that say something: how many programs and people were taken for which.
	Right, ReadersTakenForPrograms, ProgramsTakenForReaders int

	Accuracy    float64 `json:"accuracy"`    // of the answers that say something
	Brier       float64 `json:"brier"`       // mean square of the error of the scores, 0 to 1; always 0.5 has 0.25
	Calibration float64 `json:"calibration"` // mean difference between confidence and how often it is right, over five classes
	// Compared with the stages before, where both say something: how often they disagree, and how often the model is right then.
	Disagreed, RightWhenDisagreed int

	Tokens int           `json:"tokens"`
	Cost   price.Money   `json:"cost"`
	Median time.Duration `json:"median"` // time of an answer
}

// Evaluate asks about each of the samples, one after the other. It ends early, with what it has, when ctx does, or when today's budget is used up.
func Evaluate(ctx context.Context, a *Advisor, samples []Sample) Report {
	r := Report{Samples: len(samples)}
	var squares float64
	var took []time.Duration
	type class struct{ n, right, confidence float64 }
	var classes [5]class
	scored := 0
	for i := range samples {
		s := &samples[i]
		q := NewQuestion(s.Case)
		began := a.o.Now()
		answer, err := a.Question(ctx, &q)
		switch {
		case ctx.Err() != nil:
			return r.finish(squares, scored, took, nil)
		case errors.Is(err, ErrNotAsked):
			r.NotAsked++
			continue
		case errors.Is(err, ErrNonsense):
			r.Nonsense++
			r.Tokens += answer.Usage.PromptTokens + answer.Usage.CompletionTokens
			r.Cost += answer.Cost
			continue
		case err != nil:
			r.Failed++
			continue
		case answer.Usage.PromptTokens == 0:
			r.Remembered++
		default:
			r.Answered++
			took = append(took, a.o.Now().Sub(began))
		}
		r.Tokens += answer.Usage.PromptTokens + answer.Usage.CompletionTokens
		r.Cost += answer.Cost
		truth := 0.0
		if s.Automated {
			truth = 1
		}
		squares += (answer.Score() - truth) * (answer.Score() - truth)
		scored++
		if answer.Label == Unsure {
			r.Unsure++
			continue
		}
		right := (answer.Label == Automation) == s.Automated
		switch {
		case right:
			r.Right++
		case s.Automated:
			r.ProgramsTakenForReaders++
		default:
			r.ReadersTakenForPrograms++
		}
		c := &classes[min(int(answer.Confidence*5), 4)]
		c.n++
		c.confidence += answer.Confidence
		if right {
			c.right++
		}
		if (s.Before >= 0.5) != (answer.Label == Automation) {
			r.Disagreed++
			if right {
				r.RightWhenDisagreed++
			}
		}
	}
	var off float64
	said := float64(r.Right + r.ReadersTakenForPrograms + r.ProgramsTakenForReaders)
	for _, c := range classes {
		if c.n > 0 {
			off += math.Abs(c.right-c.confidence) / said
		}
	}
	return r.finish(squares, scored, took, &off)
}

func (r Report) finish(squares float64, scored int, took []time.Duration, off *float64) Report {
	if said := r.Right + r.ReadersTakenForPrograms + r.ProgramsTakenForReaders; said > 0 {
		r.Accuracy = float64(r.Right) / float64(said)
	}
	if scored > 0 {
		r.Brier = squares / float64(scored)
	}
	if off != nil {
		r.Calibration = *off
	}
	if len(took) > 0 {
		slices.Sort(took)
		r.Median = took[len(took)/2]
	}
	return r
}
