package casebook

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// crowd makes events of ever new clients, of which most make one to three requests, under a few hundred programs
// and many kinds of page. It uses one event again and again, as Observe allows.
type crowd struct {
	r        *rand.Rand
	e        defense.Event
	programs []program
	clients  int // that come again
	next     int
	at       time.Time
}

func newCrowd(comingAgain int) *crowd {
	c := &crowd{r: rand.New(rand.NewPCG(1, 2)), clients: comingAgain, at: start}
	for i := range 300 {
		c.programs = append(c.programs, program{fmt.Sprintf("%s %d", chrome.agent, i), fmt.Sprintf("%016x", i%60+1), defense.AgentBrowser})
	}
	return c
}

func (c *crowd) event(newClient bool) *defense.Event {
	n := c.next
	if newClient {
		c.next++
	} else if n > c.clients {
		n -= c.r.IntN(c.clients)
	}
	p := c.programs[n%len(c.programs)]
	c.at = c.at.Add(200 * time.Microsecond)
	c.e = defense.Event{
		Kind: "request", Time: c.at, Site: "wiki", Edge: "edge", Client: defense.EventClient{Address: fmt.Sprintf("%d.%d.%d.%d", 1+n>>24, n>>16&255, n>>8&255, n&255)},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example", Path: fmt.Sprintf("/wiki/Article_%d", c.r.IntN(5000)), Kind: defense.KindNavigation, Agent: p.agent, Family: p.family,
			Headers: defense.EventHeaders{Shape: p.shape, AcceptLanguage: "en"},
		},
		Response: defense.EventResponse{Status: 200, Bytes: 9000},
	}
	switch c.r.IntN(4) {
	case 0:
		c.e.Request.Kind, c.e.Request.Path = defense.KindAsset, "/style.css"
	case 1:
		c.e.Request.Path, c.e.Request.Query = fmt.Sprintf("/%c/%c", 'a'+n%26, 'a'+n/26%26), fmt.Sprintf("p%d=1", n%50)
	case 2:
		c.e.Request.Referrer = "https://wiki.example/wiki/Article_1"
	}
	return &c.e
}

func TestMemoryIsBoundedHoweverManyClientsThereAre(t *testing.T) {
	ids := 0
	c := newCrowd(1000)
	b := New(Options{MaxClients: 20_000, MaxCampaigns: 2000, MaxCases: 500, NewID: func() string { ids++; return fmt.Sprint(ids) }, Now: func() time.Time { return c.at }})
	feed := func(clients int) {
		for range clients {
			b.Observe(c.event(true))
			if c.next%100 == 0 {
				b.Tick(c.at)
			}
			if c.next%5000 == 0 {
				for _, d := range b.Due(c.at, 1000) {
					b.Judged(d.ID, d.Revision, &defense.Judgement{Outcome: defense.OutcomeWatch}, nil, c.at)
				}
			}
		}
	}
	feed(60_000)
	before := heap()
	feed(140_000)
	grown := int64(heap()) - int64(before)
	s := b.Stats()
	if s.Clients > 20_000 || s.Campaigns > 2000 || s.OpenClients+s.OpenCampaigns+s.Dormant > 500 || len(b.seeds[0]) > 4000 || len(b.watched) > maxWatched {
		t.Errorf("over the bounds: %+v, %d seeds", s, len(b.seeds[0]))
	}
	if s.ClientsForgotten < 170_000 {
		t.Errorf("%d clients were forgotten, of 200,000 with room for 20,000", s.ClientsForgotten)
	}
	if grown > 4<<20 {
		t.Errorf("140,000 more clients took %d KiB", grown>>10)
	}
	runtime.KeepAlive(b)
}

func TestWhoIsSuspiciousIsNotForgottenForTheCrowd(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxClients = 1000 })
	w.hammer("192.0.2.1", 0, 60)
	w.play(time.Minute)
	c := w.the(defense.CaseClient)
	for i := range 20_000 {
		w.read(address(i), time.Minute+time.Duration(i)*time.Millisecond, 1, chrome)
	}
	w.play(2 * time.Minute)
	if _, open := w.Case(c.ID); !open {
		t.Error("the case was forgotten when many readers came")
	}
}

func TestAFloodOfCasesIsBoundedAndForgetsTheLeastImportant(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxCases = 50 })
	w.hammer("192.0.2.1", 0, 60)
	w.play(time.Minute)
	w.decide(w.the(defense.CaseClient))
	for i := range 300 {
		p := program{fmt.Sprint("agent", i), fmt.Sprintf("%016x", 99+i), defense.AgentBrowser}
		at := time.Minute + time.Duration(i)*time.Second
		w.event(address(i), at, "/trap", p).Kind = "trap"
		w.events = append(w.events, w.event(address(i), at+time.Second, "/trap", p))
	}
	for until := 2 * time.Minute; until < 10*time.Minute; until += 10 * time.Second {
		w.play(until)
		for _, c := range w.cases() {
			w.judge(c, defense.OutcomeWatch)
		}
	}
	s := w.Stats()
	if n := s.OpenClients + s.OpenCampaigns + s.Dormant; n > 50 {
		t.Errorf("%d cases", n)
	}
	found := false
	for _, j := range w.byID {
		found = found || j.c.Key == "192.0.2.1"
	}
	if !found {
		t.Error("the case with a decision was forgotten")
	}
}

// BenchmarkObserve is the cost of an event of a crowd in which two of three events are of clients seen before.
func BenchmarkObserve(b *testing.B) {
	c := newCrowd(50_000)
	book := New(Options{NewID: func() string { return fmt.Sprint(c.next) }, Now: func() time.Time { return c.at }})
	for range 400_000 {
		book.Observe(c.event(c.r.IntN(3) == 0))
	}
	events := make([]defense.Event, 1<<16)
	b.ReportAllocs()
	n := len(events)
	for b.Loop() {
		if n == len(events) {
			b.StopTimer()
			for n = range events {
				events[n] = *c.event(c.r.IntN(3) == 0)
			}
			n = 0
			b.StartTimer()
		}
		book.Observe(&events[n])
		n++
	}
}

// BenchmarkMillionClients reports what a book takes that has seen a million clients.
func BenchmarkMillionClients(b *testing.B) {
	for b.Loop() {
		before := heap()
		c := newCrowd(50_000)
		book := New(Options{NewID: func() string { return fmt.Sprint(c.next) }, Now: func() time.Time { return c.at }})
		for c.next < 1_000_000 {
			book.Observe(c.event(c.r.IntN(3) == 0))
		}
		used := heap() - before
		s := book.Stats()
		b.ReportMetric(float64(used)/(1<<20), "MiB")
		b.ReportMetric(float64(used)/float64(s.Clients), "B/client")
		b.ReportMetric(float64(s.Campaigns), "keys")
		runtime.KeepAlive(book)
	}
}
