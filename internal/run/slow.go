package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/intake"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/mode"
	"github.com/quickthorn/quickthorn/internal/model"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/redemption"
	"github.com/quickthorn/quickthorn/internal/reputation"
	"github.com/quickthorn/quickthorn/internal/robots"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// slowPart is the intake with what belongs to it: it owns the decision log, the mode, the cases and the archive.
type slowPart struct {
	s         *service.Service
	state     store.State
	queue     queue.Queue
	archive   store.Archive // nil when events are off or cannot be kept
	decisions *decision.Log
	mode      *mode.Switch
	alerts    *alert.Dispatcher
	intake    *intake.Service
	webhook   *intake.WebhookAPI
	pruner    *record.Pruner // nil without an archive
	depth     atomic.Pointer[queue.Depth]
	leading   atomic.Bool // this process owns the decision log
}

// openSlow opens the stores and makes the intake. judge may be nil: the slow path is then off, and only decisions, mode and
// archive are kept. ours says that no other process can be the owner of the state.
func openSlow(ctx context.Context, s *service.Service, newID func() string, judge intake.Judge, profiler *profile.Profiler, pol func() *policy.Policy, ours bool) (_ *slowPart, err error) {
	c := s.Config
	p := &slowPart{s: s}
	if p.state, p.queue, err = openState(ctx, s); err != nil {
		return nil, err
	}
	if p.archive, err = openArchive(ctx, s, ours); err != nil {
		return nil, err
	}
	p.decisions = decision.NewLog(decision.NewSet(c.Edge.Trusted), p.state, decision.LogOptions{MaxEntries: c.Decisions.MaxEntries})
	p.mode = mode.NewSwitch(p.state.Settings())
	if ours {
		if err := p.load(ctx); err != nil {
			return nil, err
		}
	}
	if p.alerts, err = Alerts(&c.Alerts, s.Log); err != nil {
		return nil, err
	}
	if err := s.Metrics.Registry.Register(p.alerts); err != nil {
		return nil, err
	}
	s.Background("alerts", p.alerts.Run)
	if p.archive != nil {
		p.pruner = newPruner(s, p.archive)
		if c.Archive.Store == "sqlite" { // of a shared archive that is the work of sync
			s.Background("removing old events", p.pruner.Run)
			s.Background("removing old cases", p.pruneOldCases)
		}
	}
	if judge != nil {
		if err := p.openIntake(newID, judge, profiler, pol); err != nil {
			return nil, err
		}
	}
	s.Background("decisions", service.UntilEnded(p.own))
	s.Background("depth of the queue", func(ctx context.Context) error {
		for ctx.Err() == nil {
			p.lookAtQueue(ctx)
			wait.For(ctx, 5*time.Second)
		}
		return nil
	})
	s.Background("telling edges", func(ctx context.Context) error {
		if err := p.decisions.Announce(ctx, p.state, p.mode.Changed, s.Log); ctx.Err() == nil {
			return err
		}
		return nil
	})
	if err := p.register(); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return p, nil
}

// openIntake makes the intake with its casebook and the webhook's sources.
func (p *slowPart) openIntake(newID func() string, judge intake.Judge, profiler *profile.Profiler, pol func() *policy.Policy) error {
	c := p.s.Config
	sources, err := Sources(c)
	if err != nil {
		return err
	}
	disallowed, err := p.openRobots()
	if err != nil {
		return err
	}
	book := casebook.New(casebook.Options{
		MaxClients: c.Intake.MaxClients, MaxCampaigns: c.Intake.MaxCampaigns, MinMembers: c.Intake.MinMembers,
		NewID: newID, Now: time.Now, Robots: disallowed, Vouched: intake.Vouched(sources), Trusted: c.Edge.Trusted,
	})
	o := intake.Options{
		Queue: p.queue, Book: book, Judge: judge, Decisions: p.decisions, Alerts: p.alerts, Now: time.Now, NewID: newID, Log: p.s.Log,
	}
	if p.archive != nil { // a nil pointer in an interface would not be nil
		o.Archive, o.Cases, o.History = p.archive, p.archive, p.archive
	}
	if p.intake, err = intake.New(o); err != nil {
		return err
	}
	p.webhook = &intake.WebhookAPI{Service: p.intake, Sources: sources, Profiler: profiler, Policy: pol}
	return nil
}

// Sources makes the webhook's sources of the configuration.
func Sources(c *config.Config) ([]intake.Source, error) {
	var list []intake.Source
	for i := range c.Intake.Sources {
		from := &c.Intake.Sources[i]
		src := intake.Source{Name: from.Name, Site: from.Site, Client: from.Client, Trusted: from.Trusted}
		if from.Format != "" {
			f, err := accesslog.Named(from.Format)
			if err != nil {
				if f, err = accesslog.Compile(from.Format); err != nil {
					return nil, fmt.Errorf("intake.sources: source %q: format: %w", from.Name, err)
				}
			}
			src.Format = f
		}
		list = append(list, src)
	}
	return list, nil
}

// openRobots has robots.txt of the protected servers read now and then.
func (p *slowPart) openRobots() (func(site, agent, path string) (disallowed, known bool), error) {
	c := p.s.Config
	var sites []robots.Site
	add := func(name, upstream, host string) {
		// A Unix socket has no address that could be asked: what robots.txt says is then not known.
		if strings.HasPrefix(upstream, "http://") || strings.HasPrefix(upstream, "https://") {
			sites = append(sites, robots.Site{Name: name, Base: upstream, Host: host})
		}
	}
	for i := range c.Sites {
		t := &c.Sites[i]
		host := ""
		if c.Preserve(t) && !strings.HasPrefix(t.Hosts[0], "*") {
			host = t.Hosts[0]
		}
		add(t.Name, t.Upstream, host)
	}
	add(proxy.DefaultSite, c.Upstream.URL, "")
	if !c.Intake.Robots || len(sites) == 0 {
		return nil, nil
	}
	o := robots.Options{Sites: sites, Now: time.Now, Log: p.s.Log}
	cache, err := robots.New(o)
	if err != nil {
		return nil, err
	}
	p.s.Background("robots.txt", service.UntilEnded(cache.Run))
	return cache.Disallowed, nil
}

// load reads decisions and the mode. They are what an owner decided: without them nothing is enforced, so that an
// owner of the state does not start without.
func (p *slowPart) load(ctx context.Context) error {
	loaded, err := p.decisions.Load(ctx)
	if err != nil {
		return fmt.Errorf("load decisions: %w", err)
	}
	if loaded.Refused > 0 {
		p.s.Log.Warn("decisions that are kept but not in force", "count", loaded.Refused, "first", loaded.Reason)
	}
	m, err := mode.Stored(ctx, p.state.Settings(), p.s.Config.Policy.Mode)
	if err != nil {
		return err
	}
	p.mode.Put(m)
	p.leading.Store(true)
	return nil
}

// leaseTime is after how long the state of a process that was killed is another's.
const leaseTime = 10 * time.Second

// own holds the state while ctx lasts and does what its owner does. It ends with an error when the lease is lost: the
// process must then start anew, since another may have decided meanwhile.
func (p *slowPart) own(ctx context.Context) error {
	waiting := func(holder string) {
		p.s.Log.Info("standing by: another process owns the decisions", "holder", holder)
	}
	return p.state.Hold(ctx, "ai-service", leaseTime, waiting, func(ctx context.Context) error {
		if !p.leading.Load() {
			if err := p.loadUntil(ctx); err != nil {
				return err
			}
			defer p.leading.Store(false)
		}
		done := make(chan error, 1)
		if p.intake != nil {
			go func() { done <- p.intake.Run(ctx) }()
		} else {
			close(done)
		}
		p.sweep(ctx)
		err := <-done
		if cause := context.Cause(ctx); errors.Is(cause, store.ErrLeaseLost) {
			err = errors.Join(err, cause)
		}
		return err
	})
}

// loadUntil tries to load until it succeeds or ctx ends.
func (p *slowPart) loadUntil(ctx context.Context) error {
	state := telemetry.NewState(p.s.Log, "decisions cannot be loaded; trying again", "decisions are loaded", time.Now)
	for {
		err := p.load(ctx)
		if ctx.Err() != nil {
			return nil
		}
		state.Report(err)
		if err == nil {
			return nil
		}
		wait.For(ctx, time.Second)
	}
}

// sweep forgets expired decisions until ctx ends.
func (p *slowPart) sweep(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	state := telemetry.NewState(p.s.Log, "expired decisions cannot be removed", "expired decisions are removed again", time.Now)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_, err := p.decisions.Sweep(ctx, 20_000)
			if ctx.Err() == nil {
				state.Report(err)
			}
		}
	}
}

// lookAtQueue notes the queue's depth for the metrics, which must not wait for a store.
func (p *slowPart) lookAtQueue(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	d, err := p.queue.Depth(ctx) // an error is said by who uses the queue
	before := p.depth.Load()
	switch {
	case err == nil:
	case d.Batches == 0:
		return // nothing is known
	case before != nil: // Redis is away: what waits on disk is known, dead letters are not
		d.Dead = before.Dead
	}
	p.depth.Store(&d)
}

// pruneOldCases removes old cases now and then.
func (p *slowPart) pruneOldCases(ctx context.Context) error {
	state := telemetry.NewState(p.s.Log, "old cases cannot be removed", "old cases are removed again", time.Now)
	for ctx.Err() == nil {
		err := pruneCases(ctx, p.s.Config, p.archive)
		if ctx.Err() == nil {
			state.Report(err)
		}
		wait.For(ctx, time.Hour)
	}
	return nil
}

// errStandingBy says that this process does not own the state.
var errStandingBy = errors.New("standing by: another process owns the decisions, or they are not loaded yet")

// owning is nil while this process owns the state.
func (p *slowPart) owning() error {
	if !p.leading.Load() {
		return errStandingBy
	}
	return nil
}

// groups are the endpoints with their callers. Who stands by takes events, and says of what only the owner knows that it does not: an
// edge that asked it would otherwise learn that there are no decisions.
func (p *slowPart) groups() []auth.Group {
	decisions := decision.NewAPI(p.decisions, time.Now)
	decisions.Mode, decisions.ModeChanged, decisions.Done = p.mode.Mode, p.mode.Changed, p.s.Drained()
	groups := []auth.Group{
		{API: &private.ModeAPI{Switch: p.mode}, Read: []string{auth.Proxy}, Ready: p.owning},
		{API: decisions, Read: []string{auth.Proxy}, Ready: p.owning},
		{API: &AlertsAPI{p.alerts}},
		{API: &redemption.API{Store: p.state}, Callers: []string{auth.Proxy}},
	}
	if p.archive != nil {
		groups = append(groups, artifactGroup(&artifact.API{Store: p.archive, Now: time.Now, Log: p.s.Log}), auth.Group{API: &record.API{Archive: p.archive, Now: time.Now, Log: p.s.Log}})
	}
	if p.intake == nil {
		return groups
	}
	groups = append(groups,
		auth.Group{API: &intake.EventsAPI{Service: p.intake}, Callers: []string{auth.Proxy}},
		auth.Group{API: &intake.QueueAPI{Service: p.intake}},
		auth.Group{API: p.webhook, Callers: []string{auth.AnySource}})
	if p.archive != nil {
		groups = append(groups, auth.Group{API: &intake.CasesAPI{Service: p.intake}, Ready: p.owning})
	}
	return groups
}

// artifacts is where files of the tarpit are kept: in the archive, if there is one.
func (p *slowPart) artifacts() artifact.Store {
	if p.archive != nil {
		return p.archive
	}
	return &artifact.Memory{}
}

// sink is where an edge of this process records.
func (p *slowPart) sink(edge string) record.Sink { return &localSink{p, edge} }

// localSink brings an edge's events to the intake of the same process: those that are kept by way of the queue, as from
// anywhere else, and the transient ones, which nobody was promised anything about, right to the casebook.
type localSink struct {
	p    *slowPart
	edge string
}

func (l *localSink) Append(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	if l.p.intake == nil {
		if l.p.archive == nil {
			return 0, nil
		}
		return record.Direct(l.p.archive).Append(ctx, events)
	}
	var kept, transient []*defense.Event
	for _, e := range events {
		if e.Transient || l.p.archive == nil {
			transient = append(transient, e)
		} else {
			kept = append(kept, e)
		}
	}
	if len(kept) > 0 {
		r, err := l.p.intake.Accept(ctx, l.edge, kept, nil)
		if err != nil {
			return 0, err
		}
		duplicates = r.Duplicate
		if len(r.Rejected) > 0 { // what this edge makes must be right
			l.p.s.Log.Warn("events of this edge were not taken", "count", len(r.Rejected), "first", r.Rejected[0].Problem)
		}
	}
	if len(transient) > 0 {
		l.p.intake.Observe(transient)
	}
	return duplicates, nil
}

func (l *localSink) AddCounters(ctx context.Context, id string, counters []record.Counter) error {
	if l.p.archive == nil {
		return nil
	}
	return l.p.archive.AddCountersOnce(ctx, id, counters)
}

// openEngine makes the escalation engine of the configuration, by the clock now. Where there are books of what a language model was asked, one may be.
func openEngine(s *service.Service, k *knowledge.Knowledge, now func() time.Time, books spend.Store) (*escalation.Engine, error) {
	c := s.Config
	settings := EscalationSettings(c)
	if err := settings.Validate(); err != nil {
		return nil, fmt.Errorf("escalation: %w", err)
	}
	m, err := LoadModel(c.Escalation.Model)
	if err != nil {
		return nil, fmt.Errorf("escalation.model: %w", err)
	}
	checker, err := openReputation(s)
	if err != nil {
		return nil, fmt.Errorf("reputation: %w", err)
	}
	o := escalation.Options{
		Settings: settings, Model: m, Exempt: append([]netip.Prefix(nil), c.Edge.Trusted...), Now: now, Log: s.Log,
		Purpose: k.Purpose,
	}
	if checker != nil {
		o.Reputation = checker
	}
	if books != nil && slices.Contains(c.Escalation.Stages, escalation.StageOpinion) {
		advisor, done, err := Advisor(c, books, s.Log)
		if err != nil {
			return nil, err
		}
		s.OnClose(done)
		if err := s.Metrics.Registry.Register(advisor); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		o.Opinion = advisor
	}
	e, err := escalation.New(o)
	if err != nil {
		return nil, fmt.Errorf("escalation: %w", err)
	}
	return e, s.Metrics.Registry.Register(e)
}

// EscalationSettings are the engine's settings by the configuration.
func EscalationSettings(c *config.Config) escalation.Settings {
	from, to := &c.Escalation, escalation.DefaultSettings()
	to.Stages = from.Stages
	to.Weights = map[string]float64{
		escalation.StageBehaviour: from.BehaviourWeight, escalation.StageModel: from.ModelWeight, escalation.StageReputation: from.ReputationWeight,
		escalation.StageOpinion: from.OpinionWeight,
	}
	to.OpinionTimeout = from.Opinion.Timeout
	to.SureBot, to.SureReader = from.SureBot, from.SureReader
	t := &to.Thresholds
	t.Challenge, t.Throttle, t.Tarpit, t.Deny = from.Challenge, from.Throttle, from.Tarpit, from.Deny
	to.Durations.Base, to.Durations.Max = from.Base, from.Longest
	return to
}

// LoadModel reads a model file, or the built-in model for "".
func LoadModel(file string) (*model.Model, error) {
	if file == "" {
		return model.Default()
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := model.Load(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

// openReputation makes the checker; nil when nobody is to be asked.
func openReputation(s *service.Service) (*reputation.Checker, error) {
	r := &s.Config.Reputation
	o := reputation.Options{Now: time.Now, Log: s.Log}
	for _, file := range r.Lists {
		o.Lists = append(o.Lists, reputation.ListOptions{Name: filepath.Base(file), Path: file})
	}
	var resolver reputation.Resolver
	if r.Resolver != "" {
		resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, r.Resolver)
		}}
	}
	for _, zone := range r.DNSBL {
		o.Zones = append(o.Zones, reputation.ZoneOptions{Zone: zone, Resolver: resolver, Timeout: r.Timeout, PerMinute: r.PerMinute})
	}
	if r.URL != "" {
		o.HTTP = append(o.HTTP, reputation.HTTPOptions{Name: "service", URL: r.URL, KeyHeader: r.Header, Key: r.Key, Field: r.Field, Scale: r.Scale, Timeout: r.Timeout, PerDay: r.PerDay})
	}
	if len(o.Lists)+len(o.Zones)+len(o.HTTP) == 0 {
		return nil, nil
	}
	c, err := reputation.New(o)
	if err != nil {
		return nil, err
	}
	s.Background("reputation", service.UntilEnded(c.Run))
	return c, s.Metrics.Registry.Register(c)
}
