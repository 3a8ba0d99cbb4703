package training

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

// MaxEvents bounds the events of one source, which are held in memory (about 600 bytes each).
const MaxEvents = 1_000_000

// settle is how long after a navigation a client is measured: what the page is made of has been fetched by then, and the
// measurement itself no longer waits for it.
const settle = 2*behaviour.Settling + time.Second

// virtualStart is when simulations begin.
func virtualStart() time.Time { return time.Date(2026, time.November, 25, 9, 0, 0, 0, time.UTC) }

// moments are the numbers of navigations after which a client is measured, so that the model
// knows clients early in their lives as well as late.
func moments() []int { return []int{1, 2, 3, 5, 10, 20, 50, 100, 200} }

// maxGroupWeight is what the clients of one group count together, so that one operator's thousand addresses are not a thousand operators.
const maxGroupWeight = 6

// truth is what is known of a client.
type truth struct {
	slice, group string
	label        defense.CaseLabel
}

// traffic is recorded or simulated traffic with what is known of its clients.
type traffic struct {
	origin string
	events []defense.Event
	sees   sees
	robots func(site, agent, path string) (disallowed, known bool) // nil: not known
	// truth returns what is known of the client of that counted prefix, or not ok.
	truth func(client netip.Prefix) (truth, bool)
}

// sees says what a source can tell.
type sees struct{ assets, referrers bool }

// life is a client while the traffic passes.
type life struct {
	client      *behaviour.Client
	navigations int
	due         time.Time // of the measurement that is waiting; zero if none
	taken       []defense.Features
}

// samples plays the events in order and measures each client of which something is known.
func (t *traffic) samples(ctx context.Context) ([]model.Sample, error) {
	if len(t.events) > MaxEvents {
		return nil, fmt.Errorf("%s: more than %d events", t.origin, MaxEvents)
	}
	slices.SortStableFunc(t.events, func(a, b defense.Event) int { return a.Time.Compare(b.Time) })
	lives := map[netip.Prefix]*life{}
	var order []netip.Prefix
	site := behaviour.Context{
		Links: behaviour.NewLinkGraph(0), Robots: t.robots, Assets: t.sees.assets, Referrers: t.sees.referrers,
	}
	for i := range t.events {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e := &t.events[i]
		key, ok := counted(e)
		if !ok {
			continue
		}
		l := lives[key]
		if l == nil {
			l = &life{client: new(behaviour.Client)}
			lives[key] = l
			order = append(order, key)
		}
		if !l.due.IsZero() && !e.Time.Before(l.due) {
			l.measure()
		}
		l.client.Observe(e, site)
		if e.Request.Kind == defense.KindNavigation {
			// While one measurement waits, others would be of the same burst.
			if l.navigations++; l.due.IsZero() && slices.Contains(moments(), l.navigations) {
				l.due = e.Time.Add(settle)
			}
		}
	}
	var out []model.Sample
	groups := map[string]float64{}
	for _, key := range order {
		l := lives[key]
		if !l.due.IsZero() {
			l.measure()
		}
		is, ok := t.truth(key)
		if !ok || len(l.taken) == 0 {
			continue
		}
		groups[is.group]++
		for _, f := range l.taken {
			out = append(out, model.Sample{
				Origin: t.origin, Slice: is.slice, Group: is.group, Label: is.label, Weight: 1 / float64(len(l.taken)), Features: f,
			})
		}
	}
	for i := range out {
		if n := groups[out[i].Group]; n > maxGroupWeight {
			out[i].Weight *= maxGroupWeight / n
		}
	}
	return out, nil
}

func (l *life) measure() {
	f := l.client.Features(l.due)
	// No source has an edge before the site: what only an edge sees would all be 0.
	for _, name := range []string{"score", "challenged", "solved", "traps"} {
		delete(f.Values, name)
	}
	l.taken = append(l.taken, f)
	l.due = time.Time{}
}

// counted returns the unit that the event's client is counted by.
func counted(e *defense.Event) (netip.Prefix, bool) {
	a, err := netip.ParseAddr(e.Client.Address)
	if err != nil {
		return netip.Prefix{}, false
	}
	return defense.NewClient(a).Counted, true
}

var errNothing = errors.New("no client of which anything is known asked for a page")
