package tarpit

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/decoy"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/drip"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
)

const (
	prefix = "/archive-k3p7/"
	key    = "the key of the edges"
)

var (
	seed = []byte("a seed that nobody else knows")
	noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

// words is a text of two words.
type words struct{}

func (words) AppendSentence(dst []byte, r maze.Source, n int) []byte {
	for range n {
		dst = append(dst, [2]string{"bramble ", "sloe "}[r.Uint64()>>63]...)
	}
	return append(dst[:len(dst)-1], '.')
}

func (w words) AppendTitle(dst []byte, r maze.Source, n int) []byte {
	dst = w.AppendSentence(dst, r, n)
	return dst[:len(dst)-1]
}

// pit is a tarpit under test, and its clock.
type pit struct {
	*Tarpit
	archives *decoy.Decoy
	ahead    atomic.Int64
	pressed  atomic.Bool
}

func (p *pit) now() time.Time       { return noon.Add(time.Duration(p.ahead.Load())) }
func (p *pit) pass(d time.Duration) { p.ahead.Add(int64(d)) }

// open returns a tarpit that runs, with bounds that the test changes. Every link leads to what one in one does.
func open(t *testing.T, change func(*Limits)) *pit {
	t.Helper()
	p := &pit{}
	m, err := maze.New(maze.Options{Seed: seed, Prefix: prefix, Text: words{}, Streams: 1, Archives: 1})
	if err != nil {
		t.Fatal(err)
	}
	if p.archives, err = decoy.New(seed, words{}, decoy.Options{MaxBytes: 512 << 10, Epoch: time.Hour}); err != nil {
		t.Fatal(err)
	}
	wheel, err := drip.New(drip.Options{Connections: 100, MinWait: 100 * time.Millisecond, MaxWait: 100 * time.Millisecond, MinRate: 1024, MaxRate: 1024})
	if err != nil {
		t.Fatal(err)
	}
	l := Limits{Connections: 10, CPU: 10, Clients: 100, StreamMax: time.Minute}
	if change != nil {
		change(&l)
	}
	if p.Tarpit, err = New(Options{Maze: m, Archives: p.archives, Streams: wheel, Limits: l, Epoch: time.Hour, Now: p.now, Pressed: p.pressed.Load}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func guest(address string) *entry.Guest {
	c := defense.NewClient(netip.MustParseAddr(address))
	return &entry.Guest{Client: c.Counted, Address: c.Address, Site: "gazette", Scheme: "https", WayOut: "/.quickthorn/way-out?to=/"}
}

// serve is an edge that sends everybody to the tarpit, as the client of the address in the header X.
func (p *pit) serve(t *testing.T) (url string, stays chan entry.Stay) {
	t.Helper()
	stays = make(chan entry.Stay, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusal := p.Enter(w, r, guest("203.0.113.7"), func(s entry.Stay) { stays <- s }); refusal != entry.Taken {
			http.Error(w, refusal.String(), http.StatusForbidden)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, stays
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// enter asks for a page without a server.
func (p *pit) enter(path string, g *entry.Guest) (entry.Refusal, *httptest.ResponseRecorder, *entry.Stay) {
	w := httptest.NewRecorder()
	var stay *entry.Stay
	refusal := p.Enter(w, httptest.NewRequest(http.MethodGet, path, nil), g, func(s entry.Stay) { stay = &s })
	return refusal, w, stay
}

func (p *pit) want(t *testing.T, what string, g *entry.Guest, refusal entry.Refusal, reason shedReason) {
	t.Helper()
	before := p.shed[reason].Load()
	got, w, stay := p.enter("/page", g)
	if got != refusal {
		t.Errorf("%s: %v, want %v", what, got, refusal)
	}
	if got != entry.Taken && (w.Body.Len() > 0 || stay != nil || p.shed[reason].Load() != before+1) {
		t.Errorf("%s: something was written, or the refusal is not counted as %v", what, reason)
	}
}

func TestAPageOfTheMazeIsForNoIndexAndIsAccountedFor(t *testing.T) {
	p := open(t, nil)
	url, stays := p.serve(t)
	res, body := get(t, url+"/articles/wrens")
	if res.StatusCode != 200 || res.Header.Get("X-Robots-Tag") != robots || !strings.Contains(body, `content="noindex, nofollow`) ||
		!strings.Contains(body, `href="/.quickthorn/way-out?to=/"`) {
		t.Errorf("%d %v\n%s", res.StatusCode, res.Header, body)
	}
	if res.Header.Get(entry.HeaderStay) != "" {
		t.Error("the client is told that this is a tarpit")
	}
	if s := <-stays; s.Status != 200 || s.Bytes != int64(len(body)) || s.Cost <= 0 {
		t.Errorf("%+v", s)
	}
	_, again := get(t, url+"/articles/wrens")
	if again != body {
		t.Error("the page is another one the second time")
	}
	<-stays
	r := p.Report(10)
	if r.Them.Pages != 2 || r.Them.Bytes != int64(2*len(body)) || len(r.Clients) != 1 || r.Clients[0].Client != "203.0.113.7" || r.Clients[0].Pages != 2 || r.Us.CPUSeconds <= 0 {
		t.Errorf("%+v", r)
	}
}

// What lasts counts from its beginning, and is not counted twice when it ends.
func TestAStayUnderWayCountsAlready(t *testing.T) {
	start := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	a, at := newAccounts(10, start), func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	g := guest("203.0.113.7")
	held := func(seconds int) (all, one float64) {
		now := time.Duration(seconds) * time.Second
		b := a.of[g.Client].Value.(*record)
		return a.total.with(now).Held.Seconds(), b.with(now).Held.Seconds()
	}
	a.arrive(g, at(10), 1, 0)
	a.arrive(g, at(20), 1, 0)
	a.arrive(guest("203.0.113.8"), at(25), 1, 0)
	for _, tt := range []struct {
		now      int
		leaves   int // who began then
		all, one float64
	}{{30, 0, 35, 30}, {40, 10, 65, 50}, {50, 0, 85, 60}, {60, 20, 105, 70}, {70, 0, 115, 70}} {
		if tt.leaves > 0 {
			a.leave(g.Client, maze.KindPage, &entry.Stay{Held: at(tt.now).Sub(at(tt.leaves))}, at(tt.now))
		}
		if all, one := held(tt.now); all != tt.all || one != tt.one {
			t.Errorf("after %d s: %v s of all, %v s of one, want %v, %v", tt.now, all, one, tt.all, tt.one)
		}
	}
}

func TestBoundsKeepClientsOut(t *testing.T) {
	g := guest("203.0.113.7")
	t.Run("hops", func(t *testing.T) {
		p := open(t, func(l *Limits) { l.Hops = 2 })
		p.want(t, "first", g, entry.Taken, 0)
		p.want(t, "second", g, entry.Taken, 0)
		p.want(t, "third", g, entry.Spent, shedHops)
		p.want(t, "another client", guest("203.0.113.8"), entry.Taken, 0)
		p.pass(24 * time.Hour)
		p.want(t, "the next day", g, entry.Taken, 0)
		if c := p.Clients(10); len(c) != 2 || c[0].Spent+c[1].Spent != 1 || p.Total().Now != 0 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("bandwidth", func(t *testing.T) {
		p := open(t, func(l *Limits) { l.Bandwidth = 1000 })
		p.want(t, "first", g, entry.Taken, 0)
		p.want(t, "while it is used up", g, entry.Full, shedBandwidth)
		p.pass(time.Hour)
		p.want(t, "later", g, entry.Taken, 0)
	})
	t.Run("processor", func(t *testing.T) {
		p := open(t, func(l *Limits) { l.CPU = 1e-9 })
		p.want(t, "first", g, entry.Taken, 0)
		p.want(t, "while it is used up", g, entry.Full, shedCPU)
	})
	t.Run("daily", func(t *testing.T) {
		p := open(t, func(l *Limits) { l.Daily = 100 })
		p.want(t, "first", g, entry.Taken, 0)
		p.want(t, "when it is used up", g, entry.Full, shedDaily)
		p.pass(24 * time.Hour)
		p.want(t, "the next day", g, entry.Taken, 0)
	})
	t.Run("off", func(t *testing.T) {
		p := open(t, nil)
		p.Switch(false)
		p.want(t, "off", g, entry.Full, shedOff)
		p.Switch(true)
		p.want(t, "on", g, entry.Taken, 0)
	})
	t.Run("connections", func(t *testing.T) {
		p := open(t, func(l *Limits) { l.Connections, l.MinDelay, l.MaxDelay = 2, time.Hour, time.Hour })
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { p.enter("/page", g) })
		}
		eventually(t, "two to be held", func() bool { return p.Held() == 2 })
		p.want(t, "a third", g, entry.Full, shedPlaces)
		p.Release() // whoever waits gets the page at once
		all.Wait()
		if a := p.Total(); a.Now != 0 || a.Pages != 2 || p.Held() != 0 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("pressure", func(t *testing.T) {
		p := open(t, func(l *Limits) { l.MinDelay, l.MaxDelay = time.Hour, time.Hour })
		var all sync.WaitGroup
		all.Go(func() { p.enter("/page", g) })
		eventually(t, "one to be held", func() bool { return p.Held() == 1 })
		p.pressed.Store(true)
		all.Wait() // let go
		p.want(t, "while the machine is needed", g, entry.Full, shedPressed)
	})
}

func TestAccountsAreBounded(t *testing.T) {
	p := open(t, func(l *Limits) { l.Clients = 3 })
	for i := range 5 {
		p.enter("/page", guest(fmt.Sprintf("203.0.113.%d", i)))
	}
	if c := p.Clients(10); len(c) != 3 {
		t.Errorf("%d clients are remembered", len(c))
	}
	if a := p.Total(); a.Pages != 5 || a.Now != 0 {
		t.Errorf("%+v", a)
	}
}

// linkTo returns the first address below the prefix in the pages of the maze that is of the kind.
func (p *pit) linkTo(t *testing.T, kind maze.Kind) string {
	t.Helper()
	for i := range 50 {
		_, w, _ := p.enter(fmt.Sprintf("/all/%d", i), guest("203.0.113.99"))
		for _, part := range strings.Split(w.Body.String(), `href="`)[1:] {
			if at, _, _ := strings.Cut(part, `"`); strings.HasPrefix(at, "/") && p.o.Maze.Kind(at) == kind {
				return at
			}
		}
	}
	t.Fatalf("the maze leads to no %v", kind)
	return ""
}

func TestAStreamHoldsTheClientUntilTheTarpitIsSwitchedOff(t *testing.T) {
	p := open(t, nil)
	url, stays := p.serve(t)
	res, err := http.Get(url + p.linkTo(t, maze.KindStream))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("X-Robots-Tag") != robots || res.Header.Get("Content-Type") != htmlType || res.Header.Get(entry.HeaderStay) != "" {
		t.Errorf("%v", res.Header)
	}
	lines := bufio.NewReader(res.Body)
	first, err := lines.ReadString('\n')
	if err != nil || !strings.Contains(first, `href="/.quickthorn/way-out?to=/"`) || !strings.Contains(first, "noindex") {
		t.Errorf("%v: %s", err, first)
	}
	if _, err := io.ReadFull(lines, make([]byte, 200)); err != nil {
		t.Errorf("no text comes: %v", err)
	}
	if r := p.Report(1); r.Now.Streams != 1 || r.Now.Connections != 1 {
		t.Errorf("%+v", r.Now)
	}
	select {
	case s := <-stays:
		t.Fatalf("it is over: %+v", s)
	default:
	}
	p.Switch(false)
	if _, err := io.Copy(io.Discard, lines); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	if s := <-stays; s.Bytes < 200 || s.Held < 0 || s.Cost <= 0 || s.Depth < 1 {
		t.Errorf("%+v", s)
	}
	eventually(t, "the place to be free", func() bool { return p.Held() == 0 })
	if a := p.Total(); a.Streams != 1 || a.Now != 0 {
		t.Errorf("%+v", a)
	}
}

func TestAnArchiveBearsTheClientsMark(t *testing.T) {
	p := open(t, nil)
	url, stays := p.serve(t)
	res, err := http.Get(url + "/data/birds.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	marks := p.archives.Find(text)
	if len(marks) == 0 || marks[0].Prefix.Addr().String() != "203.0.113.7" {
		t.Errorf("marks %v in %d bytes", marks, len(text))
	}
	if s := <-stays; s.Bytes < 10<<10 || s.Cost <= 0 {
		t.Errorf("%+v", s)
	}
	if a := p.Total(); a.Archives != 1 {
		t.Errorf("%+v", a)
	}
}

func TestAnArchiveEndsWithTheTarpit(t *testing.T) {
	p := open(t, func(l *Limits) { l.ArchiveRate = 1000 })
	url, _ := p.serve(t)
	res, err := http.Get(url + "/data/birds.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	p.Switch(false)
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("half an archive passes for a whole one")
	}
	eventually(t, "the place to be free", func() bool { return p.Held() == 0 })
}

func TestASiteMayHaveAMazeOfItsOwn(t *testing.T) {
	p := open(t, nil)
	_, docs, _ := p.enter("/page", guest("203.0.113.7"))
	m, err := maze.New(maze.Options{Seed: seed, Prefix: prefix, Text: words{}, Skin: maze.SkinForum})
	if err != nil {
		t.Fatal(err)
	}
	p.Redress("gazette", m)
	_, forum, _ := p.enter("/page", guest("203.0.113.7"))
	other := guest("203.0.113.7")
	other.Site = "another"
	if forum.Body.String() == docs.Body.String() {
		t.Error("the maze looks as before")
	}
	p.Redress("elsewhere", m)
	if _, again, _ := p.enter("/page", other); again.Code != 200 {
		t.Error("another site has no maze")
	}
}

// door returns the tarpit's port.
func (p *pit) door(t *testing.T) *httptest.Server {
	t.Helper()
	fronts, err := clientaddr.New(clientaddr.Config{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Headers: []string{"X-Forwarded-For"}})
	if err != nil {
		t.Fatal(err)
	}
	d := &Door{Tarpit: p.Tarpit, Keys: func() []string { return []string{key} }, Fronts: fronts, Now: p.now, Log: slog.New(slog.DiscardHandler)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("From-Address"); from != "" {
			r.RemoteAddr = from + ":1234"
		}
		d.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (p *pit) ask(t *testing.T, url string, change func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestTheDoorIsForEdgesAndFronts(t *testing.T) {
	p := open(t, func(l *Limits) { l.Hops = 3 })
	s := p.door(t)
	sign := func(k string) func(*http.Request) {
		return func(r *http.Request) { entry.Sign(r, guest("203.0.113.7"), k, p.now()) }
	}
	for name, change := range map[string]func(*http.Request){
		"nobody":         func(*http.Request) {},
		"a wrong key":    sign("another key"),
		"another server": func(r *http.Request) { r.Header.Set("From-Address", "198.51.100.1") },
		"an old signature": func(r *http.Request) {
			entry.Sign(r, guest("203.0.113.7"), key, p.now().Add(-2*time.Minute))
		},
		"a changed guest": func(r *http.Request) {
			sign(key)(r)
			r.Header.Set(entry.HeaderClient, "203.0.113.8")
		},
	} {
		if res := p.ask(t, s.URL+"/x", change); res.StatusCode != http.StatusForbidden || res.Header.Get(entry.HeaderStay) != "" {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
	if a := p.Total(); a.Pages != 0 {
		t.Fatalf("%+v", a)
	}
	res := p.ask(t, s.URL+"/x", sign(key))
	if res.StatusCode != 200 || res.Header.Get(entry.HeaderStay) != "depth=0" {
		t.Errorf("an edge: %d %v", res.StatusCode, res.Header)
	}
	res = p.ask(t, s.URL+p.linkTo(t, maze.KindStream), sign(key))
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get(entry.HeaderStay), "depth=") {
		t.Errorf("a stream for an edge: %d %v", res.StatusCode, res.Header)
	}
	front := func(r *http.Request) {
		r.Header.Set("From-Address", "192.0.2.1")
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
	}
	if res := p.ask(t, s.URL+"/x", front); res.StatusCode != 200 || res.Header.Get("X-Accel-Buffering") != "no" || res.Header.Get(entry.HeaderStay) != "" {
		t.Errorf("a front: %d %v", res.StatusCode, res.Header)
	}
	found := false
	for _, c := range p.Report(10).Clients {
		found = found || c.Client == "203.0.113.9"
	}
	if !found {
		t.Error("the front's client has no account")
	}
	p.ask(t, s.URL+"/x", sign(key))
	if res := p.ask(t, s.URL+"/x", sign(key)); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get(entry.HeaderStay) != "spent" {
		t.Errorf("after the last page of the day: %d %v", res.StatusCode, res.Header)
	}
	p.Switch(false)
	if res := p.ask(t, s.URL+"/x", sign(key)); res.Header.Get(entry.HeaderStay) != "full" {
		t.Errorf("off: %v", res.Header)
	}
	if res := p.ask(t, s.URL+"/x", front); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("off, a front: %d", res.StatusCode)
	}
}

// settings keep values in memory, or fail.
type settings struct {
	values map[string][]byte
	err    error
}

func (s *settings) Get(_ context.Context, name string) ([]byte, error) { return s.values[name], s.err }
func (s *settings) Put(_ context.Context, name string, v []byte) error {
	if s.err == nil {
		s.values[name] = v
	}
	return s.err
}

func TestTheSwitchIsKept(t *testing.T) {
	p := open(t, nil)
	kept := &settings{values: map[string][]byte{}}
	mux := http.NewServeMux()
	(&API{Tarpit: p.Tarpit, Keep: func(ctx context.Context, on bool) error { return Store(ctx, kept, on) }}).Register(mux)
	do := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w
	}
	stored := func() bool {
		t.Helper()
		on, err := Stored(t.Context(), &settings{values: kept.values})
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	if !stored() || !p.On() {
		t.Error("it is off at first")
	}
	if w := do("PUT", "/v1/tarpit", `{"on": false}`); w.Code != 200 || p.On() || stored() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := do("PUT", "/v1/tarpit", `{"on": true}`); w.Code != 200 || !p.On() || !stored() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, body := range []string{``, `{}`, `{"on": "yes"}`, `{"off": true}`} {
		if w := do("PUT", "/v1/tarpit", body); w.Code != 400 || !p.On() {
			t.Errorf("%s: %d", body, w.Code)
		}
	}
	kept.err = errors.New("the disk is full")
	if w := do("PUT", "/v1/tarpit", `{"on": false}`); w.Code != 503 || p.On() {
		t.Errorf("off cannot be kept: %d, on: %v", w.Code, p.On())
	}
	if w := do("PUT", "/v1/tarpit", `{"on": true}`); w.Code != 503 || p.On() {
		t.Errorf("on cannot be kept: %d, on: %v", w.Code, p.On())
	}
	var r Report
	if w := do("GET", "/v1/tarpit?clients=5", ""); w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &r) != nil || r.On || len(r.Shed) != int(shedReasons) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, q := range []string{"-1", "1001", "x"} {
		if w := do("GET", "/v1/tarpit?clients="+q, ""); w.Code != 400 {
			t.Errorf("clients=%s: %d", q, w.Code)
		}
	}
}

func TestBoundsThatBoundNothingAreRefused(t *testing.T) {
	good := Limits{Connections: 1, CPU: 1}
	for name, change := range map[string]func(*Options){
		"connections": func(o *Options) { o.Limits.Connections = 0 },
		"cpu":         func(o *Options) { o.Limits.CPU = 0 },
		"epoch":       func(o *Options) { o.Epoch = time.Minute },
		"bandwidth":   func(o *Options) { o.Limits.Bandwidth = -1 },
	} {
		o := Options{Limits: good, Epoch: time.Hour, Now: time.Now}
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}
