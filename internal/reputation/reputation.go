// Package reputation asks what others know about a client: lists in local files, DNS blocklists, and a service over HTTP.
//
// Everything is off until it is configured, and nothing here ever stands in somebody's way: a source that is away, out of budget
// or confused has no opinion. Not being listed is no evidence either, since a scraper that rents the lines of households is on no list;
// and being listed is weak evidence, since households inherit addresses that others have spoilt. Use a [Verdict] as one voice among several.
//
// Local lists are asked about every client. What leaves the machine (DNS and HTTP) is asked only about public addresses, only when no local list
// has answered, and only within the configured budget, since each question tells a third party who visits the site.
package reputation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrSpent is wrapped by the error of a source whose budget is used up for now.
var ErrSpent = errors.New("the budget is spent")

// Verdict is what the sources know of a client.
type Verdict struct {
	Listed []string // names of the sources that list it
	// Score is how likely what is listed there is unwanted automation, 0..1: the highest of the listing sources'. 0.5 when Listed is empty.
	Score    float64
	Sentence string // for people: "is listed by drop and example"
}

// Finding is what one source knows.
type Finding struct {
	Listed bool
	Score  float64 // 0..1, of what is listed
	Detail string  // what the source says about it, at most 64 printable characters of ASCII; may be ""
}

// Source is one place to ask. Check must be safe for concurrent use and end when ctx does. An error means that it has no
// opinion. The client is a single one: an IPv4 /32, or an IPv6 prefix of 64 bits or more.
type Source interface {
	Name() string
	Check(ctx context.Context, client netip.Prefix) (Finding, error)
}

// Options say whom to ask. The zero value asks nobody.
type Options struct {
	Lists []ListOptions
	Zones []ZoneOptions
	HTTP  []HTTPOptions
	// More are further sources, asked like DNS and HTTP.
	More []Source
	// Reload is how often the files of the lists are looked at; 0: 30 s.
	Reload time.Duration
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: nothing is logged
}

// Checker asks the configured sources. It is safe for concurrent use; a nil *Checker asks nobody.
type Checker struct {
	lists  []*list
	remote []Source
	reload time.Duration
	tally  *tally
}

// New returns a Checker and reads its lists. The error names the option that is wrong; a list that cannot be read is no error
// but is logged and tried again by [Checker.Run].
func New(o Options) (*Checker, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Reload == 0 {
		o.Reload = 30 * time.Second
	}
	if o.Reload < time.Second {
		return nil, fmt.Errorf("reload: %s is too often: at least 1 s", o.Reload)
	}
	c := &Checker{reload: o.Reload, tally: newTally()}
	names := make(map[string]bool)
	claim := func(name string) error {
		switch {
		case name == "" || len(name) > 64 || strings.Trim(name, nameCharacters) != "":
			return fmt.Errorf("name: %q is not 1 to 64 letters, digits, dots, hyphens or underscores", name)
		case names[name]:
			return fmt.Errorf("name: %q is used twice", name)
		}
		names[name] = true
		return nil
	}
	for i := range o.Lists {
		l, err := newList(o.Lists[i], o.Now, o.Log)
		if err == nil {
			err = claim(o.Lists[i].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("lists[%d].%w", i, err)
		}
		c.lists = append(c.lists, l)
	}
	for i := range o.Zones {
		z, err := newZone(o.Zones[i], o.Now, o.Log)
		if err == nil {
			err = claim(z.Name())
		}
		if err != nil {
			return nil, fmt.Errorf("zones[%d].%w", i, err)
		}
		c.remote = append(c.remote, z)
	}
	for i := range o.HTTP {
		s, err := NewHTTPSource(o.HTTP[i], o.Now, o.Log)
		if err == nil {
			err = claim(s.Name())
		}
		if err != nil {
			return nil, fmt.Errorf("http[%d].%w", i, err)
		}
		c.remote = append(c.remote, s)
	}
	for i, s := range o.More {
		if err := claim(s.Name()); err != nil {
			return nil, fmt.Errorf("more[%d].%w", i, err)
		}
		c.remote = append(c.remote, s)
	}
	for _, l := range c.lists {
		l.load()
	}
	return c, nil
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// Enabled reports whether there is anybody to ask.
func (c *Checker) Enabled() bool { return c != nil && len(c.lists)+len(c.remote) > 0 }

// Check asks what is known of a client. The verdict holds what those say who could be asked, whatever the error, which says who could not.
func (c *Checker) Check(ctx context.Context, client netip.Prefix) (Verdict, error) {
	if c == nil {
		return Verdict{Score: 0.5}, nil
	}
	client, err := single(client)
	if err != nil {
		return Verdict{Score: 0.5}, err
	}
	var found []named
	for _, l := range c.lists {
		f := l.check(client)
		c.tally.count(l.o.Name, f, nil)
		if f.Listed {
			found = append(found, named{l.o.Name, f})
		}
	}
	if len(found) > 0 || len(c.remote) == 0 || !public(client.Addr()) {
		return verdict(found), nil
	}

	findings, problems := make([]Finding, len(c.remote)), make([]error, len(c.remote))
	var asked sync.WaitGroup
	for i, s := range c.remote {
		asked.Go(func() {
			if findings[i], problems[i] = s.Check(ctx, client); problems[i] != nil {
				findings[i], problems[i] = Finding{}, fmt.Errorf("%s: %w", s.Name(), problems[i])
			}
		})
	}
	asked.Wait()
	for i, f := range findings {
		c.tally.count(c.remote[i].Name(), f, problems[i])
		if f.Listed {
			found = append(found, named{c.remote[i].Name(), f})
		}
	}
	return verdict(found), errors.Join(problems...)
}

// Run looks at the lists' files until ctx ends, and returns its error.
func (c *Checker) Run(ctx context.Context) error {
	tick := time.NewTicker(c.reload)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			for _, l := range c.lists {
				l.poll()
			}
		}
	}
}

type named struct {
	name string
	Finding
}

func verdict(found []named) Verdict {
	if len(found) == 0 {
		return Verdict{Score: 0.5, Sentence: "is on no list"}
	}
	v := Verdict{}
	texts := make([]string, len(found))
	for i, f := range found {
		v.Listed = append(v.Listed, f.name)
		v.Score = max(v.Score, f.Score)
		if texts[i] = f.name; f.Detail != "" {
			texts[i] += " (" + f.Detail + ")"
		}
	}
	v.Sentence = "is listed by " + strings.Join(texts, ", ")
	if n := len(texts); n > 1 {
		v.Sentence = "is listed by " + strings.Join(texts[:n-1], ", ") + " and " + texts[n-1]
	}
	return v
}

// single brings a client to the form that the sources get.
func single(p netip.Prefix) (netip.Prefix, error) {
	if p.IsValid() && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if !p.IsValid() || p.Addr().Is4() && p.Bits() != 32 || p.Addr().Is6() && p.Bits() < 64 {
		return p, fmt.Errorf("%s is not one client: use an address or an IPv6 /64", p)
	}
	return p.Masked(), nil
}

// public reports whether an address may be named to a third party, who could also know something about it.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range [...]netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{0}), 8),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10), // shared by providers' customers, RFC 6598
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15), // benchmarks, RFC 2544
		netip.PrefixFrom(netip.AddrFrom4([4]byte{240}), 4),
	} {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// score checks a configured score and returns it or what stands for 0.
func score(s, otherwise float64) (float64, error) {
	if s == 0 {
		return otherwise, nil
	}
	if !(s > 0 && s <= 1) {
		return 0, fmt.Errorf("score: %v is not between 0 and 1", s)
	}
	return s, nil
}

// tally counts what came of asking.
type tally struct {
	mu     sync.Mutex
	counts map[[2]string]uint64 // by source and result

	lookups, entries *prometheus.Desc
}

func newTally() *tally {
	return &tally{
		counts:  make(map[[2]string]uint64),
		lookups: prometheus.NewDesc("quickthorn_reputation_checks_total", "Clients asked about, by source and by what came of it; answers from a cache included.", []string{"source", "result"}, nil),
		entries: prometheus.NewDesc("quickthorn_reputation_list_entries", "Addresses and ranges in a local list.", []string{"list"}, nil),
	}
}

func (t *tally) count(source string, f Finding, err error) {
	result := "unlisted"
	switch {
	case errors.Is(err, ErrSpent):
		result = "spent"
	case err != nil:
		result = "failed"
	case f.Listed:
		result = "listed"
	}
	t.mu.Lock()
	t.counts[[2]string{source, result}]++
	t.mu.Unlock()
}

// Describe implements prometheus.Collector.
func (c *Checker) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.tally.lookups
	ch <- c.tally.entries
}

// Collect implements prometheus.Collector.
func (c *Checker) Collect(ch chan<- prometheus.Metric) {
	c.tally.mu.Lock()
	for k, n := range c.tally.counts {
		ch <- prometheus.MustNewConstMetric(c.tally.lookups, prometheus.CounterValue, float64(n), k[0], k[1])
	}
	c.tally.mu.Unlock()
	for _, l := range c.lists {
		ch <- prometheus.MustNewConstMetric(c.tally.entries, prometheus.GaugeValue, float64(l.size()), l.o.Name)
	}
}
