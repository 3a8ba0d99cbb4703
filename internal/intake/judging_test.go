package intake

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

// on is a proposal about an address.
func on(value string, a defense.Action, lasts time.Duration) defense.Proposal {
	return defense.Proposal{Scope: defense.ScopeAddress, Value: value, Action: a, Seconds: int64(lasts / time.Second), Reason: "it is a test"}
}

// proposing answers each case with these proposals.
func proposing(list ...defense.Proposal) func(c *defense.Case) (*defense.Judgement, error) {
	stages := make([]defense.Stage, 1, 8) // with room that must not be used: the engine keeps its answers
	stages[0] = defense.Stage{Name: "behaviour", Score: 0.9, Weight: 1}
	return func(c *defense.Case) (*defense.Judgement, error) {
		return &defense.Judgement{CaseID: c.ID, Revision: c.Revision, Outcome: defense.OutcomeDecided, Score: 0.9, Stages: stages, Proposals: list}, nil
	}
}

// aCase is one that the casebook never heard of.
func aCase(id string) defense.Case {
	return defense.Case{ID: id, Revision: 3, Kind: defense.CaseClient, Key: "192.0.2.1", Site: "wiki", EventCount: 9, Members: defense.CaseMembers{Count: 1}}
}

// judged has a case judged with these proposals.
func (p *parts) judged(t testing.TB, c defense.Case, list ...defense.Proposal) verdict {
	t.Helper()
	p.judge.answer = proposing(list...)
	v := p.s.judgeCase(t.Context(), c)
	if v.j == nil {
		t.Fatal("not judged")
	}
	return v
}

// inForce lists the decisions as "value action site".
func (p *parts) inForce() []string {
	var list []string
	for _, d := range p.log.Set().List(decision.Filter{}, p.o.Now(), 100) {
		list = append(list, strings.TrimSpace(fmt.Sprint(d.Value, " ", d.Action, " ", d.Site)))
	}
	slices.Sort(list)
	return list
}

func TestAProposalBecomesADecisionAndAnAlert(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	var told []defense.Case
	p.s.o.OnCase = func(c defense.Case) { told = append(told, c) }
	v := p.judged(t, aCase("one"), on("192.0.2.1/32", defense.Tarpit, time.Hour))
	d, ok := p.log.Get(v.decided[0])
	if !ok || len(v.decided) != 1 {
		t.Fatalf("decided %v", v.decided)
	}
	if d.Value != "192.0.2.1" || d.Action != defense.Tarpit || d.Origin != "engine" || d.CaseID != "one" || d.Site != "wiki" || !d.Expires.Equal(evening().Add(time.Hour)) {
		t.Errorf("decision %+v", d)
	}
	if v.c.Outcome != defense.OutcomeDecided || !slices.Equal(v.c.DecisionIDs, v.decided) || len(told) != 1 || !v.c.JudgedAt.Equal(evening()) {
		t.Errorf("case %+v", v.c)
	}
	list := p.alerts.all()
	if len(list) != 1 || list[0].Kind != "client" || list[0].CaseID != "one" || list[0].ID == "" {
		t.Fatalf("alerts %+v", list)
	}
	contains(t, list[0].Title, "192.0.2.1", "tarpit")
	if s := p.s.Stats(); s.Judged != 1 || s.Decided != 1 || s.Refused != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestTheSameCaseJudgedAgainIsNoNoiseInTheLog(t *testing.T) {
	t.Parallel()
	now := evening()
	p := newParts(t, func() time.Time { return now })
	c := aCase("one")
	first := p.judged(t, c, on("192.0.2.1", defense.Deny, time.Hour))
	for minute := range 29 {
		now = now.Add(time.Minute)
		again := on("192.0.2.1", defense.Deny, time.Hour)
		again.Reason = fmt.Sprintf("%d requests by now", minute)
		c.DecisionIDs, c.Revision = first.decided, c.Revision+1
		if v := p.judged(t, c, again); !slices.Equal(v.decided, first.decided) || v.c.Outcome != defense.OutcomeDecided {
			t.Fatalf("decided %v, at first %v", v.decided, first.decided)
		}
	}
	if p.kept.commits != 1 || len(p.alerts.all()) != 1 {
		t.Errorf("%d writes to the log, %d alerts", p.kept.commits, len(p.alerts.all()))
	}
	now = now.Add(2 * time.Minute) // less than half is left
	v := p.judged(t, c, on("192.0.2.1", defense.Deny, time.Hour))
	d, _ := p.log.Get(v.decided[0])
	if !slices.Equal(v.decided, first.decided) || !d.Expires.Equal(now.Add(time.Hour)) || p.kept.commits != 2 {
		t.Errorf("renewed: %v until %v, %d writes", v.decided, d.Expires, p.kept.commits)
	}
}

func TestWhatStandsInTheWayOfADecision(t *testing.T) {
	t.Parallel()
	type step struct {
		id    string // of the case
		site  string
		p     defense.Proposal
		after time.Duration
	}
	a := "192.0.2.1"
	for _, c := range []struct {
		name  string
		steps []step
		want  []string
	}{
		{"a milder one while the harder holds, of the same case", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"one", "wiki", on(a, defense.Challenge, 4*time.Hour), 50 * time.Minute}},
			[]string{a + " deny wiki"}},
		{"a milder one while the harder holds, of another case", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"two", "wiki", on(a, defense.Challenge, time.Hour), 0}},
			[]string{a + " deny wiki"}},
		{"a milder one on all sites while the harder holds on one", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"one", "", on(a, defense.Challenge, time.Hour), 0}},
			[]string{a + " deny wiki"}},
		{"a milder one on one site while the harder holds on all", []step{{"one", "", on(a, defense.Deny, time.Hour), 0}, {"one", "wiki", on(a, defense.Challenge, time.Hour), 0}},
			[]string{a + " deny"}},
		{"nothing, on another site", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"two", "shop", on(a, defense.Challenge, time.Hour), 0}},
			[]string{a + " challenge shop", a + " deny wiki"}},
		{"nothing, when the harder has ended", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"one", "wiki", on(a, defense.Challenge, time.Hour), 61 * time.Minute}},
			[]string{a + " challenge wiki"}},
		{"nothing, when it is harder", []step{{"one", "wiki", on(a, defense.Challenge, time.Hour), 0}, {"one", "wiki", on(a, defense.Deny, time.Hour), time.Minute}},
			[]string{a + " challenge wiki", a + " deny wiki"}},
		{"the same for as long, of another case", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"two", "wiki", on(a, defense.Deny, 90*time.Minute), 0}},
			[]string{a + " deny wiki"}},
		{"the same on all sites", []step{{"one", "", on(a, defense.Deny, time.Hour), 0}, {"two", "wiki", on(a, defense.Deny, time.Hour), 0}},
			[]string{a + " deny"}},
		{"nothing, when it is on all sites", []step{{"one", "wiki", on(a, defense.Deny, time.Hour), 0}, {"one", "", on(a, defense.Deny, time.Hour), 0}},
			[]string{a + " deny", a + " deny wiki"}},
		{"the same address written in another way", []step{{"one", "wiki", on("2001:db8::1", defense.Deny, time.Hour), 0}, {"one", "wiki", on(" 2001:0DB8:0::1/128", defense.Challenge, time.Hour), 0}},
			[]string{"2001:db8::1 deny wiki"}},
		{"no time", []step{{"one", "wiki", on(a, defense.Deny, 0), 0}, {"one", "wiki", on(a, defense.Deny, -time.Hour), 0}}, nil},
	} {
		now := evening()
		p := newParts(t, func() time.Time { return now })
		for _, s := range c.steps {
			now = now.Add(s.after)
			k := aCase(s.id)
			k.Site = s.site
			if v := p.judged(t, k, s.p); (len(v.decided) > 0) != (c.want != nil) {
				t.Errorf("%s: decided %v", c.name, v.decided)
			}
		}
		if diff := cmp.Diff(c.want, p.inForce()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if p.s.Stats().Refused != 0 {
			t.Errorf("%s: refused", c.name)
		}
	}
}

func TestADecisionThatTheOperatorHasDeletedIsMadeAnew(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	v := p.judged(t, aCase("one"), on("192.0.2.1", defense.Deny, time.Hour))
	if _, err := p.log.Delete(t.Context(), v.decided...); err != nil {
		t.Fatal(err)
	}
	if w := p.judged(t, aCase("one"), on("192.0.2.1", defense.Challenge, time.Hour)); len(w.decided) != 1 || w.decided[0] == v.decided[0] {
		t.Errorf("decided %v", w.decided)
	}
}

func TestTheHarderDecisionOfBeforeARestartIsKnown(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	ctx := t.Context()
	for _, d := range []defense.Decision{
		{Scope: defense.ScopeAddress, Value: "192.0.2.1", Action: defense.Deny, Origin: "engine", Created: time.Now(), Expires: time.Now().Add(time.Hour)},
		{Scope: defense.ScopeAddress, Value: "192.0.2.2", Action: defense.Deny, Origin: "operator", Created: time.Now(), Expires: time.Now().Add(time.Hour)},
	} {
		if _, err := r.log.Add(ctx, []defense.Decision{d}, decision.AddOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.s.warmUp(ctx)
	r.o.Judge.(*judge).answer = proposing(on("192.0.2.1", defense.Challenge, time.Hour), on("192.0.2.2", defense.Challenge, time.Hour))
	v := r.s.judgeCase(ctx, aCase("one"))
	if len(v.decided) != 2 || r.log.Set().Len() != 3 {
		t.Errorf("decided %v, %d in force", v.decided, r.log.Set().Len())
	}
}

func TestProposalsThatAreRefusedAreNotedAndNothingIsDecided(t *testing.T) {
	t.Parallel()
	fingerprint := defense.Proposal{Scope: defense.ScopeFingerprint, Value: "program:9f2c41d07b3ea865", Action: defense.Deny, Seconds: 60, Reason: "a test"}
	long := fingerprint
	long.Action, long.Seconds = defense.Challenge, 2*3600
	bell := on("192.0.2.1", defense.Deny, time.Hour)
	bell.Reason = "a bell \a"
	for _, c := range []struct {
		name     string
		p        defense.Proposal
		note     string
		lasting  bool // it is the log that is wrong
		maxCount int
		prepare  func(p *parts)
	}{
		{name: "a trusted proxy", p: on("10.1.2.3", defense.Deny, time.Hour), note: "10.0.0.0/8"},
		{name: "whom the operator allows", p: on("192.0.2.1", defense.Deny, time.Hour), note: "allowed by the operator", prepare: func(p *parts) {
			d := defense.Decision{Scope: defense.ScopeRange, Value: "192.0.2.0/24", Action: defense.Allow, Origin: "operator"}
			if _, err := p.log.Add(t.Context(), []defense.Decision{d}, decision.AddOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "more than one client", p: fingerprint, note: "more than one client"},
		{name: "more than one client for long", p: long, note: "an hour at most"},
		{name: "what is no address", p: on("everybody", defense.Deny, time.Hour), note: "not an IP address"},
		{name: "what nobody can read", p: bell, note: "printable"},
		{name: "a full log", p: on("192.0.2.1", defense.Deny, time.Hour), note: "the decision set is full", lasting: true, maxCount: 1, prepare: func(p *parts) {
			d := defense.Decision{Scope: defense.ScopeAddress, Value: "192.0.2.9", Action: defense.Deny, Origin: "operator"}
			if _, err := p.log.Add(t.Context(), []defense.Decision{d}, decision.AddOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a log that cannot be written", p: on("192.0.2.1", defense.Deny, time.Hour), note: "disk is gone", lasting: true, prepare: func(p *parts) { p.kept.fail = errors.New("disk is gone") }},
	} {
		store := &decisionStore{}
		log := newLog(t, store, decision.LogOptions{Now: evening, MaxEntries: c.maxCount})
		p := newParts(t, evening, func(o *Options) { o.Decisions = log })
		p.log, p.kept = log, store
		if c.prepare != nil {
			c.prepare(p)
		}
		before := p.inForce()
		v := p.judged(t, aCase("one"), c.p, c.p)
		if len(v.decided) != 0 || v.c.Outcome != defense.OutcomeWatch || v.j.Outcome != defense.OutcomeWatch || v.err != nil {
			t.Errorf("%s: decided %v, outcome %q %q, %v", c.name, v.decided, v.c.Outcome, v.j.Outcome, v.err)
		}
		last := v.c.Stages[len(v.c.Stages)-1]
		if last.Name != "decision" || !strings.Contains(last.Problem, c.note) || len(v.c.Stages) != 2 {
			t.Errorf("%s: noted %+v, want %q", c.name, v.c.Stages, c.note)
		}
		if !cmp.Equal(v.j.Stages, v.c.Stages) {
			t.Errorf("%s: the casebook is told of other stages", c.name)
		}
		if p.s.states.decisions.Failing() != c.lasting || p.s.Stats().Refused != 2 || len(p.alerts.all()) != 0 {
			t.Errorf("%s: failing %t, stats %+v, alerts %d", c.name, p.s.states.decisions.Failing(), p.s.Stats(), len(p.alerts.all()))
		}
		if diff := cmp.Diff(before, p.inForce()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		// The engine's own answer is as it was: it may give it to somebody else.
		if j, _ := p.judge.answer(&v.c); len(j.Stages) != 1 || j.Stages[:2][1].Name != "" {
			t.Errorf("%s: the engine's answer was changed: %+v", c.name, j.Stages[:2])
		}
		if c.lasting { // and then it is mended
			p.kept.fail = nil
			p.judged(t, aCase("one"), on("192.0.2.9", defense.Challenge, time.Hour))
			if c.maxCount == 0 && p.s.states.decisions.Failing() {
				t.Errorf("%s: it does not seem to be mended", c.name)
			}
		}
	}
}

func TestOneProposalThatIsRefusedDoesNotTakeBackTheOthers(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	v := p.judged(t, aCase("one"), on("10.1.2.3", defense.Deny, time.Hour), on("192.0.2.1", defense.Deny, time.Hour), on("10.1.2.4", defense.Deny, time.Hour))
	if len(v.decided) != 1 || v.c.Outcome != defense.OutcomeDecided {
		t.Errorf("decided %v, outcome %q", v.decided, v.c.Outcome)
	}
	if diff := cmp.Diff([]string{"192.0.2.1 deny wiki"}, p.inForce()); diff != "" {
		t.Error(diff)
	}
}

func TestEventsOfASourceThatDoesNotVouchLeadToNoDecision(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	c := aCase("one")
	c.ObserveOnly = true
	v := p.judged(t, c, on("192.0.2.1", defense.Deny, time.Hour))
	if len(v.decided) != 0 || v.c.Outcome != defense.OutcomeWatch || p.inForce() != nil {
		t.Errorf("decided %v, outcome %q, in force %v", v.decided, v.c.Outcome, p.inForce())
	}
	contains(t, v.c.Stages[1].Problem, "does not vouch")
}

func TestACaseThatMerelyStillHoldsIsNoNewOffence(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	c := aCase("one")
	c.DecisionIDs = p.judged(t, c, on("192.0.2.1", defense.Deny, time.Hour)).decided
	v := p.judged(t, c)
	if v.decided != nil || !slices.Equal(v.c.DecisionIDs, c.DecisionIDs) {
		t.Errorf("the casebook is told of %v; in force are %v", v.decided, v.c.DecisionIDs)
	}
}

func TestManyProposalsAreBounded(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	var list []defense.Proposal
	for i := range 200 {
		list = append(list, on(fmt.Sprintf("192.0.2.%d", i), defense.Deny, math.MaxInt64))
	}
	list[0].Seconds = math.MaxInt64
	if v := p.judged(t, aCase("one"), list...); len(v.decided) != maxProposals {
		t.Errorf("%d decisions", len(v.decided))
	}
	for _, d := range p.log.Set().List(decision.Filter{}, evening(), 100) {
		if d.Expires.After(evening().Add(367 * 24 * time.Hour)) {
			t.Errorf("a decision until %v", d.Expires)
		}
	}
}

func TestStandingForgetsWhatHasEnded(t *testing.T) {
	t.Parallel()
	now := evening()
	gone := map[string]bool{}
	get := func(id string) (defense.Decision, bool) {
		return defense.Decision{ID: id, Expires: evening().Add(time.Hour)}, !gone[id]
	}
	var s standing
	for i := range 20_000 {
		d := defense.Decision{ID: fmt.Sprint(i), Scope: defense.ScopeAddress, Value: fmt.Sprint("v", i)}
		s.add(&d, get, now)
		gone[fmt.Sprint(i-100)] = true
	}
	if len(s.by) > 3000 || len(s.by) != s.ids {
		t.Errorf("%d subjects, %d ids", len(s.by), s.ids)
	}
}

func TestSomebodyElsesDecisionsEndTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		p.kept.fail = fmt.Errorf("commit: %w", decision.ErrConflict)
		p.judge.answer = proposing(on("192.0.2.1", defense.Deny, time.Hour))
		done := make(chan error)
		go func() { done <- p.s.Run(t.Context()) }()
		accept(t, p.s, trapped(1))
		if err := <-done; !errors.Is(err, decision.ErrConflict) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestAnEngineThatIsAwayIsAskedSparinglyAndThenCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		p.judge.answer = func(*defense.Case) (*defense.Judgement, error) { return nil, errors.New("connection refused") }
		stop := run(t, p.s)
		const cases = 200
		for i := range cases {
			accept(t, p.s, trapped(i))
		}
		time.Sleep(5 * time.Minute)
		// Some cases each second, and none more often than once a minute.
		if n := p.judge.times(); n > 5*60*p.s.o.Judges+2*dueAtOnce || n > 6*cases || n < cases/2 {
			t.Errorf("%d questions in five minutes", n)
		}
		if !p.s.states.judge.Failing() {
			t.Error("that is not said")
		}
		p.judge.mu.Lock()
		p.judge.answer = nil
		p.judge.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if s := p.s.Stats(); s.Judged < cases || p.s.states.judge.Failing() {
			t.Errorf("%d of %d cases judged when it was back", s.Judged, cases)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestASlowCaseDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		slow := ""
		p.s.o.Judge = judgeFunc(func(ctx context.Context, c *defense.Case) (*defense.Judgement, error) {
			if c.Key == slow {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return p.judge.Judge(ctx, c)
		})
		slow = trapped(0).Client.Address
		stop := run(t, p.s)
		accept(t, p.s, trapped(0))
		time.Sleep(2 * time.Second)
		for i := 1; i < 100; i++ {
			accept(t, p.s, trapped(i))
		}
		time.Sleep(5 * time.Second)
		if n := p.judge.times(); n != 99 {
			t.Errorf("%d of 99 cases judged while one takes long", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnEngineThatAnswersNothingIsNoPanic(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	p.judge.answer = func(*defense.Case) (*defense.Judgement, error) { return nil, nil }
	if v := p.s.judgeCase(t.Context(), aCase("one")); v.j != nil {
		t.Errorf("judged %+v", v.j)
	}
}

// caseStore keeps cases in memory with faults.
type caseStore struct {
	casebook.Store
	mu     sync.Mutex
	kept   map[string]defense.Case
	away   error
	poison string
	calls  int
}

func (s *caseStore) PutCases(_ context.Context, cases []defense.Case) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.away != nil {
		return s.away
	}
	for _, c := range cases {
		if c.ID == s.poison {
			return errors.New("a number that is none")
		}
	}
	if s.kept == nil {
		s.kept = map[string]defense.Case{}
	}
	for _, c := range cases {
		s.kept[c.ID] = c
	}
	return nil
}

func (s *caseStore) Cases(context.Context, casebook.Filter) (casebook.Page, error) {
	return casebook.Page{}, nil
}

func (s *caseStore) set(f func(s *caseStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *caseStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

func TestCasesWaitForAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &caseStore{away: errors.New("away")}
		p := newParts(t, later, func(o *Options) { o.Cases = store })
		stop := run(t, p.s)
		for i := range 100 {
			accept(t, p.s, trapped(i))
		}
		time.Sleep(30 * time.Second)
		store.set(func(s *caseStore) {
			if s.calls > 200 {
				t.Errorf("%d attempts in 30 s", s.calls)
			}
			s.away = nil
		})
		time.Sleep(2 * time.Second)
		if n := store.len(); n != 100 {
			t.Errorf("%d of 100 cases stored", n)
		}
		// One that no store takes does not keep back the others.
		store.set(func(s *caseStore) { s.poison = "poison" })
		for i := range 10 {
			p.s.cases.put(aCase(fmt.Sprint(i)))
		}
		p.s.cases.put(aCase("poison"))
		time.Sleep(5 * time.Second)
		if n := store.len(); n != 110 || p.s.states.cases.Failing() {
			t.Errorf("%d of 110 cases stored", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheLastCasesAreStoredWhenNobodyJudgesAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &caseStore{}
		p := newParts(t, later, func(o *Options) { o.Cases = store })
		judging, proceed := make(chan struct{}), make(chan struct{})
		p.judge.answer = proposing(on("192.0.2.1", defense.Deny, time.Hour))
		p.s.o.OnCase = func(defense.Case) { close(judging); <-proceed } // decided, but not yet handed to the casebook
		stop := run(t, p.s)
		accept(t, p.s, trapped(1))
		<-judging
		go func() { time.Sleep(time.Second); close(proceed) }()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if store.len() != 1 {
			t.Error("the case was lost, though its decision is in force")
		}
	})
}

func TestPendingCasesAreBoundedAndTheLatestRevisionCounts(t *testing.T) {
	t.Parallel()
	var w caseWriter
	for i := range 2 * maxPendingCases {
		w.put(aCase(fmt.Sprint(i)))
	}
	if len(w.pending) != maxPendingCases {
		t.Errorf("%d cases wait", len(w.pending))
	}
	newer, older := aCase("1"), aCase("1")
	newer.Revision, newer.Score = 9, 0.9
	older.Revision = 8
	w.put(newer)
	w.put(older)
	if got := w.pending["1"]; got.Score != 0.9 {
		t.Errorf("the older revision counts: %+v", got)
	}
}

func TestARestartedIntakeLearnsFromTheArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	recent := func(from, to int) []*defense.Event {
		list := varied(from, to)
		for i, e := range list {
			e.Time = time.Now().Add(-time.Duration(len(list)-i) * time.Second).Truncate(time.Millisecond)
		}
		return list
	}
	r := newRig(t, dir)
	if _, err := r.archive.Append(t.Context(), recent(1, 51)); err != nil {
		t.Fatal(err)
	}
	r.s.warmUp(t.Context())
	if n := r.o.Book.Stats().Events; n != 50 {
		t.Errorf("the casebook knows of %d events, want 50", n)
	}
	// Their senders may not know that they were accepted.
	if got, err := r.s.Accept(t.Context(), "edge", recent(1, 61), nil); err != nil || got.Duplicate != 50 || got.Accepted != 10 {
		t.Errorf("sent again: %+v %v", got, err)
	}
}

func TestShortenedAddressesAreNotTakenForClients(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address, prefix string
		want            bool
	}{
		{"192.0.2.77", "192.0.2.0/24", false}, {"192.0.2.0", "192.0.2.0/24", true}, {"2001:db8:1::", "2001:db8:1::/48", true},
		{"2001:db8:1::5", "2001:db8:1::/48", false}, {"0123456789abcdef", "fedcba9876543210", false}, {"192.0.2.77", "", false},
	} {
		e := &defense.Event{Client: defense.EventClient{Address: c.address, Prefix: c.prefix}}
		if got := shortenedClient(e); got != c.want {
			t.Errorf("%s in %s: %t", c.address, c.prefix, got)
		}
	}
}

func TestTheOwnerHearsWhenAnEdgeBecomesTense(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	for _, c := range []struct {
		edge string
		p    defense.Posture
		ago  time.Duration
		want string // of the alert
	}{
		{"a", defense.Calm, 100 * time.Second, ""},
		{"a", defense.Guarded, 90 * time.Second, "The edge a is guarded"},
		{"a", defense.Guarded, 80 * time.Second, ""},
		{"a", defense.Calm, 85 * time.Second, ""}, // of a request that lasted long
		{"a", defense.Siege, 70 * time.Second, "The edge a is under siege"},
		{"a", defense.Calm, 60 * time.Second, ""},
		{"a", defense.Guarded, 50 * time.Second, "The edge a is guarded"},
		{"b", defense.Siege, time.Hour, ""}, // from a backlog
		{"c", defense.Guarded, -time.Hour, "The edge c is guarded"},
		{"c", defense.Calm, 0, ""}, // its clock was mended
		{"c", defense.Guarded, 0, "The edge c is guarded"},
		{WebhookPrefix + "x", defense.Siege, 0, ""},
	} {
		before := len(p.alerts.all())
		p.s.notice(&defense.Event{Edge: c.edge, Time: evening().Add(-c.ago), Verdict: defense.EventVerdict{Posture: c.p}})
		list := p.alerts.all()[before:]
		if c.want == "" && len(list) > 0 || c.want != "" && (len(list) != 1 || list[0].Title != c.want || list[0].Kind != "posture") {
			t.Errorf("%+v: alerts %+v", c, list)
		}
	}
	for i := range maxEdges + 100 {
		p.s.notice(&defense.Event{Edge: fmt.Sprint(i), Time: evening()})
	}
	if len(p.s.postures) != maxEdges {
		t.Errorf("%d edges are remembered", len(p.s.postures))
	}
}

func TestTheOperatorListsJudgesAndLabelsCases(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	answers := r.o.Judge.(*judge)
	answers.answer = proposing(on("198.51.100.1", defense.Tarpit, time.Hour))
	stop := run(t, r.s)
	e := trapped(0)
	e.Time = time.Now()
	if _, err := r.s.Accept(t.Context(), "edge", []*defense.Event{e}, nil); err != nil {
		t.Fatal(err)
	}
	get := func(path string, v any) int {
		t.Helper()
		w := request{http.MethodGet, path, operatorKey, nil, nil}.send(t, r.handler)
		if w.Code == http.StatusOK {
			decode(t, w.Body, v)
		} else {
			problem(t, w)
		}
		return w.Code
	}
	var page casebook.Page
	until(t, "the case is judged and stored", func() bool { get("/v1/cases", &page); return len(page.Cases) == 1 })
	c := page.Cases[0]
	if c.Key != "198.51.100.1" || c.Outcome != defense.OutcomeDecided || len(c.DecisionIDs) != 1 {
		t.Errorf("case %+v", c)
	}
	for query, want := range map[string]int{
		"kind=client": 1, "kind=campaign": 0, "outcome=decided": 1, "outcome=clear": 0, "site=wiki": 1, "site=x": 0, "key=198.51.100.1": 1,
		"since=1h": 1, "until=1h": 0, "since=2000-01-01T00:00:00Z": 1, "minScore=0.9": 1, "minScore=0.95": 0, "label=any": 0, "label=bot": 0, "limit=1": 1,
	} {
		if code := get("/v1/cases?"+query, &page); code != http.StatusOK || len(page.Cases) != want || page.Cases == nil {
			t.Errorf("%s: %d, %d cases, want %d", query, code, len(page.Cases), want)
		}
	}
	for _, query := range []string{"kind=x", "outcome=open", "label=x", "since=yesterday", "since=-1h", "minScore=NaN", "minScore=2", "limit=0", "limit=1001", "more=1", "limit=1&limit=2"} {
		if code := get("/v1/cases?"+query, &page); code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, code)
		}
	}
	at := "/v1/cases/" + c.ID
	var one defense.Case
	if code := get(at, &one); code != http.StatusOK || one.ID != c.ID {
		t.Errorf("one case: %d %+v", code, one)
	}
	if code := get("/v1/cases/01M8997GDR0000000000000003", &one); code != http.StatusNotFound {
		t.Errorf("a case that is not there: %d", code)
	}
	put := func(body string) int {
		return request{http.MethodPut, at + "/label", operatorKey, []byte(body), nil}.send(t, r.handler).Code
	}
	if put(`{"label":"bot"}`) != http.StatusOK || put(`{"label":"martian"}`) != http.StatusBadRequest || put(`{"lable":"bot"}`) != http.StatusBadRequest {
		t.Error("labelling")
	}
	// Judged again with a milder result, what is in force stays, and so does what a person has said.
	answers.mu.Lock()
	answers.answer = proposing(on("198.51.100.1", defense.Challenge, time.Hour))
	answers.mu.Unlock()
	w := request{http.MethodPost, at + "/judge", operatorKey, nil, nil}.send(t, r.handler)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	decode(t, w.Body, &one)
	if one.Label != defense.LabelBot || !slices.Equal(one.DecisionIDs, c.DecisionIDs) || r.log.Set().Len() != 1 {
		t.Errorf("judged again: %+v", one)
	}
	answers.mu.Lock()
	answers.answer = func(*defense.Case) (*defense.Judgement, error) { return nil, errors.New("away") }
	answers.mu.Unlock()
	if w := (request{http.MethodPost, at + "/judge", operatorKey, nil, nil}).send(t, r.handler); w.Code != http.StatusBadGateway {
		t.Errorf("without an engine: %d", w.Code)
	}
	if w := (request{http.MethodGet, "/v1/cases", proxyKey, nil, nil}).send(t, r.handler); w.Code != http.StatusForbidden {
		t.Errorf("cases for an edge: %d", w.Code)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if w := (request{http.MethodPost, at + "/judge", operatorKey, nil, nil}).send(t, r.handler); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after the end: %d", w.Code)
	}
}

// TestManyCasesAndQuestionsAtOnce looks for deadlocks between the casebook, the judges and the API.
func TestManyCasesAndQuestionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		p.s.o.Judge = judgeFunc(func(ctx context.Context, c *defense.Case) (*defense.Judgement, error) {
			time.Sleep(100 * time.Millisecond)
			return proposing(on(c.Key, defense.Challenge, time.Hour))(c)
		})
		stop := run(t, p.s)
		var busy sync.WaitGroup
		for i := range 4 {
			busy.Go(func() {
				for n := range 50 {
					accept(t, p.s, trapped(i*50+n))
					time.Sleep(50 * time.Millisecond)
				}
			})
			busy.Go(func() {
				for range 100 {
					if err := p.s.With(t.Context(), func(b *casebook.Book) { b.Stats() }); err != nil {
						t.Error(err)
					}
					p.s.judgeCase(t.Context(), aCase(fmt.Sprint(i)))
				}
			})
		}
		busy.Wait()
		time.Sleep(time.Minute)
		if s := p.s.Stats(); s.Decided < 200 || p.log.Set().Len() != 201 {
			t.Errorf("%d decisions made, %d in force; want one for each of 201 clients", s.Decided, p.log.Set().Len())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

var _ History = (*historyOf)(nil)

// historyOf is what an archive says of the past.
type historyOf []defense.Event

func (h historyOf) Events(context.Context, record.Filter) (record.Page, error) {
	return record.Page{Events: h}, nil
}

func TestEventsThatAreArchivedAndStillQueuedAreSeenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// As when a process is killed between the archive and the queue.
		p := newParts(t, later, func(o *Options) { o.History = historyOf{*storetest.Varied(1), *storetest.Varied(0)} })
		b, err := p.s.codec.pack(varied(0, 3))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.queue.Append(t.Context(), queue.Batch{Source: "edge", Body: b[0].body}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, p.s)
		synctest.Wait()
		if n := p.observed(t); n != 3 || p.archive.len() != 3 {
			t.Errorf("%d of 3 events observed, %d archived", n, p.archive.len())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
