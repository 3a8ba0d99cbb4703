package proxy

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/edge"
	"github.com/quickthorn/quickthorn/internal/keyfile"
	"github.com/quickthorn/quickthorn/internal/mode"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
	"github.com/quickthorn/quickthorn/internal/trap"
)

// SeedFile is the name of the file in the data directory with the secret that the maze and the trap links are made from.
const SeedFile = "tarpit.key"

// TarpitSeed returns the secret: the configured one, or that of the data directory, which is made if there is none.
func TarpitSeed(c *config.Config) ([]byte, error) {
	if c.Tarpit.Seed != "" {
		return []byte(c.Tarpit.Seed), nil
	}
	seed, err := keyfile.Key(filepath.Join(c.Data.Directory, SeedFile))
	if err != nil {
		return nil, fmt.Errorf("tarpit's secret: %w", err)
	}
	return seed, nil
}

// openTraps returns the traps, and which pages get links to them; nil without a seed.
func openTraps(c *config.Config, seed []byte) (*trap.Traps, func(path string) bool, error) {
	if seed == nil {
		return nil, nil, nil
	}
	traps, err := trap.New(trap.Options{Seed: seed})
	if err != nil || !c.Tarpit.Links {
		return traps, nil, err
	}
	except, err := policy.Paths(c.Tarpit.LinksExcept)
	if err != nil {
		return nil, nil, fmt.Errorf("tarpit.linksExcept: %w", err)
	}
	return traps, func(path string) bool { return !except(path) }, nil
}

// relayConnections is how many clients one edge hands to a tarpit in another process at once. Each holds two connections of the edge.
const relayConnections = 1000

// openRelay makes the way to a tarpit in another process; nil if there is none.
func (p *Proxy) openRelay() (edge.Tarpit, []byte, error) {
	c := p.Config
	if !c.Tarpit.Enabled || c.Tarpit.URL == "" {
		return nil, nil, nil
	}
	for _, need := range [...]struct{ path, value, why string }{
		{"tarpit.seed", c.Tarpit.Seed, "the edge and the tarpit must have the same secret"},
		{"auth.proxy.key", c.Auth.Proxy.Key, "the tarpit must know this edge"},
	} {
		if need.value == "" {
			name := config.EnvName(need.path)
			return nil, nil, fmt.Errorf("%s: set %s (or %s_FILE), or leave tarpit.url empty", need.why, name, name)
		}
	}
	u, err := url.Parse(c.Tarpit.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("tarpit.url: %w", err)
	}
	relay, err := entry.NewRelay(entry.RelayOptions{
		URL: u, Key: func() string { return c.Auth.Proxy.Key }, Connections: min(c.Tarpit.Connections, relayConnections),
		Timeout: c.Tarpit.MaxDelay + 5*time.Second, Now: time.Now, Log: p.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	p.OnClose(func() error { relay.Close(); return nil })
	p.Background("tarpit and mode", LetGo(p.mode, p.Drained(), relay.Release))
	return relay, []byte(c.Tarpit.Seed), p.Metrics.Counter("tarpit_relay_failures_total", "Times that the tarpit could not be reached: the edge then refuses by itself.",
		func() float64 { return float64(relay.Failures()) })
}

// LetGo lets go whoever is held in a tarpit when verdicts are carried out no longer, and when the program begins to end.
func LetGo(m *mode.Switch, drained <-chan struct{}, release func()) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		for {
			changed := m.Changed()
			if now := m.Mode(); now == defense.ModeObserve || now == defense.ModeOff {
				release()
			}
			select {
			case <-changed:
			case <-drained:
				release()
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// Pressed reports whether the machine is needed for readers: the site is under siege, or most client connections are in use.
func (e *Part) Pressed() bool {
	return e.gauge.Current() >= defense.Siege || e.edge.Crowded()
}
