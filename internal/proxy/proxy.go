// Package proxy is the edge: as a part of a program, and as a service of its own.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/mode"
	"github.com/quickthorn/quickthorn/internal/openapi"
	"github.com/quickthorn/quickthorn/internal/redemption"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/ship"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Proxy is the edge as a service of its own. It follows the decisions of ai-service and sends it what it sees.
type Proxy struct {
	*service.Service
	*Part
	follower *decision.Follower
	mode     *mode.Switch
}

// SnapshotFile is the name of the file in the data directory in which an edge keeps the decisions that it follows.
const SnapshotFile = "decisions.snapshot"

// Hear makes what hears of new decisions beside ai-service's own word, and what closes it.
type Hear func(c *config.Config, log *slog.Logger) (decision.Listener, func() error, error)

// Open prepares the edge. hear may be nil. It starts and serves while ai-service is away, with the decisions that it knew last.
func Open(ctx context.Context, o service.Options, hear Hear) (_ *Proxy, err error) {
	c := o.Config
	p := &Proxy{Service: service.New(o)}
	defer p.CloseOnError(&err)
	if err := c.RequireUpstream(); err != nil {
		return nil, err
	}
	if err := service.MakeData(c); err != nil {
		return nil, err
	}
	k, err := knowledge.Read()
	if err != nil {
		return nil, err
	}
	pol, err := OpenPolicy(p.Service, k.Policy)
	if err != nil {
		return nil, err
	}
	client, err := service.InternalClient(&c.Internal)
	if err != nil {
		return nil, err
	}
	if err := service.NeedKey("auth.proxy.key", c.Auth.Proxy.Key, "internal.certificateFile", c.Internal.CertificateFile, "ai-service must know this edge"); err != nil {
		return nil, err
	}
	ids := id.New(time.Now, rand.Uint64)
	sink, err := ship.New(ship.Options{Base: c.AIService.URL, HTTP: client, Key: c.Auth.Proxy.Key, Edge: Name(c), Log: o.Log, Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("aiService.url: %w", err)
	}
	set := decision.NewSet(c.Edge.Trusted)
	p.mode = &mode.Switch{}
	p.mode.Put(c.Policy.Mode)
	follow := decision.FollowerOptions{Snapshot: filepath.Join(c.Data.Directory, SnapshotFile), Log: o.Log, OnMode: p.mode.Put}
	if c.State.Store == "redis" {
		if hear == nil {
			return nil, errors.New("state.store: this program has no Redis client and needs none, since ai-service tells it of decisions: leave the setting out")
		}
		bell, closeBell, err := hear(c, o.Log)
		if err != nil {
			return nil, err
		}
		p.OnClose(closeBell)
		follow.Bell = bell
	}
	p.follower = decision.NewFollower(set, &decision.Client{Base: c.AIService.URL, HTTP: client, Key: c.Auth.Proxy.Key}, follow)
	restored, err := p.follower.Load()
	if err != nil {
		return nil, fmt.Errorf("read the decisions known last: %w", err)
	}
	o.Log.Info("decisions known last", "count", restored.Decisions)
	p.Background("following decisions", p.follower.Run)
	p.Background("forgetting expired decisions", func(ctx context.Context) error {
		for ctx.Err() == nil {
			if _, err := set.Sweep(time.Now(), 20_000); err != nil {
				return err
			}
			wait.For(ctx, time.Second)
		}
		return nil
	})
	relay, seed, err := p.openRelay()
	if err != nil {
		return nil, err
	}
	if p.Part, err = OpenPart(ctx, p.Service, k.Profiler, pol, Needs{
		Decisions: set, Mode: p.mode.Mode, Sink: sink, NewID: ids.Next, Observe: true, Off: !c.Slow.Enabled,
		Tarpit: relay, Seed: seed,
		Redemptions: &redemption.Client{Base: c.AIService.URL, HTTP: client, Key: c.Auth.Proxy.Key},
	}); err != nil {
		return nil, err
	}
	if relay != nil && maze.Skin(c.Tarpit.Skin) == maze.SkinLearnt {
		lib := &artifact.Client{Base: c.AIService.URL, HTTP: client, Key: c.Auth.Proxy.Key}
		p.Background("learning what the sites look like", p.Rounds(lib).Run)
	}
	if err := p.registerRemote(set, sink); err != nil {
		return nil, err
	}
	callers, err := p.Callers(true)
	if err != nil {
		return nil, err
	}
	return p, p.ListenPrivate(ctx, callers, callers.Handler(auth.Group{API: p.explain}), openapi.AIService())
}

// Mode is the mode in force.
func (p *Proxy) Mode() defense.Mode { return p.mode.Mode() }

// Addr is the address of the first public listener.
func (p *Proxy) Addr() net.Addr { return p.Part.Addr() }
