package robots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
	"golang.org/x/sync/errgroup"
)

// Site is where a site's robots.txt is to be had.
type Site struct {
	Name string // as in events
	Base string // "http://127.0.0.1:3000": "/robots.txt" is appended
	Host string // Host header to send; "": that of Base
}

// Options are the parts of a Cache. Sites, Log and Now are required.
type Options struct {
	Sites []Site
	// Client fetches; its CheckRedirect is not used. nil: one of its own with a time limit and without proxies.
	Client *http.Client
	// Every is how often a file is fetched; 0: every four hours. After a failure it is tried again after a
	// sixteenth of that.
	Every time.Duration
	// Stale is for how long an old file counts when it cannot be fetched any more; 0: a day.
	Stale time.Duration
	// Agent is the User-Agent to fetch with; "": "quickthorn".
	Agent string
	Now   func() time.Time
	Log   *slog.Logger
}

const (
	defaultEvery = 4 * time.Hour
	defaultStale = 24 * time.Hour
	fetchTime    = 30 * time.Second
	maxRedirects = 5
	atOnce       = 4 // files fetched at the same time
)

// Cache holds the robots.txt of the configured sites.
type Cache struct {
	o      Options
	client *http.Client
	sites  map[string]*entry
	order  []*entry
}

// entry is one site. Its next belongs to Run.
type entry struct {
	Site
	url   string
	known atomic.Pointer[known] // nil: unknown
	state *telemetry.State
	next  time.Time
}

// known is a file and when it was fetched.
type known struct {
	rules *Rules
	at    time.Time
}

// New returns a cache that knows nothing until Run fetches. The error names the site whose base is not an http or https address.
func New(o Options) (*Cache, error) {
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Stale <= 0 {
		o.Stale = defaultStale
	}
	if o.Agent == "" {
		o.Agent = "quickthorn"
	}
	c := &Cache{o: o, sites: map[string]*entry{}}
	client := http.Client{Transport: &http.Transport{MaxIdleConns: atOnce, IdleConnTimeout: time.Second, ResponseHeaderTimeout: fetchTime}}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
			return fmt.Errorf("redirected to a %q address", r.URL.Scheme)
		}
		return nil
	}
	c.client = &client
	for _, s := range o.Sites {
		u, err := url.Parse(s.Base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("robots.txt of site %q: base %q is not an http or https address", s.Name, s.Base)
		}
		if c.sites[s.Name] != nil {
			return nil, fmt.Errorf("robots.txt of site %q: the site is there twice", s.Name)
		}
		e := &entry{Site: s, url: strings.TrimRight(s.Base, "/") + "/robots.txt"}
		log := o.Log.With("site", s.Name)
		e.state = telemetry.NewState(log, "robots.txt cannot be fetched; who disregards it is not seen", "robots.txt is fetched again", o.Now)
		c.sites[s.Name] = e
		c.order = append(c.order, e)
	}
	return c, nil
}

// Disallowed reports whether the site's robots.txt asks the agent, given by its User-Agent, not to fetch the path with its query, as events
// hold them. known is false while there is no file to go by. It does not wait for anything.
func (c *Cache) Disallowed(site, agent, path string) (disallowed, isKnown bool) {
	e := c.sites[site]
	if e == nil {
		return false, false
	}
	k := e.known.Load()
	if k == nil || c.o.Now().Sub(k.at) > c.o.Stale {
		return false, false
	}
	return k.rules.Disallowed(agent, path), true
}

// Run fetches the files now and again until ctx ends; it returns ctx's error.
func (c *Cache) Run(ctx context.Context) error {
	for {
		c.Refresh(ctx)
		next := c.o.Every
		now := c.o.Now()
		for _, e := range c.order {
			next = min(next, max(e.next.Sub(now), 10*time.Millisecond))
		}
		if !wait.For(ctx, next) {
			return ctx.Err()
		}
	}
}

// Refresh fetches the files whose time has come, and waits for them. Run calls it; nobody else may at the same time.
func (c *Cache) Refresh(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, e := range c.order {
		if now := c.o.Now(); e.next.After(now) || ctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			rules, err := c.fetch(ctx, e)
			if ctx.Err() != nil {
				return nil // nothing is wrong with the site
			}
			now := c.o.Now()
			e.state.Report(err)
			if err != nil {
				e.next = now.Add(c.o.Every / 16)
				return nil
			}
			if rules.cut {
				c.o.Log.Warn("robots.txt is too large: only its beginning is used", "site", e.Name, "rules", rules.rules)
			}
			e.known.Store(&known{rules, now})
			e.next = now.Add(c.o.Every)
			return nil
		})
	}
	_ = g.Wait() // no function fails
}

// errUnavailable is why there is nothing to go by.
var errUnavailable = errors.New("the site does not say")

// fetch gets one file.
func (c *Cache) fetch(ctx context.Context, e *entry) (*Rules, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", c.o.Agent)
	r.Header.Set("Accept", "text/plain, */*;q=0.1")
	r.Host = e.Host
	resp, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
	case s >= 400 && s < 500 && s != http.StatusTooManyRequests:
		return &Rules{}, nil // there is no such file: RFC 9309 section 2.3.1.3 allows everything
	default:
		return nil, fmt.Errorf("%w: %s answers %s", errUnavailable, e.url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.url, err)
	}
	return Parse(text), nil
}

// Status is what is known of one site.
type Status struct {
	Site    string
	Known   bool
	Fetched time.Time // zero: never
	Rules   int
	Problem string // why the last attempt failed; "" when it did not
}

// Status returns what is known of each site, in the order of Options.Sites.
func (c *Cache) Status() []Status {
	out := make([]Status, 0, len(c.order))
	for _, e := range c.order {
		s := Status{Site: e.Name}
		if k := e.known.Load(); k != nil {
			s.Known, s.Fetched, s.Rules = c.o.Now().Sub(k.at) <= c.o.Stale, k.at, k.rules.rules
		}
		if err := e.state.Err(); err != nil {
			s.Problem = err.Error()
		}
		out = append(out, s)
	}
	return out
}
