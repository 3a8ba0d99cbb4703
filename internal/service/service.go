// Package service is what every program of quickthorn shares: one way to begin, to be ready, to drain and to end, its private
// listener, its own port, and who may call it.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/listen"
	"github.com/quickthorn/quickthorn/internal/openapi"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Options start a program.
type Options struct {
	Config            *config.Config
	Log               *slog.Logger
	Version, Revision string
}

// Service is what every program has: servers that end first, tasks that outlive them, and what is closed last.
type Service struct {
	Options
	Metrics  *telemetry.Metrics
	servers  []server
	tasks    []task
	closers  []func() error
	needs    []need
	draining atomic.Bool
	drained  chan struct{} // closed when draining begins
	private  net.Addr
}

// server is a listener with what serves it.
type server struct {
	serve    func() error
	shutdown func(ctx context.Context) error
	close    func() error
	late     bool // is closed when the others have drained: health and metrics
}

// task works in the background until its context ends. One that returns an error ends the program.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// need is something without which the service does not do its work; ready is nil while it is there.
type need struct {
	name  string
	ready func(ctx context.Context) error
}

// New begins a program: parts are added to it, then it is Run, or closed after an error.
func New(o Options) *Service {
	return &Service{Options: o, Metrics: telemetry.NewMetrics(o.Version, o.Revision), drained: make(chan struct{})}
}

// Background has run work until its context ends. Tasks begin in this order and end in the reverse one, after the servers;
// one that returns an error ends the program.
func (s *Service) Background(name string, run func(ctx context.Context) error) {
	s.tasks = append(s.tasks, task{name, run})
}

// UntilEnded makes a task of fn, which returns the error of its context when that ends: for a task that is no error.
func UntilEnded(fn func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		err := fn(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil
		}
		return err
	}
}

// OnClose has fn called at the very end, the last first.
func (s *Service) OnClose(fn func() error) { s.closers = append(s.closers, fn) }

// Require names something without which the service does not do its work; ready is nil while it is there.
func (s *Service) Require(name string, ready func(ctx context.Context) error) {
	s.needs = append(s.needs, need{name, ready})
}

// readyTime bounds the look at everything that is needed.
const readyTime = 2 * time.Second

// AddServer adds a listener with what serves it. It is shut down before any task ends.
func (s *Service) AddServer(serve func() error, shutdown func(ctx context.Context) error, close func() error) {
	s.servers = append(s.servers, server{serve: serve, shutdown: shutdown, close: close})
}

// Drained is closed when the program begins to end.
func (s *Service) Drained() <-chan struct{} { return s.drained }

// CloseOnError closes what was opened before an error: for a deferred call in what opens a program.
func (s *Service) CloseOnError(err *error) {
	if *err != nil {
		*err = errors.Join(*err, s.Close())
	}
}

// Ready is nil while the service does its work; the error names all that is missing.
func (s *Service) Ready() error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	var missing []string
	for _, n := range s.needs {
		if err := n.ready(ctx); err != nil {
			missing = append(missing, n.name+": "+err.Error())
		}
	}
	if len(missing) > 0 {
		return errors.New(strings.Join(missing, "; "))
	}
	return nil
}

// PrivateAddr is the address of the listener with health and metrics.
func (s *Service) PrivateAddr() net.Addr { return s.private }

// Run serves until ctx ends or a part fails, lets requests under way finish, has the tasks finish, and closes everything.
func (s *Service) Run(ctx context.Context) error {
	tasks := s.begin(context.WithoutCancel(ctx))
	serve, serving := errgroup.WithContext(ctx)
	for _, srv := range s.servers {
		serve.Go(srv.serve)
	}
	serve.Go(func() error {
		select {
		case <-serving.Done():
		case <-tasks.failed:
		}
		return s.drain(context.WithoutCancel(ctx))
	})
	// Reading catalogues and compiling leave garbage of several times what stays.
	debug.FreeOSMemory()
	err := serve.Wait()
	return errors.Join(err, tasks.end(), s.Close())
}

// running are tasks that have begun.
type running struct {
	stops  []func() error // ends a task and waits for it; in the order in which they began
	failed chan struct{}  // closed when one has ended with an error by itself
}

// begin starts the tasks. They outlive the servers: what the last requests brought must still be kept.
func (s *Service) begin(ctx context.Context) *running {
	r := &running{failed: make(chan struct{})}
	var once sync.Once
	for _, t := range s.tasks {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			err := t.run(ctx)
			if err != nil {
				err = fmt.Errorf("%s: %w", t.name, err)
				if ctx.Err() == nil {
					once.Do(func() { close(r.failed) })
				}
			}
			done <- err
		}()
		r.stops = append(r.stops, func() error { cancel(); return <-done })
	}
	return r
}

// end ends the tasks one by one, the last first: each can still use those that began before it, as
// the edge's recorder the intake.
func (r *running) end() error {
	var errs []error
	for _, stop := range slices.Backward(r.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// drain stops accepting, waits for what is under way, and cuts off what is left.
func (s *Service) drain(ctx context.Context) error {
	s.draining.Store(true)
	close(s.drained)
	limit := s.Config.Edge.Drain
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var g errgroup.Group
	for _, srv := range s.servers {
		if !srv.late {
			g.Go(func() error { return srv.shutdown(ctx) })
		}
	}
	err := g.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		s.Log.Warn("requests were cut off at shutdown", "drain", limit)
		err = nil
	}
	for _, srv := range s.servers {
		if srv.late {
			err = errors.Join(err, srv.close())
		}
	}
	return err
}

// Close closes the servers and what OnClose was told. Run does it itself.
func (s *Service) Close() error {
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.close())
	}
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.servers, s.closers = nil, nil
	return errors.Join(errs...)
}

// listenHTTP binds an address and serves h there; what names it in errors and in the log.
func (s *Service) listenHTTP(ctx context.Context, what, address string, h http.Handler, secure, late bool) (net.Addr, error) {
	l, err := listen.On(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	srv := private.Server(h)
	srv.ErrorLog = slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)
	serve := func() error { return srv.Serve(l) }
	if secure {
		if srv.TLSConfig, err = serverTLS(&s.Config.Internal); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", what, err), l.Close())
		}
		serve = func() error { return srv.ServeTLS(l, "", "") }
	}
	s.servers = append(s.servers, server{
		late: late,
		serve: func() error {
			s.Log.Info(what, "address", l.Addr().String(), "tls", secure)
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		},
		shutdown: srv.Shutdown,
		close: func() error {
			err := srv.Close()
			if e := l.Close(); !errors.Is(e, net.ErrClosed) { // one that never served does not know its listener
				err = errors.Join(err, e)
			}
			return err
		},
	})
	return l.Addr(), nil
}

// ListenPrivate serves health, readiness and metrics, and with api also that.
func (s *Service) ListenPrivate(ctx context.Context, callers *auth.Callers, api http.Handler, document openapi.Document) (err error) {
	c := &s.Config.Private
	o := private.Options{Metrics: s.Metrics.Handler(s.Log), Ready: s.Ready, API: api}
	if document != nil {
		o.OpenAPI = document
	}
	if c.Pprof {
		o.Debug = func(next http.Handler) http.Handler { return callers.Guard(next) }
	}
	s.private, err = s.listenHTTP(ctx, "private listener", c.Listen, private.Handler(o), false, true)
	return err
}

// ListenAPI serves a service's own port: its API, each endpoint to its callers, and the document about it, if there is one.
func (s *Service) ListenAPI(ctx context.Context, address string, api http.Handler, document openapi.Document) error {
	mux := http.NewServeMux()
	mux.Handle("/v1/", api)
	if document != nil {
		mux.Handle("GET /openapi.json", document)
	}
	_, err := s.listenHTTP(ctx, "API", address, mux, s.Config.Internal.CertificateFile != "", false)
	return err
}

// ListenPages serves pages on a port of their own.
func (s *Service) ListenPages(ctx context.Context, address string, pages http.Handler) error {
	_, err := s.listenHTTP(ctx, "pages", address, pages, false, false)
	return err
}

// Offer is an API that one other service calls.
type Offer struct {
	Address  string // to listen at
	API      private.Registrar
	Document openapi.Document // nil: none
	// Caller is who calls, besides the operator. Key is its key, and KeyPath the setting of that.
	Caller, Key, KeyPath string
	// More are further callers; where there are some, Caller may be unknown.
	More []string
}

// ServeOffer serves an API on the service's own port, and health and metrics on the private listener. It is an error if the
// caller could not be known.
func (s *Service) ServeOffer(ctx context.Context, o Offer) error {
	if len(o.More) == 0 {
		if err := NeedKey(o.KeyPath, o.Key, "internal.caFile", s.Config.Internal.CAFile, "this service must know "+o.Caller); err != nil {
			return err
		}
	}
	callers, err := s.Callers(false)
	if err != nil {
		return err
	}
	if err := s.ListenAPI(ctx, o.Address, callers.Handler(auth.Group{API: o.API, Callers: append([]string{o.Caller}, o.More...)}), o.Document); err != nil {
		return err
	}
	return s.ListenPrivate(ctx, callers, nil, nil)
}

// ServeHealth serves health and metrics on the private listener, for a service that has no API.
func (s *Service) ServeHealth(ctx context.Context) error {
	callers, err := s.Callers(false)
	if err != nil {
		return err
	}
	return s.ListenPrivate(ctx, callers, nil, nil)
}
