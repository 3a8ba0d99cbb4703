package simulate

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/quickthorn/quickthorn/internal/agent"
	pages "github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/edge"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
)

// LabelledEvent is an event of which it is known who caused it.
type LabelledEvent struct {
	Label Label
	Actor string // its name, unique within the scenario
	Event *defense.Event
}

// EventsOptions say how events are made. The zero value observes.
type EventsOptions struct {
	Options
	// Start is the virtual time at which the scenario begins. Default 2026-11-25 09:00 UTC.
	Start time.Time
	// Policy is the policy's YAML. Default: the preset readers-first.
	Policy string
	// Mode is what the edge carries out. The zero value of EventsOptions observes, so that all actors behave as they would without an edge.
	Mode *defense.Mode
	// Posture pins the posture; nil lets the load of the synthetic site decide.
	Posture *defense.Posture
}

// siteName is what the events call the site.
const siteName = "wiki"

// Events plays a scenario through a real edge in virtual time and returns the event of every request, in their order, also of those that an archive's
// sample would leave out. The same options give the same events, tokens of checks apart. There is no slow path: no decision is ever taken.
func Events(ctx context.Context, s Scenario, o EventsOptions) ([]LabelledEvent, *Result, error) {
	actors, err := s.Build(o.Options)
	if err != nil {
		return nil, nil, err
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, time.November, 25, 9, 0, 0, 0, time.UTC)
	}
	if o.Site == nil {
		o.Site = NewSite(o.Seed)
	}
	if o.Policy == "" {
		o.Policy = "imports: [readers-first]"
	}
	mode := defense.ModeObserve
	if o.Mode != nil {
		mode = *o.Mode
	}
	clock := NewClock(o.Start)
	speed := o.Scale
	if speed <= 0 {
		speed = 1
	}
	up := &Upstream{Site: o.Site, Load: NewLoad(LoadOptions{Speed: speed}), Now: clock.Now, Wait: clock.Wait}
	keep := &keeper{}
	gauge := posture.New(posture.Config{Fixed: o.Posture}, o.Start)
	e, err := newEdge(o, mode, clock, up, gauge, keep)
	if err != nil {
		return nil, nil, err
	}
	var list []LabelledEvent
	r, err := Virtual(ctx, VirtualOptions{
		Scenario: s.Name, Seed: o.Seed, Handler: e, Clock: clock, Step: gauge.Tick,
		Verdict: keep.verdict,
		Observe: func(a *Actor, _ *Request, _ *Response) {
			for _, ev := range keep.events {
				list = append(list, LabelledEvent{a.Label, a.Name, ev})
			}
			keep.events, keep.judged = nil, false
		},
	}, actors)
	return list, r, err
}

// newEdge returns an edge in front of up that lives in virtual time.
func newEdge(o EventsOptions, mode defense.Mode, clock *Clock, up *Upstream, gauge *posture.Gauge, keep *keeper) (*edge.Edge, error) {
	catalogue, err := crawler.Default()
	if err != nil {
		return nil, err
	}
	pol, err := policy.Compile("simulate.yaml", []byte(o.Policy), policy.Options{})
	if err != nil {
		return nil, err
	}
	clients, err := clientaddr.New(clientaddr.Config{})
	if err != nil {
		return nil, err
	}
	// A key that everybody knows: its clearances are good in this simulation only.
	signer, err := clearance.NewSigner([]byte("simulated clearances, no secret."))
	if err != nil {
		return nil, err
	}
	answers, err := pages.Open("")
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(o.Seed, 0x1d))
	gate := challenge.NewGate(challenge.Options{
		Signer: signer, Validity: 24 * time.Hour, Budget: clearance.Budget{Minute: 60, Day: 2000},
		Ladder: defense.Ladder{defense.ChallengeWork, defense.ChallengeRefresh}, NewID: random.Uint64,
	})
	e, err := edge.New(edge.Options{
		Name: "simulate", Sites: []edge.Site{{Name: siteName, Upstream: up}}, Clients: clients, Profiler: profile.New(agent.New(catalogue)),
		Engine: engine.New(engine.Options{
			Decisions: decision.NewSet(nil), Policy: func() *policy.Policy { return pol }, Budgets: budget.New(1 << 16),
			Posture: gauge.Current, Mode: func() defense.Mode { return mode },
		}),
		Gate: gate, Answers: answers, Posture: gauge, Recorder: keep,
		NewID: id.New(clock.Now, random.Uint64).Next, Now: clock.Now, BodyIdle: time.Minute, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("simulated edge: %w", err)
	}
	return e, nil
}

// keeper is the edge's recorder: it keeps everything, in the order of the requests, which come one at a time.
type keeper struct {
	events []*defense.Event
	judged bool
	action defense.Action
}

// Count notes the verdict of the request that is being answered.
func (k *keeper) Count(v *defense.Verdict, _ string) { k.judged, k.action = true, v.Action }

// Wants keeps all.
func (k *keeper) Wants(*defense.Verdict) record.Want { return record.Keep }

// Record keeps an event.
func (k *keeper) Record(e *defense.Event) { k.events = append(k.events, e) }

func (k *keeper) verdict(*Actor, *Request, *Response) (defense.Action, bool) {
	return k.action, k.judged
}
