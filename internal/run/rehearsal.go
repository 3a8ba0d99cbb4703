package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/edge"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/intake"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/robots"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

// Rehearsal plays a scenario against the very edge, intake and engine that a program has, in virtual time and without
// a network: an hour takes seconds, and the same seed gives the same result.
type Rehearsal struct {
	Config *config.Config // its policy, posture, intake and escalation are what is tried
	Mode   defense.Mode
	// Scenario is played with the seed and the scale.
	Scenario simulate.Scenario
	Seed     uint64
	Scale    float64
	Log      *slog.Logger // of the parts; nil: they are silent
}

// Rehearsed is what a rehearsal showed.
type Rehearsed struct {
	Result    *simulate.Result   `json:"result"`
	Cases     []defense.Case     `json:"cases"` // as they were judged last, the weightiest first
	Decisions []defense.Decision `json:"decisions"`
	Alerts    []alert.Alert      `json:"alerts"`
	Postures  []PostureChange    `json:"postures"`
}

// PostureChange is when the edge became tense or calm.
type PostureChange struct {
	Second  float64         `json:"second"` // since the beginning
	Posture defense.Posture `json:"posture"`
}

// rehearsing is the memory of one rehearsal. One goroutine does everything.
type rehearsing struct {
	intake *intake.Service
	last   defense.Action // of the request that was just judged
	alerts []alert.Alert
	cases  map[string]defense.Case
}

// Count is called for every request that is judged, Wants only for those that have no record yet.
func (r *rehearsing) Count(v *defense.Verdict, _ string) { r.last = v.Action }
func (r *rehearsing) Wants(*defense.Verdict) record.Want { return record.Keep }
func (r *rehearsing) Record(e *defense.Event) {
	if r.intake != nil {
		record.Bound(e)
		r.intake.Show(e)
	}
}
func (r *rehearsing) Raise(a alert.Alert) { r.alerts = append(r.alerts, a) }

// Run plays.
func (h *Rehearsal) Run(ctx context.Context) (*Rehearsed, error) {
	c := h.Config
	log := h.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k, err := knowledge.Read()
	if err != nil {
		return nil, err
	}
	pol, err := policy.Load(c.Policy.Source, k.Policy)
	if err != nil {
		return nil, fmt.Errorf("policy %q:\n%w", c.Policy.Source, err)
	}
	site := simulate.NewSite(h.Seed)
	actors, err := h.Scenario.Build(simulate.Options{Seed: h.Seed, Scale: h.Scale, Site: site})
	if err != nil {
		return nil, err
	}
	clock := simulate.NewClock(time.Date(2026, time.November, 25, 9, 0, 0, 0, time.UTC))
	start := clock.Now()
	chance := rand.New(rand.NewPCG(h.Seed, 1))
	ids := id.New(clock.Now, chance.Uint64)

	log1 := decision.NewLog(decision.NewSet(c.Edge.Trusted), &memoryStore{}, decision.LogOptions{Now: clock.Now, Entropy: entropy{chance}})
	if _, err := log1.Load(ctx); err != nil {
		return nil, err
	}
	mem := &rehearsing{cases: map[string]defense.Case{}}
	if c.Slow.Enabled {
		if mem.intake, err = h.openIntake(k, mem, clock, ids.Next, log1, log); err != nil {
			return nil, err
		}
	}
	gauge := posture.New(proxy.PostureConfig(c), start)
	judge := engine.New(engine.Options{
		Decisions: log1.Set(), Policy: func() *policy.Policy { return pol }, Budgets: budget.New(c.Budgets.MaxClients), Posture: gauge.Current,
		Mode: func() defense.Mode { return h.Mode },
	})
	resolver, err := clientaddr.New(clientaddr.Config{})
	if err != nil {
		return nil, err
	}
	signer, err := clearance.NewSigner(slices.Repeat([]byte("rehearsal-key-of-no-worth"), 2)[:32])
	if err != nil {
		return nil, err
	}
	gate, _, err := proxy.NewGate(c, signer, nil)
	if err != nil {
		return nil, err
	}
	gate.NewID = chance.Uint64
	answers, err := answer.Open("")
	if err != nil {
		return nil, err
	}
	up := &simulate.Upstream{Site: site, Load: simulate.NewLoad(simulate.LoadOptions{Speed: cmp.Or(h.Scale, 1)}), Now: clock.Now, Wait: clock.Wait}
	e, err := edge.New(edge.Options{
		Name: "rehearsal", Sites: []edge.Site{{Name: proxy.DefaultSite, Upstream: up}}, Clients: resolver, Profiler: k.Profiler, Engine: judge,
		Gate: gate, Answers: answers, Posture: gauge, Recorder: mem, NewID: ids.Next, Now: clock.Now,
		BodyIdle: time.Minute, TarpitMax: c.Tarpit.Max, Log: log,
	})
	if err != nil {
		return nil, err
	}
	out := &Rehearsed{}
	step := func(now time.Time) {
		gauge.Tick(now)
		if p := gauge.Current(); len(out.Postures) == 0 || out.Postures[len(out.Postures)-1].Posture != p {
			out.Postures = append(out.Postures, PostureChange{now.Sub(start).Seconds(), p})
		}
		if mem.intake != nil {
			mem.intake.Step(ctx)
		}
		_, err = log1.Sweep(ctx, 20_000)
	}
	result, playErr := simulate.Virtual(ctx, simulate.VirtualOptions{
		Scenario: h.Scenario.Name, Seed: h.Seed, Handler: http.HandlerFunc(e.ServeHTTP), Clock: clock, Step: step,
		Verdict: func(_ *simulate.Actor, q *simulate.Request, _ *simulate.Response) (defense.Action, bool) {
			return mem.last, true
		},
	}, actors)
	if err := errors.Join(playErr, err); err != nil {
		return nil, err
	}
	out.Result, out.Alerts = result, mem.alerts
	for _, one := range mem.cases {
		out.Cases = append(out.Cases, one)
	}
	slices.SortFunc(out.Cases, func(a, b defense.Case) int {
		return cmp.Or(cmp.Compare(b.Members.Count, a.Members.Count), cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID))
	})
	return out, exportTo(ctx, log1, &out.Decisions)
}

// openIntake makes an intake that is run step by step.
func (h *Rehearsal) openIntake(k *knowledge.Knowledge, mem *rehearsing, clock *simulate.Clock, newID func() string, decisions *decision.Log, log *slog.Logger) (*intake.Service, error) {
	c := h.Config
	s := service.New(service.Options{Config: c, Log: log})
	engine, err := openEngine(s, k, clock.Now, nil)
	if err != nil {
		return nil, err
	}
	rules := robots.Parse([]byte(simulate.Robots))
	book := casebook.New(casebook.Options{
		MaxClients: c.Intake.MaxClients, MaxCampaigns: c.Intake.MaxCampaigns, MinMembers: c.Intake.MinMembers, NewID: newID, Now: clock.Now,
		Robots: func(_, agent, path string) (disallowed, known bool) { return rules.Disallowed(agent, path), true },
		Hash:   xxhash.Sum64,
	})
	return intake.New(intake.Options{
		Book: book, Judge: engine, Decisions: decisions, Alerts: mem, Now: clock.Now, NewID: newID, Log: log,
		OnCase: func(k defense.Case) { mem.cases[k.ID] = k },
	})
}

// entropy makes ids of chance that can be repeated.
type entropy struct{ chance *rand.Rand }

func (e entropy) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e.chance.Uint32())
	}
	return len(p), nil
}

// memoryStore keeps decisions while a rehearsal lasts.
type memoryStore struct {
	state   decision.State
	changes []decision.Change // in order of their sequences
}

func (m *memoryStore) Commit(_ context.Context, b *decision.Batch) error {
	m.changes = slices.DeleteFunc(m.changes, func(c decision.Change) bool {
		return slices.Contains(b.Drop, c.Sequence) || c.Deleted != "" && c.Sequence <= b.Floor
	})
	for i := range b.Put {
		m.changes = append(m.changes, decision.Change{Sequence: b.Put[i].Sequence, Decision: &b.Put[i]})
	}
	for _, d := range b.Deleted {
		m.changes = append(m.changes, decision.Change{Sequence: d.Sequence, Deleted: d.ID})
	}
	slices.SortFunc(m.changes, func(a, b decision.Change) int { return cmp.Compare(a.Sequence, b.Sequence) })
	m.state = b.State
	return nil
}

func (m *memoryStore) State(context.Context) (decision.State, error) { return m.state, nil }

func (m *memoryStore) Changes(_ context.Context, after uint64, fn func(decision.Change) bool) error {
	for _, c := range m.changes {
		if c.Sequence > after && !fn(c) {
			break
		}
	}
	return nil
}

// exportTo lists the decisions that are in force at the end.
func exportTo(ctx context.Context, log *decision.Log, out *[]defense.Decision) error {
	for at := (decision.Position{}); ; {
		p, err := log.Since(ctx, at, 1000)
		if err != nil {
			return err
		}
		for _, c := range p.Changes {
			if c.Decision != nil {
				*out = append(*out, *c.Decision)
			}
		}
		if at = p.Next; !p.More {
			return nil
		}
	}
}
