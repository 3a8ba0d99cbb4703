package replay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/plain"
)

// Bounds of what a collector keeps, whatever the log's size.
const (
	maxKeys         = 200_000 // clients, and prefixes, unless Options say otherwise
	maxHarmExamples = 5       // example lines per rule and kind of reader
	maxHarmGroups   = 500
)

// observed is one log line with what was made of it.
type observed struct {
	Profile  *defense.Profile
	Verdict  *defense.Verdict
	Bytes    int64
	Duration float64 // seconds the site took, 0 if the log does not say
	File     string
	Line     int
}

type harmKey struct {
	reader string
	action defense.Action
	rule   string
}

type harmGroup struct {
	count    uint64
	clients  map[netip.Prefix]struct{} // at most maxHarmClients
	reason   string
	examples []Example
}

const maxHarmClients = 10_000

// collector gathers a report from observed lines. It is not safe for concurrent use.
type collector struct {
	lines       uint64
	first, last time.Time
	verdicts    count
	spared      Spared
	timeline    *timeline
	clients     *tally[netip.Prefix]
	prefixes    *tally[netip.Prefix]
	agents      *tally[string]
	paths       *tally[string]
	rules       *tally[string]
	signals     *tally[string]
	crawlers    map[*defense.Crawler]*count
	shadow      map[string]uint64
	readers     map[string]*count
	harm        map[harmKey]*harmGroup
	harmDropped uint64
}

// newCollector returns an empty collector that counts at most so many clients, and
// as many prefixes, and a quarter of that in agents and in paths, whose texts are kept.
func newCollector(keys int) *collector {
	return &collector{
		timeline: newTimeline(), clients: newTally[netip.Prefix](keys), prefixes: newTally[netip.Prefix](keys),
		agents: newTextTally(keys / 4), paths: newTextTally(keys / 4), rules: newTextTally(4096), signals: newTextTally(4096),
		crawlers: map[*defense.Crawler]*count{}, shadow: map[string]uint64{}, readers: map[string]*count{}, harm: map[harmKey]*harmGroup{},
	}
}

// Reader names the kind of reader that a request looks like, "" if it looks like
// none: the requests whose refusal an owner fears. It goes by the claim alone, so a scraper that
// claims a browser counts as well; the report says so.
func Reader(p *defense.Profile) string {
	switch p.Agent.Family {
	case defense.AgentBrowser:
		return "browser"
	case defense.AgentFeed:
		return "feed reader"
	case defense.AgentGit:
		return "git"
	case defense.AgentApp:
		return "app"
	}
	if c := p.Agent.Crawler; c != nil && c.Purpose == defense.PurposePreview {
		return "link preview"
	}
	return ""
}

// add counts one line.
func (c *collector) add(o *observed) {
	p, v := o.Profile, o.Verdict
	a := v.Intended
	c.lines++
	if c.first.IsZero() || p.Time.Before(c.first) {
		c.first = p.Time
	}
	if p.Time.After(c.last) {
		c.last = p.Time
	}
	c.verdicts.add(a, o.Bytes)
	c.timeline.add(p.Time.Unix(), a, o.Bytes)
	c.clients.at(p.Client.Counted).add(a, o.Bytes)
	c.prefixes.at(p.Client.Prefix).add(a, o.Bytes)
	c.agents.at(p.Agent.Text.Value).add(a, o.Bytes)
	c.paths.at(p.Path).add(a, o.Bytes)
	if v.Rule != "" {
		c.rules.at(v.Rule).add(a, o.Bytes)
	}
	for i := range v.Signals {
		c.signals.at(v.Signals[i].Name).add(a, o.Bytes)
	}
	for i := range v.Shadow {
		if _, ok := c.shadow[v.Shadow[i].Rule]; ok || len(c.shadow) < 4096 {
			c.shadow[v.Shadow[i].Rule]++
		}
	}
	if cr := p.Agent.Crawler; cr != nil {
		n, ok := c.crawlers[cr]
		if !ok {
			n = &count{}
			c.crawlers[cr] = n
		}
		n.add(a, o.Bytes)
	}
	if a.Stops() {
		c.spared.Requests++
		c.spared.Bytes += o.Bytes
		c.spared.Seconds += o.Duration
	}
	reader := Reader(p)
	if reader == "" {
		return
	}
	n, ok := c.readers[reader]
	if !ok {
		n = &count{}
		c.readers[reader] = n
	}
	n.add(a, o.Bytes)
	if a.Stops() {
		c.addHarm(reader, o)
	}
}

func (c *collector) addHarm(reader string, o *observed) {
	k := harmKey{reader, o.Verdict.Intended, o.Verdict.Rule}
	g, ok := c.harm[k]
	if !ok {
		if len(c.harm) >= maxHarmGroups {
			c.harmDropped++
			return
		}
		g = &harmGroup{clients: map[netip.Prefix]struct{}{}, reason: o.Verdict.Reason}
		c.harm[k] = g
	}
	g.count++
	if len(g.clients) < maxHarmClients {
		g.clients[o.Profile.Client.Counted] = struct{}{}
	}
	if len(g.examples) < maxHarmExamples {
		g.examples = append(g.examples, example(o))
	}
}

func example(o *observed) Example {
	p := o.Profile
	e := Example{
		File: o.File, Line: o.Line, Time: p.Time, Client: p.Client.Address.String(), Agent: bounded(p.Agent.Text.Value),
		Request: bounded(p.Method + " " + p.Target), Score: o.Verdict.Score, Rule: o.Verdict.Rule, Action: o.Verdict.Intended,
	}
	for _, s := range o.Verdict.Signals {
		e.Signals = append(e.Signals, fmt.Sprintf("%+d %s", s.Weight, s.Name))
	}
	return e
}

// bounded makes text from a log fit for a report: valid, short, nothing a terminal would
// execute, and a copy, so that the line it is from is not kept.
func bounded(s string) string {
	const limit = 240
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.Clone(strings.Map(func(r rune) rune {
		if plain.Unsafe(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func rows[K comparable](list []counted[K], name func(K) string) []Row {
	out := make([]Row, 0, len(list))
	for _, e := range list {
		out = append(out, Row{Name: name(e.key), Requests: e.total, Stopped: e.stopped(), Bytes: e.bytes, Actions: actionMap(e.count)})
	}
	return out
}

func actionMap(c *count) map[string]uint64 {
	m := map[string]uint64{}
	for a, n := range c.actions {
		if n > 0 {
			m[defense.Action(a).String()] = n
		}
	}
	return m
}

// report makes the report of what was added so far. n is how many rows its lists have.
// The collector must not be used afterwards.
func (c *collector) report(n int) *Report {
	r := &Report{
		Harm: []Harm{}, Crawlers: []CrawlerRow{}, Readers: []Row{},
		Requests: c.lines, Start: c.first, End: c.last, Verdicts: actionMap(&c.verdicts), Bytes: c.verdicts.bytes, Spared: c.spared,
	}
	byStopped := func(c *count) uint64 { return c.stopped() }
	byTotal := func(c *count) uint64 { return c.total }
	prefixName := func(p netip.Prefix) string {
		if p.IsSingleIP() {
			return p.Addr().String()
		}
		return p.String()
	}
	r.Clients = rows(c.clients.top(n, byTotal, comparePrefix), prefixName)
	r.StoppedClients = rows(c.clients.top(n, byStopped, comparePrefix), prefixName)
	r.StoppedPrefixes = rows(c.prefixes.top(n, byStopped, comparePrefix), prefixName)
	r.StoppedAgents = rows(c.agents.top(n, byStopped, cmp.Compare[string]), bounded)
	r.StoppedPaths = rows(c.paths.top(n, byStopped, cmp.Compare[string]), bounded)
	r.Rules = rows(c.rules.top(4*n, byTotal, cmp.Compare[string]), bounded)
	r.Signals = rows(c.signals.top(4*n, byTotal, cmp.Compare[string]), bounded)
	r.Approximate = c.clients.dropped+c.prefixes.dropped+c.agents.dropped+c.paths.dropped > 0

	for cr, k := range c.crawlers {
		r.Crawlers = append(r.Crawlers, CrawlerRow{
			Row:      Row{Name: cr.Name, Requests: k.total, Stopped: k.stopped(), Bytes: k.bytes, Actions: actionMap(k)},
			ID:       cr.ID,
			Operator: cr.Operator, Purpose: string(cr.Purpose),
		})
	}
	slices.SortFunc(r.Crawlers, func(a, b CrawlerRow) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.ID, b.ID))
	})
	for rule, k := range c.shadow {
		r.Shadow = append(r.Shadow, Row{Name: bounded(rule), Requests: k})
	}
	slices.SortFunc(r.Shadow, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Name, b.Name))
	})
	for kind, k := range c.readers {
		r.Readers = append(r.Readers, Row{Name: kind, Requests: k.total, Stopped: k.stopped(), Bytes: k.bytes, Actions: actionMap(k)})
	}
	slices.SortFunc(r.Readers, func(a, b Row) int { return cmp.Compare(a.Name, b.Name) })
	for k, g := range c.harm {
		r.Harm = append(r.Harm, Harm{Reader: k.reader, Action: k.action, Rule: bounded(k.rule), Reason: bounded(g.reason), Requests: g.count, Clients: len(g.clients), Examples: g.examples})
	}
	slices.SortFunc(r.Harm, func(a, b Harm) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Reader, b.Reader), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Action, b.Action))
	})
	r.HarmOmitted = c.harmDropped

	start, list := c.timeline.fold(60)
	r.Timeline = Timeline{Width: c.timeline.width, Buckets: make([]Bucket, 0, len(list))}
	if len(list) > 0 {
		r.Timeline.Start = time.Unix(start, 0).UTC()
	}
	for _, b := range list {
		r.Timeline.Buckets = append(r.Timeline.Buckets, Bucket{Passed: b.total - b.stopped(), Throttled: b.actions[defense.Throttle], Challenged: b.actions[defense.Challenge], Refused: b.actions[defense.Tarpit] + b.actions[defense.Deny]})
	}
	return r
}
