// Package run is quickthorn in one process on embedded stores: the edge, the
// private listener, the decision log, the archive, and the goroutines that keep them.
//
// A Program is a value, so that tests start the very thing that the command starts.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/backup"
	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/edge"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/posture"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// Options start a program.
type Options struct {
	Config            *config.Config
	Log               *slog.Logger
	Version, Revision string
}

// Program is a running quickthorn. Open it, Run it, and it closes itself.
type Program struct {
	o          Options
	state      *embedded.DB
	archive    *sqlite.Archive // nil when events are off or cannot be kept
	decisions  *decision.Log
	policy     *policy.Reloader
	recorder   recorder
	gauge      *posture.Gauge
	edge       *edge.Edge
	upstreams  []*upstream.Upstream
	mode       *modeSwitch
	explain    *explain.API
	draining   atomic.Bool
	public     []*edge.Server
	cert       *edge.Certificate // nil without TLS
	privateLn  net.Listener
	privateSrv *http.Server
	closers    []func() error
}

// recorder is what the edge records into: the archive's, or one that only counts.
type recorder interface {
	edge.Recorder
	Run(ctx context.Context) error
	Stats() record.Stats
}

// Judges makes what turns requests into profiles and says which names a policy
// may use. It is shared by all that judge: run, explain, check, replay.
func Judges() (*profile.Profiler, policy.Options, error) {
	catalogue, err := crawler.Default()
	if err != nil {
		return nil, policy.Options{}, fmt.Errorf("read the crawler catalogue: %w", err)
	}
	var o policy.Options
	for _, s := range profile.SignalCatalogue() {
		o.Vocabulary.Signals = append(o.Vocabulary.Signals, s.Name)
	}
	for _, c := range catalogue.All() {
		o.Vocabulary.Crawlers = append(o.Vocabulary.Crawlers, c.ID)
	}
	return profile.New(agent.New(catalogue)), o, nil
}

// Open prepares everything and binds the listeners; it serves nothing yet. What
// fails closed is an error here: an unreadable clearance key, a wrong policy, a data directory in use. A broken
// archive is not: the edge serves on without it and says so.
func Open(ctx context.Context, o Options) (_ *Program, err error) {
	p := &Program{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	c := o.Config
	if err := c.RequireUpstream(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Data.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	profiler, policyOptions, err := Judges()
	if err != nil {
		return nil, err
	}
	if p.policy, err = policy.NewReloader(func() (*policy.Policy, error) { return policy.Load(c.Policy.Source, policyOptions) }, o.Log); err != nil {
		return nil, fmt.Errorf("policy %q:\n%w", c.Policy.Source, err)
	}
	for _, w := range p.policy.Current().Warnings() {
		o.Log.Warn("policy", "problem", w.String())
	}

	if err := p.openState(ctx); err != nil {
		return nil, err
	}
	ids := id.New(time.Now, randv2.Uint64)
	if err := p.openArchive(ctx); err != nil {
		return nil, err
	}
	check, err := p.openCheck()
	if err != nil {
		return nil, err
	}
	p.gauge = posture.New(posture.Config{
		Fixed: c.Posture.Fixed, GuardedLatency: c.Posture.GuardedLatency, SiegeLatency: c.Posture.SiegeLatency,
		GuardedErrors: c.Posture.GuardedErrors, SiegeErrors: c.Posture.SiegeErrors,
		GuardedInFlight: c.Posture.GuardedInFlight, SiegeInFlight: c.Posture.SiegeInFlight, Dwell: c.Posture.Dwell,
	}, time.Now())
	budgets := budget.New(c.Budgets.MaxClients)
	judge := engine.New(engine.Options{
		Decisions: p.decisions.Set(), Policy: p.policy.Current, Budgets: budgets, Posture: p.gauge.Current, Mode: p.mode.Mode,
	})
	resolver, err := clientaddr.New(clientaddr.Config{Trusted: c.Edge.Trusted, TrustUnix: c.Edge.TrustUnix, Headers: c.Edge.ClientHeaders})
	if err != nil {
		return nil, err
	}
	sites, err := p.openSites()
	if err != nil {
		return nil, err
	}
	name := c.Edge.Name
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			name = "edge"
		}
	}
	if p.edge, err = edge.New(edge.Options{
		Name: name, Sites: sites, Clients: resolver, Profiler: profiler, Engine: judge, Check: check, Posture: p.gauge, Recorder: p.recorder,
		NewID: ids.Next, BodyIdle: c.Edge.Limits.BodyIdleTimeout, MaxBody: int64(c.Edge.Limits.BodyBytes),
		TarpitDelay: c.Tarpit.Delay, TarpitMax: c.Tarpit.Max, Contact: c.Edge.Contact, Log: o.Log,
	}); err != nil {
		return nil, err
	}
	if err := p.listen(ctx, resolver); err != nil {
		return nil, err
	}
	return p, p.openPrivate(ctx, profiler, judge, check, budgets)
}

// openState opens decisions and settings. They are what an owner decided: without them the
// program does not start.
func (p *Program) openState(ctx context.Context) (err error) {
	c := p.o.Config
	if p.state, err = embedded.Open(ctx, filepath.Join(c.Data.Directory, embedded.FileName)); err != nil {
		return err
	}
	p.closers = append(p.closers, p.state.Close)
	p.decisions = decision.NewLog(decision.NewSet(c.Edge.Trusted), p.state, decision.LogOptions{MaxEntries: c.Decisions.MaxEntries})
	loaded, err := p.decisions.Load(ctx)
	if err != nil {
		return fmt.Errorf("load decisions: %w", err)
	}
	if loaded.Refused > 0 {
		p.o.Log.Warn("decisions that are kept but not in force", "count", loaded.Refused, "first", loaded.Reason)
	}
	p.mode, err = openMode(ctx, p.state.Settings(), c.Policy.Mode)
	return err
}

// openArchive opens the event archive. Losing it costs the record, not the site:
// when it cannot be opened the edge serves on without.
func (p *Program) openArchive(ctx context.Context) error {
	c := p.o.Config
	options := record.Options{
		SampleAllow: c.Events.SampleAllow, Queue: c.Events.Queue, MaxAge: c.Events.RetentionAge, MaxBytes: int64(c.Events.RetentionSize),
		Share: archiveShare, Now: time.Now, Random: randv2.Uint64,
	}
	for _, s := range c.Sites {
		options.Sites = append(options.Sites, s.Name)
	}
	if c.Upstream.URL != "" {
		options.Sites = append(options.Sites, DefaultSite)
	}
	if !c.Events.Enabled {
		p.recorder = &unrecorded{}
		return nil
	}
	privacy, err := ArchivePrivacy(c)
	if err != nil {
		return err
	}
	p.archive, err = sqlite.Open(ctx, filepath.Join(c.Data.Directory, sqlite.FileName), sqlite.Options{Privacy: privacy, Quarantine: true, Now: time.Now, Log: p.o.Log})
	if err != nil {
		p.o.Log.Error("events cannot be kept; serving without the archive", "error", err)
		p.archive = nil
		p.recorder = &unrecorded{}
		return nil
	}
	p.closers = append(p.closers, p.archive.Close)
	p.recorder = record.New(options, p.archive, p.o.Log)
	return nil
}

// ArchivePrivacy returns how the archive keeps addresses and query strings by this configuration.
// The key of hashed addresses is read from the data directory, and made if there is none.
func ArchivePrivacy(c *config.Config) (sqlite.Privacy, error) {
	addresses, err := sqlite.ParseAddressMode(c.Events.Addresses)
	if err != nil {
		return sqlite.Privacy{}, err
	}
	p := sqlite.Privacy{Addresses: addresses, KeepQuery: c.Events.Query}
	if addresses == sqlite.Hashed {
		p.Key, err = challenge.LoadKey(filepath.Join(c.Data.Directory, sqlite.PrivacyKeyFile))
	}
	return p, err
}

// ClearanceKeyFile returns the path of the file with the key that signs clearances.
func ClearanceKeyFile(c *config.Config) string {
	if c.Challenge.KeyFile != "" {
		return c.Challenge.KeyFile
	}
	return filepath.Join(c.Data.Directory, challenge.KeyFile)
}

func (p *Program) openCheck() (*challenge.Check, error) {
	c := p.o.Config
	key, err := challenge.LoadKey(ClearanceKeyFile(c))
	if err != nil {
		return nil, err
	}
	signer, err := challenge.NewSigner(key)
	if err != nil {
		return nil, err
	}
	return challenge.NewCheck(signer, c.Challenge.Validity), nil
}

// archiveShare is how much of one processor writing events may take: about two thousand events a second.
const archiveShare = 0.05

// DefaultSite is the name of the site that upstream.url protects.
const DefaultSite = "default"

func (p *Program) openSites() ([]edge.Site, error) {
	c := p.o.Config
	var sites []edge.Site
	open := func(name string, hosts []string, target string, preserve bool) error {
		u, err := upstream.New(upstream.Config{
			URL: target, ConnectTimeout: c.Upstream.ConnectTimeout, ResponseHeaderTimeout: c.Upstream.ResponseTimeout,
			IdleTimeout: c.Upstream.IdleTimeout, MaxIdle: c.Upstream.MaxIdle,
		})
		if err != nil {
			return fmt.Errorf("site %q: %w", name, err)
		}
		p.upstreams = append(p.upstreams, u)
		s := edge.Site{Name: name, Hosts: hosts, Upstream: u}
		if !preserve {
			s.SendHost = hostOf(target)
		}
		sites = append(sites, s)
		return nil
	}
	for i := range c.Sites {
		s := &c.Sites[i]
		if err := open(s.Name, s.Hosts, s.Upstream, c.Preserve(s)); err != nil {
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
func (p *Program) listen(ctx context.Context, resolver *clientaddr.Resolver) error {
	c := p.o.Config
	mode, err := clientaddr.ParseProxyMode(c.Edge.ProxyProtocol)
	if err != nil {
		return err
	}
	limits := edge.Limits{
		HeaderBytes: int(c.Edge.Limits.HeaderBytes), HeaderTimeout: c.Edge.Limits.HeaderTimeout, IdleTimeout: c.Edge.Limits.IdleTimeout,
		WriteIdle: c.Edge.Limits.WriteIdle, Connections: p.edge.Connections(c.Edge.Limits.MaxConnections),
	}
	bind := func(address string, cert *edge.Certificate) error {
		l, err := edge.Listen(ctx, address)
		if err != nil {
			return fmt.Errorf("public listener: %w", err)
		}
		wrap := func(l net.Listener) net.Listener { return resolver.Listener(l, mode, c.Edge.Limits.HeaderTimeout) }
		p.public = append(p.public, edge.NewServer(p.edge, l, wrap, cert, limits, p.o.Log))
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
	if p.cert, err = edge.LoadCertificate(c.Edge.TLS.CertificateFile, c.Edge.TLS.KeyFile, p.o.Log); err != nil {
		return err
	}
	return bind(c.Edge.TLS.Listen, p.cert)
}

func (p *Program) openPrivate(ctx context.Context, profiler *profile.Profiler, judge *engine.Engine, check *challenge.Check, budgets *budget.Store) (err error) {
	c := p.o.Config
	key := c.Private.Key
	if key == "" {
		if key, err = private.LoadKey(c.Data.Directory); err != nil {
			return err
		}
	}
	p.explain = &explain.API{Profiler: profiler, Engine: judge, Check: check, Now: time.Now}
	metrics := telemetry.NewMetrics(p.o.Version, p.o.Revision)
	if err := p.register(metrics, budgets); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	o := private.Options{
		Key: key, Metrics: metrics.Handler(p.o.Log), Ready: p.Ready, Pprof: c.Private.Pprof,
		API: []private.Registrar{
			&private.ModeAPI{Switch: p.mode}, decision.NewAPI(p.decisions, time.Now),
			p.explain, &backup.API{Stores: &backup.Stores{Dir: c.Data.Directory, State: p.state, Archive: p.archive}, Log: p.o.Log},
		},
	}
	if p.archive != nil {
		o.API = append(o.API, &record.API{Archive: p.archive, Now: time.Now, Log: p.o.Log})
	}
	if p.privateLn, err = edge.Listen(ctx, c.Private.Listen); err != nil {
		return fmt.Errorf("private listener: %w", err)
	}
	p.privateSrv = private.Server(private.Handler(o))
	p.privateSrv.ErrorLog = slog.NewLogLogger(p.o.Log.Handler(), slog.LevelDebug)
	return nil
}

// Ready is nil while the program takes requests.
func (p *Program) Ready() error {
	if p.draining.Load() {
		return errors.New("draining")
	}
	return nil
}

// Mode is the mode in force.
func (p *Program) Mode() defense.Mode { return p.mode.Mode() }

// Addr is the address of the first public listener.
func (p *Program) Addr() net.Addr { return p.public[0].Addr() }

// PrivateAddr is the address of the private listener.
func (p *Program) PrivateAddr() net.Addr { return p.privateLn.Addr() }

// Reload reads the policy and the certificate again, as on SIGHUP. What is wrong
// is an error, and the old one stays in force.
func (p *Program) Reload() error {
	err := p.policy.Reload()
	if p.cert == nil {
		return err
	}
	certErr := p.cert.Reload()
	if certErr != nil {
		p.o.Log.Error("the certificate could not be read again; the old one stays in use", "error", certErr)
	}
	return errors.Join(err, certErr)
}

// Run serves until ctx ends or a listener fails, lets requests under way finish within
// edge.drain, writes what is queued, and closes the stores.
func (p *Program) Run(ctx context.Context) error {
	c := p.o.Config
	// The stores outlive the edge: what the last requests decided must still be kept.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	keep, keepCtx := errgroup.WithContext(background)
	keep.Go(func() error { return p.recorder.Run(keepCtx) })
	keep.Go(func() error { return p.tick(keepCtx) })
	if c.Policy.Watch {
		keep.Go(func() error {
			if err := p.policy.Watch(keepCtx, 2*time.Second); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}

	serve, serveCtx := errgroup.WithContext(ctx)
	for _, s := range p.public {
		serve.Go(s.Serve)
		p.o.Log.Info("serving", "address", s.Addr().String(), "tls", s.TLS())
	}
	serve.Go(func() error {
		if err := p.privateSrv.Serve(p.privateLn); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("private listener: %w", err)
		}
		return nil
	})
	p.o.Log.Info("private listener", "address", p.privateLn.Addr().String())
	serve.Go(func() error {
		<-serveCtx.Done()
		return p.drain(context.WithoutCancel(ctx), c.Edge.Drain)
	})
	// Reading the catalogue and compiling the policy leave garbage of several times what stays.
	debug.FreeOSMemory()
	err := serve.Wait()
	stop()
	return errors.Join(err, keep.Wait(), p.close())
}

// drain stops accepting, waits for what is under way, and cuts off what is left.
func (p *Program) drain(ctx context.Context, limit time.Duration) error {
	p.draining.Store(true)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var g errgroup.Group
	for _, s := range p.public {
		g.Go(func() error { return s.Shutdown(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		p.o.Log.Warn("requests were cut off at shutdown", "drain", limit)
		err = nil
	}
	return errors.Join(err, p.privateSrv.Close())
}

// tick does what is due each second: posture, and forgetting decisions that have expired.
func (p *Program) tick(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var heap collector
	defer heap.reset()
	sweep := telemetry.NewState(p.o.Log, "expired decisions cannot be removed", "expired decisions are removed again", time.Now)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			p.gauge.Tick(now)
			heap.adjust()
			_, err := p.decisions.Sweep(ctx, 20_000)
			if ctx.Err() == nil {
				sweep.Report(err)
			}
		}
	}
}

func (p *Program) close() error {
	var errs []error
	for _, u := range p.upstreams {
		u.Close()
	}
	for _, s := range p.public {
		errs = append(errs, s.Close())
	}
	if p.privateLn != nil {
		if err := p.privateLn.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// Explain says what would be done with a request now, and why.
func (p *Program) Explain(q *explain.Question) (*explain.Report, error) {
	return explain.Ask(q, p.explain.Profiler, p.explain.Engine, p.explain.Check, p.explain.Now())
}
