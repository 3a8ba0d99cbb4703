package escalation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Judge judges cases: an [Engine] in this process or a [Client] of one elsewhere. It does not change the case. The
// same revision of a case may be judged again.
type Judge interface {
	Judge(ctx context.Context, c *defense.Case) (*defense.Judgement, error)
}

// Options are the parts of an engine. The zero value of each but Settings leaves it out.
type Options struct {
	Settings   Settings
	Model      Model
	Reputation Reputation
	Opinion    Advisor
	// Extra are further stages, asked where Settings.Stages names them. One that has the name of a built-in stage replaces it.
	Extra []Stage
	// Purpose says what a crawler of the catalogue fetches pages for. nil: every crawler might be one that readers depend on.
	Purpose func(crawler string) (defense.Purpose, bool)
	// Exempt are the addresses on which no decision may fall: trusted proxies, ranges that the owner allows.
	Exempt []netip.Prefix
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: nothing is logged
}

// Engine judges cases in stages. It is safe for concurrent use and owns no goroutine.
type Engine struct {
	s       Settings
	stages  []stage
	rules   []rule
	purpose func(string) (defense.Purpose, bool)
	exempt  bart.Lite
	now     func() time.Time
	answers *answers
	metrics *metrics
}

// stage is a Stage with what the engine keeps of it.
type stage struct {
	Stage
	weight  float64
	most    float64 // log-odds that it can contribute before its weight, either way
	timeout time.Duration
	grey    bool // asked in the grey zone only
	state   *telemetry.State
}

// New returns an engine. The error names the setting that is wrong.
func New(o Options) (*Engine, error) {
	if err := o.Settings.validate(o.Extra); err != nil {
		return nil, fmt.Errorf("escalation: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	e := &Engine{s: o.Settings.clone(), rules: newRules(), purpose: o.Purpose, now: o.Now, answers: newAnswers(o.Settings.Answers)}
	for i, p := range o.Exempt {
		if p.IsValid() && p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() {
			return nil, fmt.Errorf("escalation: exempt[%d]: it is not a range", i)
		}
		e.exempt.Insert(p.Masked())
	}
	available := make(map[string]Stage)
	available[StageBehaviour] = &behaviourStage{rules: e.rules, evidence: e.s.Evidence}
	if o.Model != nil {
		available[StageModel] = &modelStage{o.Model}
	}
	if o.Reputation != nil {
		available[StageReputation] = &reputationStage{o.Reputation}
	}
	if o.Opinion != nil {
		available[StageOpinion] = &opinionStage{o.Opinion}
	}
	for _, s := range o.Extra {
		available[s.Name()] = s
	}
	for _, name := range e.s.Stages {
		s := available[name]
		if s == nil {
			continue
		}
		st := stage{Stage: s, weight: e.s.Weights[name], most: e.s.Evidence.MaxStage, timeout: e.s.StageTimeout, grey: name == StageOpinion}
		if name == StageBehaviour {
			st.most = math.Inf(1) // its parts are bounded one by one
		}
		if st.grey {
			st.timeout = e.s.OpinionTimeout
		}
		st.state = telemetry.NewState(o.Log.With("stage", name), "a stage of the escalation cannot judge; the others go on", "the stage of the escalation judges again", o.Now)
		e.stages = append(e.stages, st)
	}
	e.metrics = newMetrics(e.Stages())
	return e, nil
}

// Stages returns the names of the stages that there are, in their order.
func (e *Engine) Stages() []string {
	names := make([]string, len(e.stages))
	for i := range e.stages {
		names[i] = e.stages[i].Name()
	}
	return names
}

// InvalidError says what is wrong with a case.
type InvalidError struct {
	Field   string // its JSON name
	Problem string
}

// Error returns "case.field: problem".
func (e *InvalidError) Error() string { return "case." + e.Field + ": " + e.Problem }

// Bounds on a case. What the intake sends is far below.
const (
	maxKey      = 512 // bytes
	maxID       = 128 // bytes
	maxSample   = 64
	maxFeatures = 256
)

func check(c *defense.Case) error {
	switch {
	case c == nil:
		return &InvalidError{"id", "there is no case"}
	case c.ID == "" || len(c.ID) > maxID:
		return &InvalidError{"id", fmt.Sprintf("it has %d bytes, want 1 to %d", len(c.ID), maxID)}
	case c.Kind != defense.CaseClient && c.Kind != defense.CaseCampaign:
		return &InvalidError{"kind", `use "client" or "campaign"`}
	case c.Key == "" || len(c.Key) > maxKey:
		return &InvalidError{"key", fmt.Sprintf("it has %d bytes, want 1 to %d", len(c.Key), maxKey)}
	case len(c.Members.Sample) > maxSample:
		return &InvalidError{"members.sample", fmt.Sprintf("%d clients, at most %d", len(c.Members.Sample), maxSample)}
	case len(c.Features.Values) > maxFeatures:
		return &InvalidError{"features.values", fmt.Sprintf("%d features, at most %d", len(c.Features.Values), maxFeatures)}
	case c.Strikes < 0:
		return &InvalidError{"strikes", "it is negative"}
	}
	return nil
}

// Judge judges a case. Its error is an *InvalidError, or says that ctx ended before there was a judgement; a stage
// that fails is no error but is told in the judgement.
func (e *Engine) Judge(ctx context.Context, c *defense.Case) (*defense.Judgement, error) {
	if err := check(c); err != nil {
		return nil, err
	}
	if j := e.answers.get(c.ID, c.Revision); j != nil {
		e.metrics.repeated.Inc()
		return j, nil
	}
	j := &defense.Judgement{CaseID: c.ID, Revision: c.Revision}
	b := &bench{odds: logit(e.s.Prior)}
	complete := true
	if c.Identity.Status != defense.IdentityVerified { // who has proved who it is needs no judgement
		for i := range e.stages {
			st := &e.stages[i]
			p := sigmoid(b.odds)
			if st.grey && (p < e.s.Grey.Low || p > e.s.Grey.High || c.ObserveOnly) {
				continue
			}
			o, problem := e.ask(ctx, st, c)
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("judge case: %w", context.Cause(ctx))
			}
			complete = complete && problem == ""
			j.Stages = append(j.Stages, b.hear(st, o, problem, e.now()))
			if p := sigmoid(b.odds); p >= e.s.SureBot || p <= e.s.SureReader {
				break
			}
		}
	}
	j.Score = sigmoid(b.odds)
	v := newView(c)
	weighed := &evidence{groups: map[string]float64{}}
	if errSchema(c) == nil {
		weighed = weigh(e.rules, v, &e.s.Evidence)
	}
	for _, group := range b.groups {
		weighed.groups[group] += e.s.Evidence.Least
	}
	d := e.decide(v, weighed, j.Score)
	j.Outcome, j.Proposals = d.outcome, d.proposals
	j.Stages = append(j.Stages, defense.Stage{Name: StageOutcome, Score: j.Score, Sentence: d.sentence, At: e.now()})
	e.metrics.judged(j, c.Kind)
	if complete { // a stage that failed may be back when somebody asks again
		e.answers.put(j)
	}
	return j, nil
}

// bench adds up what the stages say.
type bench struct {
	odds   float64
	groups []string
}

// hear adds a stage's opinion and returns how it is kept.
func (b *bench) hear(st *stage, o Opinion, problem string, now time.Time) defense.Stage {
	out := defense.Stage{Name: st.Name(), Score: o.Score, Weight: st.weight * o.Weight, Sentence: clean(o.Sentence), At: now, Problem: problem}
	if problem != "" {
		out.Score, out.Weight = 0.5, 0
		return out
	}
	b.odds += out.Weight * max(-st.most, min(st.most, logit(o.Score)))
	if o.Group != "" && out.Weight > 0 && o.Score > 0.5 {
		b.groups = append(b.groups, o.Group)
	}
	out.Contributions = slices.Clone(o.Contributions[:min(len(o.Contributions), maxContributions)])
	for i := range out.Contributions {
		out.Contributions[i].Sentence = clean(out.Contributions[i].Sentence)
	}
	return out
}

// ask asks one stage within its time. Whatever goes wrong in it is its problem alone.
func (e *Engine) ask(ctx context.Context, st *stage, c *defense.Case) (o Opinion, problem string) {
	limited, cancel := context.WithTimeout(ctx, st.timeout)
	defer cancel()
	began := time.Now() // of the machine, not of the judgement
	o, err := callStage(limited, st.Stage, c)
	e.metrics.took(st.Name(), time.Since(began))
	if err == nil {
		err = checkOpinion(&o)
	}
	if ctx.Err() != nil {
		return Opinion{}, "interrupted" // by who asked; it says nothing about the stage
	}
	st.state.Report(err)
	if err != nil {
		e.metrics.failed(st.Name())
		return Opinion{}, clean(err.Error())
	}
	return o, ""
}

// callStage turns a panic into an error: one case that a stage cannot stand must not end the judging of all others.
func callStage(ctx context.Context, s Stage, c *defense.Case) (o Opinion, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a bug: panic: %v", r)
		}
	}()
	return s.Judge(ctx, c)
}

func checkOpinion(o *Opinion) error {
	if !(o.Score >= 0 && o.Score <= 1) || !(o.Weight >= 0 && o.Weight <= 1) {
		return fmt.Errorf("score %v with weight %v: both ought to be between 0 and 1", o.Score, o.Weight)
	}
	for _, c := range o.Contributions {
		if math.IsNaN(c.LogOdds) || math.IsInf(c.LogOdds, 0) || math.IsNaN(c.Value) || math.IsInf(c.Value, 0) {
			return errors.New("a contribution is no number")
		}
	}
	return nil
}
