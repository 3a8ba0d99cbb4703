package casebook

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// world is a book with a clock and events to come.
type world struct {
	*Book
	t      *testing.T
	at     time.Time
	events []*defense.Event
	ids    int
}

// newWorld returns a book that has seen some readers, so that it knows what the site's source shows.
func newWorld(t *testing.T, change ...func(*Options)) *world {
	w := &world{t: t, at: start.Add(-time.Hour)}
	o := Options{
		NewID: func() string { w.ids++; return fmt.Sprintf("case%d", w.ids) },
		Now:   func() time.Time { return w.at },
	}
	for _, c := range change {
		c(&o)
	}
	w.Book = New(o)
	for i := range 10 {
		w.read(fmt.Sprintf("100.64.%d.1", i), -time.Hour, 3, firefox)
	}
	w.play(0)
	return w
}

// program is what a client's headers and agent are like.
type program struct {
	agent, shape string
	family       defense.AgentFamily
}

var (
	chrome  = program{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36", "9f2c41d07b3ea865", defense.AgentBrowser}
	firefox = program{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "1111111111111111", defense.AgentBrowser}
)

// event adds an event to those to come, and returns it.
func (w *world) event(address string, at time.Duration, path string, p program) *defense.Event {
	e := &defense.Event{
		Schema: defense.EventSchema, Kind: "request", ID: fmt.Sprint(len(w.events)), Time: start.Add(at), Site: "wiki", Edge: "edge",
		Client: defense.EventClient{Address: address},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example", Path: path, Kind: defense.KindNavigation, Agent: p.agent, Family: p.family,
			Headers: defense.EventHeaders{Shape: p.shape, AcceptLanguage: "en"},
		},
		Verdict:  defense.EventVerdict{Posture: defense.Guarded},
		Response: defense.EventResponse{Status: 200, Bytes: 20_000, Duration: 0.2},
	}
	w.events = append(w.events, e)
	return e
}

func (w *world) asset(address string, at time.Duration, p program) *defense.Event {
	e := w.event(address, at, "/style.css", p)
	e.Request.Kind = defense.KindAsset
	return e
}

// read adds a reader who comes from elsewhere, fetches assets, and follows links.
func (w *world) read(address string, at time.Duration, pages int, p program) {
	path := ""
	for i := range pages {
		next := fmt.Sprintf("/wiki/Article_%s_%d", address, i)
		e := w.event(address, at, next, p)
		if e.Request.Referrer = "https://news.example/"; i > 0 {
			e.Request.Referrer = "https://wiki.example" + path
		}
		w.asset(address, at+500*time.Millisecond, p)
		path, at = next, at+time.Duration(17+7*i*i)*time.Second
	}
}

// scrape adds a quiet member of a campaign: a few deep pages, nobody knows from where, and no assets.
func (w *world) scrape(address string, at time.Duration, pages int, p program, path func(i int) (path, query string)) {
	for i := range pages {
		e := w.event(address, at+time.Duration(i)*47*time.Second, "", p)
		e.Request.Path, e.Request.Query = path(i)
	}
}

// revisions are what scrapers like.
func revisions(seed int) func(i int) (string, string) {
	return func(i int) (string, string) {
		return "/w/index.php", fmt.Sprintf("title=Page%d&oldid=%d", seed*31+i*17, uint32(seed*7919+i*i+1)*2654435761%1_000_000)
	}
}

// play lets the events to come happen, with a tick every second, until the time is reached.
func (w *world) play(until time.Duration) {
	slices.SortStableFunc(w.events, func(a, b *defense.Event) int { return a.Time.Compare(b.Time) })
	for w.at.Before(start.Add(until)) {
		w.at = w.at.Add(time.Second)
		for len(w.events) > 0 && !w.events[0].Time.After(w.at) {
			w.Observe(w.events[0])
			w.events = w.events[1:]
		}
		w.Tick(w.at)
	}
}

// cases returns the cases that are due.
func (w *world) cases() []defense.Case { return w.Due(w.at, 1000) }

// decide tells the book that a case led to a decision for an hour.
func (w *world) decide(c defense.Case) { w.judge(c, defense.OutcomeDecided, "decision") }

func (w *world) judge(c defense.Case, o defense.CaseOutcome, decided ...string) {
	j := &defense.Judgement{CaseID: c.ID, Revision: c.Revision, Score: 0.9, Outcome: o}
	for range decided {
		j.Proposals = append(j.Proposals, defense.Proposal{Seconds: 3600})
	}
	w.Judged(c.ID, c.Revision, j, decided, w.at)
}

// the returns the only case, which must be of that kind.
func (w *world) the(kind defense.CaseKind) defense.Case {
	w.t.Helper()
	cases := w.cases()
	if len(cases) != 1 || cases[0].Kind != kind {
		w.t.Fatalf("want one case of a %s, got %s", kind, keys(cases))
	}
	return cases[0]
}

func (w *world) none() {
	w.t.Helper()
	if cases := w.cases(); len(cases) > 0 {
		w.t.Errorf("want no case, got %s: %v", keys(cases), cases[0].Features.Values)
	}
}

func keys(cases []defense.Case) []string {
	out := []string{}
	for _, c := range cases {
		out = append(out, fmt.Sprintf("%s %s (%d members)", c.Kind, c.Key, c.Members.Count))
	}
	return out
}

func address(i int) string { return fmt.Sprintf("%d.%d.%d.%d", 11+i/65536, i/256%256, i%256, 1+i%200) }
