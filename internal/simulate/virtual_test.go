package simulate

import (
	"context"
	"errors"
	"html"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// gate asks every navigation for a clearance, with the real check, and lets all else pass.
type gate struct {
	site  http.Handler
	gate  *challenge.Gate
	clock *Clock
}

func newGate(t testing.TB, site http.Handler, clock *Clock) *gate {
	t.Helper()
	signer, err := clearance.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return &gate{site, challenge.NewGate(challenge.Options{
		Signer: signer, Validity: time.Hour, Budget: clearance.Budget{Minute: 60, Day: 2000}, Ladder: defense.Ladder{defense.ChallengeRefresh},
	}), clock}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := g.clock.Now()
	var p defense.Profile
	profiler().FromRequest(&p, r, defense.NewClient(netip.MustParseAddr("192.0.2.1")), now)
	visit := &challenge.Visit{Context: r.Context(), Header: r.Header, Target: r.RequestURI, Secure: true, Client: p.Client, Family: p.Agent.Family, Now: now}
	set := func(cookies []string) {
		for _, c := range cookies {
			w.Header().Add("Set-Cookie", c)
		}
	}
	switch {
	case p.Path == challenge.PassPath:
		var f challenge.Form
		f.Parse(r.URL.RawQuery, "")
		res := g.gate.Redeem(visit, &f)
		if res.Outcome != challenge.Passed {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		set(res.Cookies)
		w.Header().Set("Location", res.To)
		w.WriteHeader(http.StatusSeeOther)
	case p.Kind == defense.KindNavigation && !g.gate.Clearance(r.Header, &p.Client, p.Agent.Family, now).Valid:
		page, _ := g.gate.Issue(visit, defense.Ladder{})
		set(page.Cookies)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusTooManyRequests)
		w.Write([]byte(`<!doctype html><meta http-equiv="refresh" content="` + strconv.Itoa(int(page.Delay.Seconds()+1)) + `;url=` + html.EscapeString(page.Refresh) + `"><a href="` + html.EscapeString(page.Refresh) + `">Continue</a>`))
	default:
		g.site.ServeHTTP(w, r)
	}
}

func TestReadersPassACheckAndCampaignsDoNot(t *testing.T) {
	t.Parallel()
	clock := NewClock(morning)
	r, list := perform(t, VirtualOptions{Scenario: "campaign", Handler: newGate(t, NewSite(1), clock), Clock: clock}, build(t, "campaign", Options{Seed: 1, Scale: 0.1}))
	g := r.Group(Reader)
	c := g.Clients
	if c.Challenged != c.Total || c.Passed+c.GaveUp != c.Challenged || c.Denied != 0 || c.Harmed != 0 {
		t.Errorf("readers: %+v", c)
	}
	// Who keeps no cookies or does not wait stays outside.
	if c.GaveUp == 0 || float64(c.GaveUp) > 0.04*float64(c.Total) {
		t.Errorf("%d of %d readers gave up", c.GaveUp, c.Total)
	}
	if h := r.Group(Campaign); h.All.Challenged != 1000 || h.Clients.GaveUp != 200 || h.AfterMinute.StoppedShare() != 1 {
		t.Errorf("campaign: %+v", h)
	}
	if r.Summary.CaughtShareAfter != 1 || r.Summary.Missed != 0 {
		t.Errorf("summary %+v", r.Summary)
	}
	for _, e := range list {
		if strings.HasPrefix(e.request.Target, challenge.Prefix) {
			if site := e.request.Header.Get("Sec-Fetch-Site"); site != "same-origin" && site != "" {
				t.Fatalf("a refresh is %s", site)
			}
			if _, score, signals := profileOf(e.actor, e.request); score > 0 {
				t.Fatalf("passing scores %d for %v", score, signals)
			}
		}
	}
}

func TestTabsThatAreRestoredTogetherAllPass(t *testing.T) {
	t.Parallel()
	clock := NewClock(morning)
	site := NewSite(1)
	b := &browser{client: client{rng: rngOf(1), scheme: "https", host: "wiki.example.org"}, program: programs()["firefox"][0], language: "en-US", cache: map[string]cached{}}
	for i := range 10 {
		b.restored = append(b.restored, site.ArticleAt(i))
	}
	actor := &Actor{Name: "reader", Label: Reader, Client: netip.MustParseAddr("203.0.113.7"), RoundTrip: 50 * time.Millisecond, Behaviour: b}
	r, list := perform(t, VirtualOptions{Handler: newGate(t, site, clock), Clock: clock}, []*Actor{actor})
	served := map[string]bool{}
	for _, e := range list {
		if e.response.Status == http.StatusOK && strings.HasPrefix(e.request.Target, "/wiki/") {
			served[e.request.Target] = true
		}
	}
	if len(served) != 10 || r.Group(Reader).All.Challenged != 10 || r.Group(Reader).Clients.Passed != 1 {
		t.Errorf("%d pages, %+v", len(served), r.Group(Reader))
	}
}

func TestReaderTriesAgainWhenTheSiteIsBusyAndGoesWhenRefused(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{http.StatusServiceUnavailable: 1 + maxRetries, http.StatusTooManyRequests: 1 + maxRetries, http.StatusForbidden: 1, 0: 1 + maxRetries} {
		b := &browser{client: client{rng: rngOf(1), scheme: "https", host: "wiki.example.org"}, program: programs()["chrome"][0], language: "en-US", cache: map[string]cached{}, entry: "/"}
		busy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if status == 0 {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(status)
		})
		r, list := perform(t, VirtualOptions{Handler: busy}, []*Actor{{Name: "reader", Label: Reader, Client: netip.MustParseAddr("203.0.113.7"), Behaviour: b}})
		if len(list) != want {
			t.Errorf("%d: %d requests, want %d", status, len(list), want)
		}
		if want > 1 && status != 0 && list[1].request.At < time.Minute {
			t.Errorf("%d: again after %s", status, list[1].request.At)
		}
		g := r.Group(Reader)
		switch got := g.All; status {
		case http.StatusForbidden:
			if got.Denied != 1 || g.Clients.Harmed != 1 {
				t.Errorf("refusal counts as %+v", g)
			}
		case http.StatusTooManyRequests:
			if got.Throttled != want || g.Clients.Harmed != 0 {
				t.Errorf("throttling counts as %+v", g)
			}
		default:
			if got.Failed != want || got.Allowed != want {
				t.Errorf("failure counts as %+v", g)
			}
		}
	}
}

// A site that sends browsers round in circles must not keep the simulator busy.
func TestHostileAnswersEndAReadersVisit(t *testing.T) {
	t.Parallel()
	page := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Cache-Control", "max-age=1000")
			if strings.HasSuffix(r.URL.Path, ".css") {
				w.Header().Set("Content-Type", "text/css")
			}
			w.Write([]byte(body))
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
		"refreshes": page(`<meta http-equiv=refresh content="0">`),
		"header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Refresh", "0;url=/a")
		},
		"links":       page(strings.Repeat(`<a href="/x">x</a><img src="/self.png">`, 10000)),
		"sheet":       page(`<link rel=stylesheet href="/self.css">url(/self.css)url(/self.css)`),
		"elsewhere":   page(`<meta http-equiv=refresh content="0;url=https://other.example/"><a href="//other.example/">x</a>`),
		"unmodified":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"no location": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) },
		"odd cookies": func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				w.Header().Add("Set-Cookie", "\x00=;;;")
			}
		},
	} {
		b := &browser{client: client{rng: rngOf(1), scheme: "https", host: "wiki.example.org"}, program: programs()["chrome"][0], language: "en-US", cache: map[string]cached{}, entry: "/", pages: 5}
		_, list := perform(t, VirtualOptions{Handler: h, MaxRequests: 1000}, []*Actor{{Name: "reader", Label: Reader, Client: netip.MustParseAddr("203.0.113.7"), Behaviour: b}})
		if len(list) == 0 || len(list) > 60 {
			t.Errorf("%s: %d requests", name, len(list))
		}
		for _, e := range list {
			if e.request.Host != "wiki.example.org" {
				t.Errorf("%s: asks %s", name, e.request.Host)
			}
		}
	}
}

func TestClockStepsThroughEverySecondAndShowsTheRequestsTime(t *testing.T) {
	t.Parallel()
	clock := NewClock(morning)
	var steps []time.Time
	late := 0
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if n := len(steps); n == 0 || clock.Now().Before(steps[n-1]) || clock.Now().Sub(steps[n-1]) >= time.Second {
			late++
		}
		if r.TLS == nil || r.ProtoMajor != 2 || !strings.Contains(r.RemoteAddr, ":") {
			t.Errorf("request %+v", r)
		}
		clock.Wait(3 * time.Second)
	})
	r, list := perform(t, VirtualOptions{Handler: h, Clock: clock, Step: func(now time.Time) {
		if !now.Equal(clock.Now()) {
			t.Errorf("step at %s, clock %s", now, clock.Now())
		}
		steps = append(steps, now)
	}}, build(t, "readers", Options{Seed: 1, Scale: 0.02}))
	for i, s := range steps {
		if !s.Equal(morning.Add(time.Duration(i) * time.Second)) {
			t.Fatalf("step %d at %s", i, s)
		}
	}
	if late > 0 || len(steps) < 500 {
		t.Errorf("%d requests outside their second, %d steps", late, len(steps))
	}
	for _, e := range list {
		if e.response.Duration != 3*time.Second+e.actor.RoundTrip {
			t.Fatalf("a request took %s", e.response.Duration)
		}
	}
	if r.Seconds < 500 || !r.Started.Equal(morning) {
		t.Errorf("%v s from %s", r.Seconds, r.Started)
	}
}

func TestPlayIsBounded(t *testing.T) {
	t.Parallel()
	h := NewSite(1)
	r, list := perform(t, VirtualOptions{Handler: h, MaxRequests: 100}, build(t, "readers", Options{Seed: 1, Scale: 0.1}))
	if len(list) != 100 || !strings.Contains(r.Ended, "100 requests") || r.Group(Reader).Clients.Total > 100 {
		t.Errorf("%d requests, %q, %+v", len(list), r.Ended, r.Group(Reader).Clients)
	}
	r, list = perform(t, VirtualOptions{Handler: h, MaxTime: time.Minute}, build(t, "readers", Options{Seed: 1, Scale: 0.1}))
	if !strings.Contains(r.Ended, "1m0s") || list[len(list)-1].request.At > time.Minute {
		t.Errorf("%q, last at %s", r.Ended, list[len(list)-1].request.At)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	r, err := Virtual(ctx, VirtualOptions{Handler: h, Observe: func(*Actor, *Request, *Response) {
		if n++; n == 50 {
			cancel()
		}
	}}, build(t, "readers", Options{Seed: 1, Scale: 0.1}))
	if !errors.Is(err, context.Canceled) || r.Requests != 50 {
		t.Errorf("cancelled: %v after %d", err, r.Requests)
	}
	if _, err := Virtual(t.Context(), VirtualOptions{Handler: h}, nil); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := Virtual(t.Context(), VirtualOptions{}, build(t, "git", Options{Scale: 0.1})); err == nil {
		t.Error("no handler is no error")
	}
}

func TestServerUnderLoadAnswersInLine(t *testing.T) {
	t.Parallel()
	l := NewLoad(LoadOptions{Workers: 2, Speed: 0.5, MaxWait: 3 * time.Second})
	for i, want := range []time.Duration{2, 2, 4, 4, 5, 5} {
		now := morning
		if i >= 4 { // a second later, when both are busy for three more
			now = now.Add(time.Second)
		}
		if got, ok := l.Take(now, time.Second); !ok || got != want*time.Second {
			t.Errorf("request %d: %s, %v", i, got, ok)
		}
	}
	if _, ok := l.Take(morning.Add(time.Second), time.Second); ok {
		t.Error("the line has no end")
	}
	if got, ok := l.Take(morning, 300*time.Microsecond); !ok || got != 300*time.Microsecond {
		t.Errorf("a file waits %s", got)
	}
}

func TestHostsVerdictCountsBeforeTheStatus(t *testing.T) {
	t.Parallel()
	actions := []defense.Action{defense.Allow, defense.Observe, defense.Throttle, defense.Challenge, defense.Tarpit, defense.Deny}
	n := -1
	r, _ := perform(t, VirtualOptions{Handler: NewSite(1), Verdict: func(*Actor, *Request, *Response) (defense.Action, bool) {
		n++
		return actions[n%len(actions)], true
	}}, build(t, "git", Options{Seed: 1, Scale: 0.1}))
	var sum Counts
	for _, g := range r.Groups {
		for i, p := range []*int{&sum.Allowed, &sum.Observed, &sum.Throttled, &sum.Challenged, &sum.Tarpitted, &sum.Denied, &sum.Requests} {
			*p += []int{g.All.Allowed, g.All.Observed, g.All.Throttled, g.All.Challenged, g.All.Tarpitted, g.All.Denied, g.All.Requests}[i]
		}
	}
	if sum.Requests != r.Requests || sum.Allowed+sum.Observed+sum.Stopped() != r.Requests || sum.Observed < sum.Denied || sum.Denied < r.Requests/6 {
		t.Errorf("%+v of %d", sum, r.Requests)
	}
}

func TestTablesReadWell(t *testing.T) {
	t.Parallel()
	clock := NewClock(morning)
	r, _ := perform(t, VirtualOptions{Scenario: "campaign", Handler: newGate(t, NewSite(1), clock), Clock: clock}, build(t, "campaign", Options{Seed: 1, Scale: 0.02}))
	for f, want := range map[Format][]string{
		Text:     {"scenario  who       ought to be", "campaign  campaign  stopped", "\ncampaign: caught 200 of 200 unwanted requests (100.0 %), missed 0; after the first minute 100.0 %; harmed 0 of 40 welcome clients, asked 40, of whom 0 gave up.\n"},
		Markdown: {"| scenario | who | ought to be | clients |", "| --- | --- | ---", "| campaign | reader | let in, or asked once | 40 |", "\n- campaign: caught 200"},
	} {
		var b strings.Builder
		if err := WriteTable(&b, f, r); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("no %q in\n%s", w, b.String())
			}
		}
	}
}

func BenchmarkCampaign(b *testing.B) {
	requests := 0
	for b.Loop() {
		r, _ := play(b, "campaign", Options{Seed: 1})
		requests += r.Requests
	}
	b.ReportMetric(float64(requests)/b.Elapsed().Seconds(), "requests/s")
}
