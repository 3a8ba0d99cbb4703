package training

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// Log is an access log, whose clients are labelled by what they say of themselves:
//
//   - A program is who names a catalogued crawler or a tool in every request, sends no User-Agent at all, or claims a browser
//     but asks for robots.txt, which browsers do not.
//   - A person is who claims browsers only, fetched some of what pages are made of, and came to a page by a link of the site.
//   - Of everybody else nothing is known, and they are left out: browsers that fetched pages only (a scraper, or a
//     reader with a full cache?), feed readers, link previews, and addresses behind which both kinds live.
//
// No feature holds anything of the agent's text, so the labels of programs do not give themselves away. Those of people do in
// part, since assets and referrers are features: what a model says about readers who load no pictures has not been tested by this.
type Log struct {
	Origin   string   // name of the data
	Path     string   // as accesslog.Open takes it
	Hosts    []string // of the site, the main one first: a log in the combined format does not tell, and referrers name it
	Profiler *profile.Profiler
	Crawlers *crawler.Catalogue
}

// Name returns the origin.
func (l *Log) Name() string { return l.Origin }

// Samples reads the log. Broken lines are passed over.
func (l *Log) Samples(ctx context.Context) ([]model.Sample, error) {
	t, err := l.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Origin, err)
	}
	out, err := t.samples(ctx)
	if err == nil && len(out) == 0 {
		err = errNothing
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Origin, err)
	}
	return out, nil
}

// facts is what a log tells of a client besides its behaviour.
type facts struct {
	families [int(defense.AgentApp) + 1]int // requests by defense.AgentFamily
	crawlers []string
	assets   bool
	referred bool // came to a page by a link of the site
	robots   bool
}

func (l *Log) read(ctx context.Context) (t *traffic, err error) {
	src, err := accesslog.Open(l.Path, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	reader := accesslog.NewReader(src, nil)
	clients := map[netip.Prefix]*facts{}
	// A log tells nothing of these, and an event that tells nothing would count as one of a client without.
	t = &traffic{origin: l.Origin, sees: sees{assets: true}}
	var e accesslog.Entry
	var p defense.Profile
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := reader.Next(&e); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if len(t.events) == MaxEvents {
			return nil, fmt.Errorf("more than %d requests: train on a part of the log", MaxEvents)
		}
		l.Profiler.FromLog(&p, e.LogEntry)
		t.sees.referrers = t.sees.referrers || p.Headers.Referer.Presence != defense.Unobserved
		l.setHost(&p)
		ev := event(&p)
		ev.Response = defense.EventResponse{Status: e.Status, Bytes: e.Bytes, Duration: e.Duration.Seconds(), UpstreamDuration: e.Upstream.Seconds()}
		t.events = append(t.events, ev)
		k := clients[p.Client.Counted]
		if k == nil {
			k = &facts{}
			clients[p.Client.Counted] = k
		}
		k.add(&p)
	}
	t.truth = func(client netip.Prefix) (truth, bool) { return l.label(client, clients[client]) }
	return t, nil
}

// setHost gives the request a host where the log does not tell: that of its referrer if it is one of the site's.
func (l *Log) setHost(p *defense.Profile) {
	if p.Host != "" || len(l.Hosts) == 0 {
		return
	}
	p.Host = l.Hosts[0]
	if h := referrerHost(p); slices.Contains(l.Hosts, h) {
		p.Host = h
	}
}

func referrerHost(p *defense.Profile) string {
	u, err := url.Parse(p.Headers.Referer.Value)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// event makes an event of a request as the edge would have, without verdict and answer. What a combined log tells is copied, so that
// nothing in it shares memory with the profile.
func event(p *defense.Profile) defense.Event {
	e := defense.EventOf(p)
	e.Site = "default"
	r := &e.Request
	for _, text := range []*string{&r.Method, &r.Host, &r.Path, &r.Query, &r.Protocol, &r.Agent, &r.Referrer} {
		*text = strings.Clone(*text)
	}
	return *e
}

func (k *facts) add(p *defense.Profile) {
	k.families[p.Agent.Family]++
	if id := p.Identity.Crawler; id != "" && !slices.Contains(k.crawlers, id) && len(k.crawlers) < 8 {
		k.crawlers = append(k.crawlers, id)
	}
	switch p.Kind {
	case defense.KindAsset:
		k.assets = true
	case defense.KindRobots:
		k.robots = true
	case defense.KindNavigation:
		k.referred = k.referred || p.Host != "" && referrerHost(p) == p.Host
	}
}

// label says what a client is, or not ok.
func (l *Log) label(client netip.Prefix, k *facts) (truth, bool) {
	all := 0
	for _, n := range k.families {
		all += n
	}
	group := neighbourhood(client.Addr())
	only := func(f defense.AgentFamily) bool { return k.families[f] == all }
	switch {
	case only(defense.AgentCrawler) && len(k.crawlers) == 1:
		c := l.Crawlers.ByID(k.crawlers[0])
		if c == nil {
			return truth{}, false
		}
		switch c.Purpose {
		case defense.PurposeFeed, defense.PurposePreview, defense.PurposeMonitor, defense.PurposeUserAI:
			return truth{}, false // they do not wander
		case defense.PurposeTool, defense.PurposeScraper, defense.PurposeBrowserAgent:
			return truth{"tool or scraper by name", c.ID, defense.LabelBot}, true
		}
		return truth{"crawler by name", c.ID, defense.LabelCrawler}, true
	case only(defense.AgentTool):
		return truth{"tool or scraper by name", group, defense.LabelBot}, true
	case only(defense.AgentNone):
		return truth{"no User-Agent", group, defense.LabelBot}, true
	case only(defense.AgentBrowser) && k.robots:
		return truth{"browser by name that asks for robots.txt", group, defense.LabelBot}, true
	case only(defense.AgentBrowser) && k.assets && k.referred:
		return truth{"browser by name with assets and links", group, defense.LabelHuman}, true
	}
	return truth{}, false
}
