package intake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

// judgeTime bounds one question to the escalation engine, and decideTime the making of one decision.
const (
	judgeTime  = 20 * time.Second
	decideTime = 10 * time.Second
)

const originEngine = "engine"

// dueAtOnce is how many cases are taken from the casebook at once.
const dueAtOnce = 64

// What a restarted intake learns from the archive.
const (
	warmUpAge    = time.Hour
	warmUpEvents = 20_000
	warmUpTime   = 15 * time.Second
	keptCases    = 500 // latest cases that are taken up again
)

// warmUp gives the casebook what was known before a restart. What fails is only said: a defence that remembers
// nothing learns again.
func (s *Service) warmUp(ctx context.Context) {
	s.learnStanding()
	ctx, cancel := context.WithTimeout(ctx, warmUpTime)
	defer cancel()
	now := s.o.Now()
	if s.o.Cases != nil {
		page, err := s.o.Cases.Cases(ctx, casebook.Filter{Since: now.Add(-24 * time.Hour), Limit: keptCases})
		if err != nil {
			s.o.Log.Warn("earlier cases cannot be read", "error", err)
		}
		s.o.Book.Restore(page.Cases)
	}
	if s.o.History == nil {
		return
	}
	var events []*defense.Event
	f := record.Filter{Since: now.Add(-warmUpAge), Limit: record.MaxEvents}
	for len(events) < warmUpEvents {
		page, err := s.o.History.Events(ctx, f)
		if err != nil {
			s.o.Log.Warn("earlier events cannot be read", "error", err)
			break
		}
		for i := range page.Events {
			if e := &page.Events[i]; !shortenedClient(e) {
				events = append(events, e)
			}
		}
		if f.Before = page.Next; page.Next == "" {
			break
		}
	}
	slices.Reverse(events) // oldest first
	for _, e := range events {
		s.o.Book.Observe(e)
	}
	// Some of them may still be queued, and their senders may not know that they were accepted.
	s.memory.Lock()
	defer s.memory.Unlock()
	s.memory.note(events, idAccepted|idShown)
}

// shortenedClient reports whether the archive has kept only the neighbourhood of the event's client: all clients of
// it would then be taken for one, and for a busy one.
func shortenedClient(e *defense.Event) bool {
	p, err := netip.ParsePrefix(e.Client.Prefix)
	return err == nil && !p.IsSingleIP() && p.Masked().Addr().String() == e.Client.Address
}

// book owns the casebook until ctx ends: nobody else touches it.
func (s *Service) book(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var due []defense.Case
	for {
		var next chan<- defense.Case
		var c defense.Case
		if len(due) > 0 {
			next, c = s.judge, due[0]
		}
		select {
		case <-ctx.Done():
			return nil
		case l := <-s.observe:
			s.look(l)
		case fn := <-s.ask:
			fn(s.o.Book)
		case next <- c:
			due = due[1:]
		case v := <-s.judged:
			if v.j != nil {
				s.o.Book.Judged(v.c.ID, v.c.Revision, v.j, v.decided, s.o.Now())
			}
		case <-tick.C:
			now := s.o.Now()
			s.o.Book.Tick(now)
			if len(due) > 0 {
				break
			}
			limit := dueAtOnce
			if s.states.judge.Failing() {
				limit = s.o.Judges // enough to notice that the engine is back
			}
			due = s.o.Book.Due(now, limit)
		}
	}
}

// With runs fn on the casebook's own goroutine and waits for it. The error is ctx's, or ErrBusy once Run has ended; fn
// was then not called. fn must not call With.
func (s *Service) With(ctx context.Context, fn func(*casebook.Book)) error {
	done := make(chan struct{})
	select {
	case s.ask <- func(b *casebook.Book) { defer close(done); fn(b) }:
		<-done // it has begun
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.over:
		return fmt.Errorf("%w: shutting down", ErrBusy)
	}
}

// judges asks the engine about cases until ctx ends, or somebody else owns the decisions.
func (s *Service) judges(ctx context.Context) error {
	for {
		var c defense.Case
		select {
		case <-ctx.Done():
			return nil
		case c = <-s.judge:
		}
		v := s.judgeCase(ctx, c)
		if v.err != nil {
			return v.err
		}
		select {
		case <-ctx.Done():
			return nil
		case s.judged <- v:
		}
	}
}

// judgeCase has one case judged, carries out what is proposed, and has the case kept.
func (s *Service) judgeCase(ctx context.Context, c defense.Case) verdict {
	asking, cancel := context.WithTimeoutCause(ctx, judgeTime, fmt.Errorf("the engine did not answer within %s", judgeTime))
	j, err := s.o.Judge.Judge(asking, &c)
	cancel()
	if ctx.Err() != nil {
		return verdict{c: c}
	}
	if err == nil && j == nil {
		err = errors.New("the engine gave no judgement")
	}
	s.states.judge.Report(err)
	if err != nil {
		return verdict{c: c}
	}
	s.stats.judged.Add(1)
	now := s.o.Now()
	// The engine may give the same judgement to somebody else, so that nothing is added to it.
	c.Stages, c.Score, c.Outcome, c.JudgedAt = slices.Clone(j.Stages), j.Score, j.Outcome, now
	made, fatal := s.carryOut(ctx, &c, j, now)
	if s.o.Cases != nil {
		s.cases.put(c)
	}
	if s.o.OnCase != nil {
		s.o.OnCase(c)
	}
	if len(made) > 0 {
		s.stats.decided.Add(uint64(len(made)))
		s.raise(decidedAlert(&c, made, now))
	}
	done := *j
	done.Stages, done.Outcome = c.Stages, c.Outcome
	v := verdict{c: c, j: &done, err: fatal}
	if len(j.Proposals) > 0 { // what merely still holds is no new offence
		v.decided = c.DecisionIDs
	}
	return v
}

// maxProposals bounds the decisions of one judgement.
const maxProposals = 64

// carryOut turns the proposals into decisions. It returns those that are new or changed, and leaves in the case the ids of all that
// are in force for it. What may not be decided is noted in the case. The error says that another process owns the decisions.
func (s *Service) carryOut(ctx context.Context, c *defense.Case, j *defense.Judgement, now time.Time) (made []defense.Decision, fatal error) {
	before := c.DecisionIDs
	c.DecisionIDs = nil
	defer func() {
		if len(j.Proposals) > 0 && len(c.DecisionIDs) == 0 && c.Outcome == defense.OutcomeDecided {
			c.Outcome = defense.OutcomeWatch // none of them came to anything
		}
	}()
	holds := func(id string) {
		if !slices.Contains(c.DecisionIDs, id) {
			c.DecisionIDs = append(c.DecisionIDs, id)
		}
	}
	for _, id := range before {
		if d, ok := s.o.Decisions.Get(id); ok && inForce(&d, now) {
			holds(id)
		}
	}
	if c.ObserveOnly {
		if len(j.Proposals) > 0 {
			note(c, now, "nothing was decided: the source of these events does not vouch for the client's address")
		}
		return nil, nil
	}
	s.standing.mu.Lock()
	defer s.standing.mu.Unlock()
	for i := range j.Proposals[:min(len(j.Proposals), maxProposals)] {
		p := &j.Proposals[i]
		seconds := min(p.Seconds, maxDecision)
		if seconds <= 0 {
			continue
		}
		d := defense.Decision{
			Scope: p.Scope, Value: p.Value, Action: p.Action, Origin: originEngine, Reason: p.Reason, CaseID: c.ID, Site: c.Site,
			Created: now, Expires: now.Add(time.Duration(seconds) * time.Second),
		}
		if err := d.Normalize(); err == nil { // the log says what is wrong with it otherwise
			if x := covers(s.standing.sweep(subject{d.Scope, d.Value}, s.o.Decisions.Get, now), &d, now); x != nil {
				holds(x.ID)
				continue
			}
		}
		got, err := s.decide(ctx, d)
		if err != nil {
			s.refuse(ctx, c, now, err)
			if errors.Is(err, decision.ErrConflict) {
				fatal = err
			}
			continue
		}
		made = append(made, got...)
		for i := range got {
			s.standing.add(&got[i], s.o.Decisions.Get, now)
			holds(got[i].ID)
		}
	}
	return made, fatal
}

// maxDecision is the longest decision of the engine, in seconds: a year.
const maxDecision = 366 * 86400

func (s *Service) decide(ctx context.Context, d defense.Decision) ([]defense.Decision, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, decideTime, fmt.Errorf("the decision log did not answer within %s", decideTime))
	defer cancel()
	got, err := s.o.Decisions.Add(ctx, []defense.Decision{d}, decision.AddOptions{})
	if err == nil {
		s.states.decisions.Report(nil)
	}
	return got, err
}

// refuse notes that a proposal was not carried out. That a trusted proxy, or whom the operator allows, is not
// decided on is as it should be; a log that cannot be written to is not.
func (s *Service) refuse(ctx context.Context, c *defense.Case, now time.Time, err error) {
	s.stats.refused.Add(1)
	var item *decision.ItemError
	if errors.As(err, &item) {
		note(c, now, "nothing was decided: "+item.Err.Error())
		return
	}
	if ctx.Err() == nil {
		s.states.decisions.Report(err)
	}
	note(c, now, "the decision could not be made: "+err.Error())
}

// note adds to a case why a proposal was not carried out.
func note(c *defense.Case, now time.Time, problem string) {
	const stage = "decision"
	for i := range c.Stages {
		if c.Stages[i].Name == stage && c.Stages[i].Problem == problem {
			return
		}
	}
	c.Stages = append(c.Stages, defense.Stage{Name: stage, At: now, Problem: problem})
}

// Show gives the casebook one event, and Step has judged what is due: for who plays a scenario in virtual time, in
// one goroutine, instead of Run.
func (s *Service) Show(e *defense.Event) {
	s.o.Book.Observe(e)
	s.notice(e)
}

// Step does what Run does each second. See Show.
func (s *Service) Step(ctx context.Context) {
	now := s.o.Now()
	s.o.Book.Tick(now)
	for _, c := range s.o.Book.Due(now, 1000) {
		if v := s.judgeCase(ctx, c); v.j != nil {
			s.o.Book.Judged(v.c.ID, v.c.Revision, v.j, v.decided, now)
		}
	}
}
