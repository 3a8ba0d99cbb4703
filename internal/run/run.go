// Package run makes programs of the parts: quickthorn in one process on embedded stores, and its services apart.
//
// A program is a value, so that tests start the very thing that the command starts. All share one way to begin, to be
// ready, to drain and to end, see service.
package run

import (
	"context"
	"errors"
	randv2 "math/rand/v2"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/backup"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/intake"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/openapi"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

// InProcess is the address of an escalation engine in the process of who asks it.
const InProcess = "in-process"

// Program is quickthorn in one process: the edge, the intake, the escalation engine and their stores. Open it, Run it, and it
// closes itself.
type Program struct {
	*service.Service
	*proxy.Part
	slow   *slowPart
	tarpit *tarpitPart // nil: there is none
}

// localShare is how much of one processor recording may take in one process with the edge: judging and writing two
// thousand requests a second take about that.
const localShare = 0.1

// Open prepares everything and binds the listeners; it serves nothing yet. What
// fails closed is an error here: an unreadable clearance key, a wrong policy, a data directory in use. A broken
// archive is not: the edge serves on without it and says so.
func Open(ctx context.Context, o service.Options) (_ *Program, err error) {
	c := o.Config
	p := &Program{Service: service.New(o)}
	defer p.CloseOnError(&err)
	if err := c.RequireUpstream(); err != nil {
		return nil, err
	}
	if c.State.Store != "embedded" {
		return nil, errors.New("state.store: quickthorn run keeps its state in the data directory; to keep it in Redis run the services apart: ai-service, escalation-engine, proxy")
	}
	if err := service.MakeData(c); err != nil {
		return nil, err
	}
	k, err := knowledge.Read()
	if err != nil {
		return nil, err
	}
	pol, err := proxy.OpenPolicy(p.Service, k.Policy)
	if err != nil {
		return nil, err
	}
	ids := id.New(time.Now, randv2.Uint64)
	var judge intake.Judge
	if c.Slow.Enabled {
		books, err := opinionBooks(p.Service)
		if err != nil {
			return nil, err
		}
		if judge, err = openEngine(p.Service, k, time.Now, books); err != nil {
			return nil, err
		}
	}
	if p.slow, err = openSlow(ctx, p.Service, ids.Next, judge, k.Profiler, pol.Current, true); err != nil {
		return nil, err
	}
	needs := proxy.Needs{
		Decisions: p.slow.decisions.Set(), Mode: p.slow.mode.Mode, Sink: p.slow.sink(proxy.Name(c)), NewID: ids.Next,
		Off: p.slow.archive == nil && p.slow.intake == nil, Observe: p.slow.intake != nil, Share: localShare,
	}
	if c.Tarpit.Enabled {
		if err := p.openTarpit(ctx, &needs); err != nil {
			return nil, err
		}
	}
	if p.Part, err = proxy.OpenPart(ctx, p.Service, k.Profiler, pol, needs); err != nil {
		return nil, err
	}
	if p.tarpit != nil { // after the part, so that what the last stays cost is still recorded
		p.Background("tarpit", p.tarpit.Run)
		p.Background("tarpit and mode", proxy.LetGo(p.slow.mode, p.Drained(), p.tarpit.Release))
		if err := p.feedTarpit(); err != nil {
			return nil, err
		}
	}
	callers, err := p.Callers(true)
	if err != nil {
		return nil, err
	}
	groups := append(p.slow.groups(), auth.Group{API: p.Explainer()})
	if b := p.slow.backup(); b != nil {
		groups = append(groups, auth.Group{API: b})
	}
	if p.tarpit != nil {
		groups = append(groups, auth.Group{API: p.tarpit.api(p.slow.state.Settings())})
	}
	return p, p.ListenPrivate(ctx, callers, callers.Handler(groups...), openapi.AIService())
}

// Mode is the mode in force.
func (p *Program) Mode() defense.Mode { return p.slow.mode.Mode() }

// backup copies the data directory while the program runs; nil when the stores are elsewhere.
func (p *slowPart) backup() private.Registrar {
	state, ok := p.state.(*embedded.State)
	if !ok {
		return nil
	}
	b := &backup.Stores{Dir: p.s.Config.Data.Directory, State: state.DB()}
	if a, ok := p.archive.(*sqlite.Archive); ok {
		b.Archive = a
	}
	return &backup.API{Stores: b, Log: p.s.Log}
}

// AIService is the intake as a service of its own.
type AIService struct {
	*service.Service
	slow *slowPart
}

// OpenAIService prepares the intake. It starts while Redis or PostgreSQL are away: events are buffered on disk until
// they are back.
func OpenAIService(ctx context.Context, o service.Options) (_ *AIService, err error) {
	c := o.Config
	p := &AIService{Service: service.New(o)}
	defer p.CloseOnError(&err)
	if err := service.MakeData(c); err != nil {
		return nil, err
	}
	k, err := knowledge.Read()
	if err != nil {
		return nil, err
	}
	pol, err := proxy.OpenPolicy(p.Service, k.Policy)
	if err != nil {
		return nil, err
	}
	judge, err := openJudge(p.Service, k)
	if err != nil {
		return nil, err
	}
	ids := id.New(time.Now, randv2.Uint64)
	if p.slow, err = openSlow(ctx, p.Service, ids.Next, judge, k.Profiler, pol.Current, false); err != nil {
		return nil, err
	}
	p.Require("state store", p.slow.state.Ping)
	if p.slow.archive != nil {
		p.Require("archive", p.slow.archive.Ping)
	}
	p.Require("decisions", func(context.Context) error { return p.slow.owning() })
	callers, err := p.Callers(true)
	if err != nil {
		return nil, err
	}
	groups := p.slow.groups()
	if b := p.slow.backup(); b != nil {
		groups = append(groups, auth.Group{API: b})
	}
	if err := p.ListenAPI(ctx, c.AIService.Listen, callers.Handler(groups...), openapi.AIService()); err != nil {
		return nil, err
	}
	return p, p.ListenPrivate(ctx, callers, nil, nil)
}

// openJudge makes the client of the escalation engine, or the engine itself.
func openJudge(s *service.Service, k *knowledge.Knowledge) (intake.Judge, error) {
	c := s.Config
	if c.EscalationEngine.URL == InProcess {
		books, err := opinionBooks(s)
		if err != nil {
			return nil, err
		}
		return openEngine(s, k, time.Now, books)
	}
	if err := service.NeedKey("auth.aiService.key", c.Auth.AIService.Key, "internal.certificateFile", c.Internal.CertificateFile, "escalation-engine must know this service"); err != nil {
		return nil, err
	}
	client, err := service.InternalClient(&c.Internal)
	if err != nil {
		return nil, err
	}
	judge := &escalation.Client{Base: c.EscalationEngine.URL, HTTP: client, Key: c.Auth.AIService.Key}
	s.Require("escalation engine", judge.Ready)
	return judge, nil
}

// Resumable tells whether the service may be opened anew after err: it has lost what it owned to another process, or may have.
func (p *AIService) Resumable(err error) bool {
	return errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrConflict)
}

// OpenEscalationEngine prepares the engine as a service of its own. It keeps nothing.
func OpenEscalationEngine(ctx context.Context, o service.Options) (_ *service.Service, err error) {
	p := service.New(o)
	defer p.CloseOnError(&err)
	k, err := knowledge.Read()
	if err != nil {
		return nil, err
	}
	engine, err := openEngine(p, k, time.Now, spend.NewMemory(time.Now))
	if err != nil {
		return nil, err
	}
	return p, p.ServeOffer(ctx, service.Offer{
		Address: o.Config.EscalationEngine.Listen, API: &escalation.API{Engine: engine}, Document: openapi.EscalationEngine(),
		Caller: auth.AIService, Key: o.Config.Auth.AIService.Key, KeyPath: "auth.aiService.key",
	})
}
