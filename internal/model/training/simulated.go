package training

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/temoto/robotstxt"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
	"github.com/quickthorn/quickthorn/internal/profile"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

// Simulated is the traffic of a simulation's scenario on a site without protection, in virtual time. Its labels are true,
// but its clients do what their makers know of clients: it teaches what a log of one site cannot, and proves nothing.
type Simulated struct {
	Scenario string // a name of simulate.Scenarios
	Seed     uint64
	Scale    float64 // of the number of clients; 0 is 1
	// Share of the readers and of a campaign's members that become samples, the others being there for them to be among; 0 is all.
	Share float64
	// Weight of each client, beside one of a log, which has 1; 0 is 1.
	Weight   float64
	Profiler *profile.Profiler
}

// Name returns "simulation".
func (s *Simulated) Name() string { return "simulation" }

// Samples plays the scenario. Feed readers, git clients and link previews are left out: they do not wander.
func (s *Simulated) Samples(ctx context.Context) ([]model.Sample, error) {
	out, err := s.samples(ctx)
	if err != nil {
		return nil, fmt.Errorf("simulate %s: %w", s.Scenario, err)
	}
	return out, nil
}

func (s *Simulated) samples(ctx context.Context) ([]model.Sample, error) {
	scenario, err := simulate.Find(s.Scenario)
	if err != nil {
		return nil, err
	}
	site := simulate.NewSite(s.Seed)
	actors, err := scenario.Build(simulate.Options{Seed: s.Seed, Scale: s.Scale, Site: site})
	if err != nil {
		return nil, err
	}
	rules, err := robotstxt.FromString(simulate.Robots)
	if err != nil {
		return nil, fmt.Errorf("read the site's robots.txt: %w", err)
	}
	group := rules.FindGroup("*") // the site says the same to all
	labels := simulate.Labels(actors)
	t := &traffic{
		origin: s.Name(), sees: sees{assets: true, referrers: true},
		robots: func(_, _, path string) (bool, bool) { return !group.Test(path), true },
		truth:  s.truth(labels),
	}
	clock := simulate.NewClock(virtualStart())
	_, err = simulate.Virtual(ctx, simulate.VirtualOptions{
		Scenario: s.Scenario, Seed: s.Seed, Clock: clock, MaxRequests: MaxEvents,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t.events = append(t.events, s.serve(site, w, r, clock))
		}),
	}, actors)
	if err != nil {
		return nil, err
	}
	out, err := t.samples(ctx)
	for i := range out {
		out[i].Weight *= cmp.Or(s.Weight, 1)
	}
	return out, err
}

// serve answers as the site and returns the event that an edge before it would have made, without verdict.
func (s *Simulated) serve(site http.Handler, w http.ResponseWriter, r *http.Request, clock *simulate.Clock) defense.Event {
	var p defense.Profile
	client := defense.Client{}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		client = defense.NewClient(a.Addr())
	}
	s.Profiler.FromRequest(&p, r, client, clock.Now())
	c := &counting{ResponseWriter: w}
	site.ServeHTTP(c, r)
	e := event(&p)
	if p.Headers.Shape != 0 {
		e.Request.Headers.Shape = fmt.Sprintf("%016s", strconv.FormatUint(p.Headers.Shape, 16))
	}
	e.Request.Headers.AcceptLanguage = p.Headers.AcceptLanguage.Value
	e.Response = defense.EventResponse{Status: cmp.Or(c.status, http.StatusOK), Bytes: c.bytes}
	return e
}

// truth says what an actor is. Actors of one operator are one group.
func (s *Simulated) truth(labels map[netip.Addr]simulate.Label) func(netip.Prefix) (truth, bool) {
	byClient := make(map[netip.Prefix]simulate.Label, len(labels))
	for a, l := range labels {
		byClient[defense.NewClient(a).Counted] = l
	}
	return func(client netip.Prefix) (truth, bool) {
		l, ok := byClient[client]
		if !ok {
			return truth{}, false
		}
		// Neighbourhoods of different plays are not the same clients.
		group := fmt.Sprintf("%s %d %s", s.Scenario, s.Seed, neighbourhood(client.Addr()))
		many := l == simulate.Reader || l == simulate.Newcomer || l == simulate.Campaign
		if many && s.Share > 0 && float64(spread(group)) >= s.Share*math.MaxUint32 {
			return truth{}, false
		}
		is := truth{string(l), group, l.CaseLabel()}
		switch l {
		case simulate.FeedReader, simulate.GitClient, simulate.LinkPreview:
			return truth{}, false
		case simulate.Campaign:
			is.slice = s.Scenario
		}
		return is, true
	}
}

// spread returns a number that has nothing to do with the text, but is always the same.
func spread(text string) uint32 {
	h := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint32(h[:])
}

// counting is a ResponseWriter that keeps what the answer was.
type counting struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader sends the header.
func (c *counting) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (c *counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	return n, err
}
