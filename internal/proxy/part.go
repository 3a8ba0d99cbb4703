package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/edge"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/listen"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/session"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// DefaultSite is the name of the site that upstream.url protects.
const DefaultSite = "default"

// Part is the edge with what belongs to it.
type Part struct {
	s        *service.Service
	policy   *policy.Reloader
	profiler *profile.Profiler
	budgets  *budget.Store
	gauge    *posture.Gauge
	recorder recorder
	inForce  func() defense.Mode
	edge     *edge.Edge
	resolver *clientaddr.Resolver
	public   []*edge.Server
	cert     *edge.Certificate // nil without TLS
	explain  *explain.API
	signer   *clearance.Signer
	sessions *session.Prover
	sites    []edge.Site
}

// Needs is what an edge takes from the rest of the program.
type Needs struct {
	Decisions *decision.Set
	Mode      func() defense.Mode
	Sink      record.Sink
	NewID     func() string
	// Observe has the sink see every request; Share is how much of one processor recording may take.
	Observe bool
	Share   float64
	Off     bool // nothing is recorded
	// Redemptions is what edges remember together of redeemed challenges; nil if there is one edge.
	Redemptions challenge.Redemptions
	// Tarpit takes clients in; nil: none does. Seed is what it and the trap links are made from; nil: there are no traps.
	Tarpit edge.Tarpit
	Seed   []byte
}

// recorder is what the edge records into: a queue to the sink, or one that only counts.
type recorder interface {
	edge.Recorder
	Run(ctx context.Context) error
	Stats() record.Stats
}

// OpenPolicy reads the policy. One that is wrong at the start is an error.
func OpenPolicy(s *service.Service, o policy.Options) (*policy.Reloader, error) {
	c := s.Config
	r, err := policy.NewReloader(func() (*policy.Policy, error) { return policy.Load(c.Policy.Source, o) }, s.Log)
	if err != nil {
		return nil, fmt.Errorf("policy %q:\n%w", c.Policy.Source, err)
	}
	for _, w := range r.Current().Warnings() {
		s.Log.Warn("policy", "problem", w.String())
	}
	if c.Policy.Watch {
		s.Background("watching the policy", service.UntilEnded(func(ctx context.Context) error { return r.Watch(ctx, 2*time.Second) }))
	}
	return r, nil
}

// Name is the configured name of this edge, or the machine's.
func Name(c *config.Config) string {
	if c.Edge.Name != "" {
		return c.Edge.Name
	}
	name, err := os.Hostname()
	if err != nil {
		return "edge"
	}
	return name
}

// OpenPart makes the edge and binds its listeners. What fails closed is an error here: an unreadable
// clearance key, a wrong policy.
func OpenPart(ctx context.Context, s *service.Service, profiler *profile.Profiler, pol *policy.Reloader, n Needs) (*Part, error) {
	c := s.Config
	e := &Part{s: s, policy: pol, profiler: profiler, inForce: n.Mode, budgets: budget.New(c.Budgets.MaxClients)}
	var err error
	keys, err := clearance.LoadKeys(ClearanceKeyFile(c))
	if err != nil {
		return nil, err
	}
	if e.signer, err = clearance.NewSigner(keys...); err != nil {
		return nil, err
	}
	if e.sessions, err = session.New(session.Options{Keys: keys, Names: c.Tarpit.SessionCookies}); err != nil {
		return nil, fmt.Errorf("tarpit.sessionCookies: %w", err)
	}
	gate, widget, err := NewGate(c, e.signer, n.Redemptions)
	if err != nil {
		return nil, err
	}
	answers, err := openPages(s)
	if err != nil {
		return nil, err
	}
	e.gauge = posture.New(PostureConfig(c), time.Now())
	judge := engine.New(engine.Options{Decisions: n.Decisions, Policy: pol.Current, Budgets: e.budgets, Posture: e.gauge.Current, Mode: n.Mode})
	if e.resolver, err = clientaddr.New(clientaddr.Config{Trusted: c.Edge.Trusted, TrustUnix: c.Edge.TrustUnix, Headers: c.Edge.ClientHeaders}); err != nil {
		return nil, err
	}
	if e.sites, err = openSites(s); err != nil {
		return nil, err
	}
	e.recorder = &unrecorded{}
	if !n.Off {
		e.recorder = record.New(record.Options{
			Sites: siteNames(c), SampleAllow: c.Events.SampleAllow, Queue: c.Events.Queue, Observe: n.Observe, Share: n.Share,
			Now: time.Now, Random: rand.Uint64, NewID: n.NewID,
		}, n.Sink, s.Log)
	}
	s.Background("recording", e.recorder.Run)
	traps, linked, err := openTraps(c, n.Seed)
	if err != nil {
		return nil, err
	}
	if e.edge, err = edge.New(edge.Options{
		Name: Name(c), Sites: e.sites, Clients: e.resolver, Profiler: profiler, Engine: judge, Gate: gate, Answers: answers, Widget: widget,
		Posture: e.gauge, Recorder: e.recorder,
		NewID: n.NewID, BodyIdle: c.Edge.Limits.BodyIdleTimeout, MaxBody: int64(c.Edge.Limits.BodyBytes),
		Tarpit: n.Tarpit, Traps: traps, Linked: linked, Sessions: e.sessions, TarpitDelay: c.Tarpit.Delay, TarpitMax: c.Tarpit.Max, Contact: c.Edge.Contact, Log: s.Log,
	}); err != nil {
		return nil, err
	}
	e.explain = &explain.API{Profiler: profiler, Engine: judge, Check: gate, Now: time.Now}
	s.Background("posture", e.tick)
	s.Background("watching the keys", service.UntilEnded(e.watchKeys))
	if err := e.register(); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return e, e.listen(ctx)
}

func PostureConfig(c *config.Config) posture.Config {
	return posture.Config{
		Fixed: c.Posture.Fixed, GuardedLatency: c.Posture.GuardedLatency, SiegeLatency: c.Posture.SiegeLatency,
		GuardedErrors: c.Posture.GuardedErrors, SiegeErrors: c.Posture.SiegeErrors,
		GuardedInFlight: c.Posture.GuardedInFlight, SiegeInFlight: c.Posture.SiegeInFlight, Dwell: c.Posture.Dwell,
	}
}

// siteNames lists the names of the protected sites.
func siteNames(c *config.Config) []string {
	var names []string
	for _, s := range c.Sites {
		names = append(names, s.Name)
	}
	if c.Upstream.URL != "" {
		names = append(names, DefaultSite)
	}
	return names
}

func openSites(s *service.Service) ([]edge.Site, error) {
	c := s.Config
	var sites []edge.Site
	open := func(name string, hosts []string, target string, preserve bool) error {
		u, err := upstream.New(upstream.Config{
			URL: target, ConnectTimeout: c.Upstream.ConnectTimeout, ResponseHeaderTimeout: c.Upstream.ResponseTimeout,
			IdleTimeout: c.Upstream.IdleTimeout, MaxIdle: c.Upstream.MaxIdle,
		})
		if err != nil {
			return fmt.Errorf("site %q: %w", name, err)
		}
		s.OnClose(func() error { u.Close(); return nil })
		site := edge.Site{Name: name, Hosts: hosts, Upstream: u}
		if !preserve {
			site.SendHost = hostOf(target)
		}
		sites = append(sites, site)
		return nil
	}
	for i := range c.Sites {
		t := &c.Sites[i]
		if err := open(t.Name, t.Hosts, t.Upstream, c.Preserve(t)); err != nil {
			return nil, err
		}
	}
	if c.Upstream.URL != "" {
		if err := open(DefaultSite, nil, c.Upstream.URL, c.Upstream.PreserveHost); err != nil {
			return nil, err
		}
	}
	return sites, nil
}

// hostOf is the Host of an upstream's URL; a Unix socket's is localhost.
func hostOf(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return "localhost"
	}
	return u.Host
}

// listen binds the public listeners.
func (e *Part) listen(ctx context.Context) error {
	c := e.s.Config
	mode, err := clientaddr.ParseProxyMode(c.Edge.ProxyProtocol)
	if err != nil {
		return err
	}
	limits := edge.Limits{
		HeaderBytes: int(c.Edge.Limits.HeaderBytes), HeaderTimeout: c.Edge.Limits.HeaderTimeout, IdleTimeout: c.Edge.Limits.IdleTimeout,
		WriteIdle: c.Edge.Limits.WriteIdle, Connections: e.edge.Connections(c.Edge.Limits.MaxConnections),
	}
	bind := func(address string, cert *edge.Certificate) error {
		l, err := listen.On(ctx, address)
		if err != nil {
			return fmt.Errorf("public listener: %w", err)
		}
		wrap := func(l net.Listener) net.Listener { return e.resolver.Listener(l, mode, c.Edge.Limits.HeaderTimeout) }
		srv := edge.NewServer(e.edge, l, wrap, cert, limits, e.s.Log)
		e.public = append(e.public, srv)
		e.s.AddServer(func() error {
			e.s.Log.Info("serving", "address", srv.Addr().String(), "tls", srv.TLS())
			return srv.Serve()
		}, srv.Shutdown, srv.Close)
		return nil
	}
	for _, address := range c.Edge.Listen {
		if err := bind(address, nil); err != nil {
			return err
		}
	}
	if c.Edge.TLS.Listen == "" {
		return nil
	}
	if e.cert, err = edge.LoadCertificate(c.Edge.TLS.CertificateFile, c.Edge.TLS.KeyFile, e.s.Log); err != nil {
		return err
	}
	return bind(c.Edge.TLS.Listen, e.cert)
}

// tick does what is due each second.
func (e *Part) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var heap collector
	defer heap.reset()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			e.gauge.Tick(now)
			heap.adjust()
		}
	}
}

// Addr is the address of the first public listener.
func (e *Part) Addr() net.Addr { return e.public[0].Addr() }

// Addrs are the addresses of the public listeners.
func (e *Part) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(e.public))
	for i, srv := range e.public {
		addrs[i] = srv.Addr()
	}
	return addrs
}

// Explainer answers what would be done with a request.
func (e *Part) Explainer() *explain.API { return e.explain }

// Reload reads the policy, the keys of clearances and the certificate again, as on SIGHUP. What is wrong
// is an error, and the old one stays in force.
func (e *Part) Reload() error {
	err := e.policy.Reload()
	keyErr := e.reloadKeys()
	if keyErr != nil {
		e.s.Log.Error("the keys of clearances could not be read again; the old ones stay in use", "error", keyErr)
		err = errors.Join(err, keyErr)
	}
	if e.cert == nil {
		return err
	}
	certErr := e.cert.Reload()
	if certErr != nil {
		e.s.Log.Error("the certificate could not be read again; the old one stays in use", "error", certErr)
	}
	return errors.Join(err, certErr)
}

// Explain says what would be done with a request now, and why.
func (e *Part) Explain(q *explain.Question) (*explain.Report, error) {
	return explain.Ask(q, e.explain.Profiler, e.explain.Engine, e.explain.Check, e.explain.Now())
}
