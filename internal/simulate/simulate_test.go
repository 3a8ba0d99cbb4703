package simulate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/profile"
)

var morning = time.Date(2026, time.November, 25, 9, 0, 0, 0, time.UTC)

// exchange is one request with its answer.
type exchange struct {
	actor    *Actor
	request  *Request
	response *Response
}

func build(t testing.TB, name string, o Options) []*Actor {
	t.Helper()
	s, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	actors, err := s.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	return actors
}

// play plays a scenario against the site under load, without an edge.
func play(t testing.TB, name string, o Options) (*Result, []exchange) {
	t.Helper()
	clock := NewClock(morning)
	scale := o.Scale
	if scale == 0 {
		scale = 1
	}
	up := &Upstream{Site: NewSite(o.Seed), Load: NewLoad(LoadOptions{Speed: scale}), Now: clock.Now, Wait: clock.Wait}
	return perform(t, VirtualOptions{Scenario: name, Seed: o.Seed, Handler: up, Clock: clock}, build(t, name, o))
}

func perform(t testing.TB, o VirtualOptions, actors []*Actor) (*Result, []exchange) {
	t.Helper()
	var list []exchange
	o.Observe = func(a *Actor, q *Request, r *Response) { list = append(list, exchange{a, q, r}) }
	r, err := Virtual(t.Context(), o, actors)
	if err != nil {
		t.Fatal(err)
	}
	return r, list
}

var profiler = sync.OnceValue(func() *profile.Profiler {
	c, err := crawler.Default()
	if err != nil {
		panic(err)
	}
	return profile.New(agent.New(c))
})

// profileOf profiles the request as an edge receives it.
func profileOf(a *Actor, q *Request) (p defense.Profile, score int, signals []string) {
	v := &virtual{start: morning, VirtualOptions: VirtualOptions{Clock: NewClock(morning)}}
	v.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		profiler().FromRequest(&p, r, defense.NewClient(a.Client), morning)
	})
	v.play(context.Background(), a, q)
	for _, s := range profile.Signals(nil, &p) {
		score += s.Weight
		signals = append(signals, s.Name)
	}
	return p, score, signals
}

func TestEveryScenarioIsDocumentedAndPlayable(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if names[s.Name] || s.Name == "" || !strings.HasSuffix(s.Doc, ".") {
			t.Errorf("scenario %q: %q", s.Name, s.Doc)
		}
		names[s.Name] = true
		r, list := play(t, s.Name, Options{Seed: 1, Scale: 0.005})
		if r.Requests == 0 || r.Requests != len(list) || r.Ended != "" {
			t.Errorf("%s: %d requests, %d observed, ended %q", s.Name, r.Requests, len(list), r.Ended)
		}
		if r.Summary.Harmed != 0 || r.Summary.Caught != 0 {
			t.Errorf("%s: a site without an edge harms and catches nobody: %+v", s.Name, r.Summary)
		}
	}
}

func TestSameSeedGivesTheSameTraffic(t *testing.T) {
	t.Parallel()
	a, _ := play(t, "mixed", Options{Seed: 7, Scale: 0.01})
	b, _ := play(t, "mixed", Options{Seed: 7, Scale: 0.01})
	c, _ := play(t, "mixed", Options{Seed: 8, Scale: 0.01})
	if a.Transcript != b.Transcript {
		t.Errorf("transcripts %s and %s of one seed", a.Transcript, b.Transcript)
	}
	var x, y strings.Builder
	if err := errors.Join(WriteJSON(&x, a), WriteJSON(&y, b)); err != nil {
		t.Fatal(err)
	}
	if x.String() != y.String() {
		t.Errorf("results of one seed differ:\n%s\n%s", x.String(), y.String())
	}
	if a.Transcript == c.Transcript {
		t.Error("another seed gives the same traffic")
	}
}

func TestReadersAreServedAndLoadWhatPagesAreMadeOf(t *testing.T) {
	t.Parallel()
	r, list := play(t, "readers", Options{Seed: 3, Scale: 0.1})
	g := r.Group(Reader)
	if g.Clients.Total != 200 || g.All.Allowed != g.All.Requests || g.All.Failed != 0 {
		t.Errorf("readers: %+v", g)
	}
	pages, parts, revalidated, referred := map[*Actor]int{}, map[*Actor]int{}, map[*Actor]int{}, 0
	for _, e := range list {
		p, _, _ := profileOf(e.actor, e.request)
		switch {
		case e.response.Status >= 400:
			t.Errorf("%s asks for %s and gets %d", e.actor.Name, e.request.Target, e.response.Status)
		case e.response.Status == http.StatusNotModified:
			revalidated[e.actor]++
		}
		if p.Kind == defense.KindNavigation {
			pages[e.actor]++
			if strings.HasPrefix(e.request.Header.Get("Referer"), DefaultOrigin) {
				referred++
			}
		} else {
			parts[e.actor]++
		}
	}
	without, returning := 0, 0
	for a := range pages {
		if parts[a] == 0 {
			without++
		}
		if revalidated[a] > 0 {
			returning++
		}
	}
	// Those without are text browsers and readers with everything in their cache.
	if without == 0 || without > 14 {
		t.Errorf("%d of 200 readers load no part of a page", without)
	}
	if returning < 15 || returning > 100 {
		t.Errorf("%d of 200 readers revalidate something", returning)
	}
	if referred < 200 {
		t.Errorf("only %d pages were reached by a link on the site", referred)
	}
}

func TestBrowserAsksForNothingThatIsFreshInItsCache(t *testing.T) {
	t.Parallel()
	_, list := play(t, "readers", Options{Seed: 4, Scale: 0.05})
	got := map[*Actor]map[string]int{}
	for _, e := range list {
		if !strings.HasPrefix(e.request.Target, "/static/") {
			continue
		}
		if got[e.actor] == nil {
			got[e.actor] = map[string]int{}
		}
		if got[e.actor][e.request.Target]++; got[e.actor][e.request.Target] > 1 {
			t.Errorf("%s asks again for %s", e.actor.Name, e.request.Target)
		}
	}
	if len(got) < 50 {
		t.Errorf("only %d readers loaded parts of pages", len(got))
	}
}

func TestOfficesShareAnAddressAndLabelsKnowThem(t *testing.T) {
	t.Parallel()
	actors := build(t, "campaign", Options{Seed: 2, Scale: 0.5})
	labels := Labels(actors)
	on, v6 := map[netip.Addr]int{}, 0
	for _, a := range actors {
		if labels[a.Client] != a.Label {
			t.Fatalf("%s has label %q", a.Name, labels[a.Client])
		}
		if a.Client.IsPrivate() || a.Client.IsLoopback() || !a.Client.IsGlobalUnicast() {
			t.Errorf("%s comes from %s", a.Name, a.Client)
		}
		if a.Client.Is6() {
			v6++
		}
		on[a.Client]++
	}
	shared := 0
	for addr, n := range on {
		if n > 1 {
			shared++
			if labels[addr] != Reader || n != officeSize {
				t.Errorf("%d actors at %s, %s", n, addr, labels[addr])
			}
		}
	}
	if shared != 2 || v6 < 200 {
		t.Errorf("%d offices, %d IPv6 addresses", shared, v6)
	}
}

func TestNoSingleRequestOfACampaignLooksBad(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"campaign", "campaign-rotating", "campaign-copied"} {
		hostile := 0
		for _, a := range build(t, name, Options{Seed: 5, Scale: 0.03}) {
			for _, q := range a.Behaviour.Start() {
				p, score, signals := profileOf(a, q)
				limit := 0
				if a.Label == Reader {
					limit = 10
				} else {
					hostile++
				}
				if score > limit || p.Agent.Family != defense.AgentBrowser && a.Label == Campaign {
					t.Errorf("%s: %s scores %d for %v with %s", name, a.Name, score, signals, q.Header.Get("User-Agent"))
				}
				if p.Kind != defense.KindNavigation {
					t.Errorf("%s: %s asks for %s, %s", name, a.Name, q.Target, p.Kind)
				}
			}
		}
		if hostile != 300 {
			t.Errorf("%s: %d hostile requests", name, hostile)
		}
	}
}

func TestReadersNeverScore(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{DefaultOrigin, "http://intranet.example", "http://localhost:8080"} {
		_, list := play(t, "flash-crowd", Options{Seed: 6, Scale: 0.01, Origin: origin})
		for _, e := range list {
			if e.actor.Label != Reader && e.actor.Label != Newcomer {
				continue
			}
			if _, score, signals := profileOf(e.actor, e.request); score > 10 {
				t.Fatalf("%s: %s asks for %s and scores %d for %v: %v", origin, e.actor.Name, e.request.Target, score, signals, e.request.Header)
			}
		}
	}
}

func TestACopyHasTheReadersHeadersAndAnImitationHasNot(t *testing.T) {
	t.Parallel()
	shapes := func(name string) (readers, hostile map[uint64]bool) {
		readers, hostile = map[uint64]bool{}, map[uint64]bool{}
		for _, a := range build(t, name, Options{Seed: 9, Scale: 0.15}) {
			for _, q := range a.Behaviour.Start() {
				p, _, _ := profileOf(a, q)
				if a.Label == Reader {
					readers[p.Headers.Shape] = true
				} else {
					hostile[p.Headers.Shape] = true
				}
			}
		}
		return readers, hostile
	}
	readers, imitated := shapes("campaign")
	for s := range imitated {
		if readers[s] {
			t.Errorf("shape %x is a reader's and the imitation's", s)
		}
	}
	readers, copied := shapes("campaign-copied")
	for s := range copied {
		if !readers[s] {
			t.Errorf("shape %x of the copy is no reader's", s)
		}
	}
	if len(imitated) != 3 || len(copied) < 5 {
		t.Errorf("%d shapes imitated, %d copied", len(imitated), len(copied))
	}
}

func TestCampaignKeepsToItsPlan(t *testing.T) {
	t.Parallel()
	r, list := play(t, "campaign", Options{Seed: 1, Scale: 0.05})
	each := map[*Actor]int{}
	for _, e := range list {
		if e.actor.Label != Campaign {
			continue
		}
		each[e.actor]++
		if e.request.At < 2*time.Minute || e.request.At >= 7*time.Minute {
			t.Errorf("a request at %s", e.request.At)
		}
		if e.request.Header.Get("Cookie") != "" || strings.HasPrefix(e.request.Target, "/static/") {
			t.Errorf("%s behaves like a reader: %s", e.actor.Name, e.request.Target)
		}
		if e.response.Status != http.StatusOK && e.response.Status != http.StatusServiceUnavailable {
			t.Errorf("%s gets %d for %s", e.actor.Name, e.response.Status, e.request.Target)
		}
	}
	if len(each) != 100 {
		t.Errorf("%d addresses", len(each))
	}
	for a, n := range each {
		if n != 5 {
			t.Errorf("%s made %d requests", a.Name, n)
		}
	}
	if r.FirstUnwanted < 120 || r.FirstUnwanted > 130 || r.Group(Campaign).AfterMinute.Requests < 350 || r.Group(Campaign).AfterMinute.Requests > 450 {
		t.Errorf("first at %v s, %d after a minute", r.FirstUnwanted, r.Group(Campaign).AfterMinute.Requests)
	}
	if r.Group(Campaign).All.Failed == 0 {
		t.Error("the campaign does not overload the site")
	}
}

func TestCrowdFollowsOneLinkWithAllItsPictures(t *testing.T) {
	t.Parallel()
	_, list := play(t, "flash-crowd", Options{Seed: 1, Scale: 0.02})
	first, pictures, slow := map[*Actor]*Request{}, map[*Actor]int{}, 0
	for _, e := range list {
		if e.actor.Label != Newcomer {
			continue
		}
		if first[e.actor] == nil {
			first[e.actor] = e.request
		}
		if strings.HasPrefix(e.request.Target, "/static/img/") {
			pictures[e.actor]++
		}
		if e.response.Duration > time.Second {
			slow++
		}
	}
	site := NewSite(1)
	for a, q := range first {
		if q.Target != site.LongArticle() || q.Header.Get("Referer") != "https://news.example/" {
			t.Errorf("%s begins with %s from %q", a.Name, q.Target, q.Header.Get("Referer"))
		}
	}
	if len(first) != 80 || len(pictures) < 65 {
		t.Errorf("%d newcomers, %d with pictures", len(first), len(pictures))
	}
	if slow < 20 {
		t.Errorf("the crowd is no burden: %d slow answers", slow)
	}
}

func TestPoliteCrawlersKeepToRobots(t *testing.T) {
	t.Parallel()
	for name, label := range map[string]Label{"search-crawler": SearchCrawler, "polite-ai": PoliteCrawler} {
		_, list := play(t, name, Options{Seed: 1, Scale: 0.1})
		last, asked := map[*Actor]time.Duration{}, map[*Actor][]string{}
		for _, e := range list {
			if e.actor.Label != label {
				continue
			}
			if len(asked[e.actor]) == 0 && e.request.Target != "/robots.txt" {
				t.Errorf("%s begins with %s", e.actor.Name, e.request.Target)
			}
			for _, no := range []string{"/w/", "/garden/hedge/commit", "/garden/hedge/blame", "/items/?page="} {
				if strings.HasPrefix(e.request.Target, no) {
					t.Errorf("%s asks for %s", e.actor.Name, e.request.Target)
				}
			}
			if slices.Contains(asked[e.actor], e.request.Target) {
				t.Errorf("%s asks again for %s", e.actor.Name, e.request.Target)
			}
			if !strings.HasPrefix(e.request.Target, "/static/") {
				if e.request.At-last[e.actor] < time.Second && last[e.actor] > 0 {
					t.Errorf("%s hurries", e.actor.Name)
				}
				last[e.actor] = e.request.At
			}
			asked[e.actor] = append(asked[e.actor], e.request.Target)
		}
		for a, targets := range asked {
			if len(targets) < 100 {
				t.Errorf("%s asks for %d pages", a.Name, len(targets))
			}
		}
	}
}

func TestImpoliteCrawlersDoNot(t *testing.T) {
	t.Parallel()
	_, list := play(t, "impolite-ai", Options{Seed: 1, Scale: 0.1})
	disallowed, asked := map[*Actor]int{}, map[*Actor]int{}
	for _, e := range list {
		if e.actor.Label != ImpoliteCrawler {
			continue
		}
		asked[e.actor]++
		if strings.HasPrefix(e.request.Target, "/w/") || strings.HasPrefix(e.request.Target, "/garden/hedge/commit") {
			disallowed[e.actor]++
		}
		if e.request.Target == "/robots.txt" {
			t.Error("an impolite crawler reads robots.txt")
		}
	}
	for a, n := range asked {
		if n < 50 || disallowed[a] < 5 {
			t.Errorf("%s: %d requests, %d disallowed", a.Name, n, disallowed[a])
		}
	}
}

func TestCrawlersStayAwayWhenRefused(t *testing.T) {
	t.Parallel()
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/robots.txt" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	})
	r, list := perform(t, VirtualOptions{Handler: refuse}, build(t, "polite-ai", Options{Seed: 1, Scale: 0.1}))
	asked := map[*Actor]int{}
	for _, e := range list {
		asked[e.actor]++
	}
	for a, n := range asked {
		if a.Label == PoliteCrawler && n > gentleRefusals+1 {
			t.Errorf("%s asks %d times", a.Name, n)
		}
		if a.Label == Reader && n > 10 {
			t.Errorf("%s asks %d times", a.Name, n)
		}
	}
	if g := r.Group(Reader); g.Clients.Harmed != g.Clients.Total || g.All.Denied != g.All.Requests {
		t.Errorf("refused readers count as %+v", g)
	}
	if g := r.Group(PoliteCrawler); g.Clients.Harmed != 0 || g.Clients.Denied != 2 {
		t.Errorf("refused crawlers count as %+v", g)
	}

	// A server in trouble is asked for its robots.txt some more times, and for nothing else.
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	_, list = perform(t, VirtualOptions{Handler: down}, build(t, "search-crawler", Options{Seed: 1, Scale: 0.1}))
	for _, e := range list {
		if e.actor.Label == SearchCrawler && e.request.Target != "/robots.txt" {
			t.Errorf("%s asks for %s", e.actor.Name, e.request.Target)
		}
	}
}

func TestFeedReadersAskForNewsOnly(t *testing.T) {
	t.Parallel()
	_, list := play(t, "feeds", Options{Seed: 1, Scale: 0.1})
	polls, unchanged := map[*Actor]int{}, 0
	for _, e := range list {
		if e.actor.Label != FeedReader {
			continue
		}
		p, score, _ := profileOf(e.actor, e.request)
		if p.Kind != defense.KindFeed || score > 0 {
			t.Errorf("%s: kind %s, score %d", e.actor.Name, p.Kind, score)
		}
		if polls[e.actor]++; polls[e.actor] > 1 && e.response.Status != http.StatusNotModified {
			t.Errorf("%s gets %d the second time", e.actor.Name, e.response.Status)
		}
		if e.response.Status == http.StatusNotModified {
			unchanged++
		}
	}
	if len(polls) != 30 || unchanged < 15 {
		t.Errorf("%d feed readers, %d unchanged", len(polls), unchanged)
	}
}

func TestGitTalksAsGitDoes(t *testing.T) {
	t.Parallel()
	_, list := play(t, "git", Options{Seed: 1, Scale: 0.5})
	stages := map[*Actor]string{}
	for _, e := range list {
		if e.actor.Label != GitClient {
			continue
		}
		p, score, _ := profileOf(e.actor, e.request)
		if p.Kind != defense.KindGit || p.Agent.Family != defense.AgentGit || score > 0 || e.response.Status != http.StatusOK {
			t.Errorf("%s: kind %s, family %s, score %d, status %d", e.actor.Name, p.Kind, p.Agent.Family, score, e.response.Status)
		}
		stages[e.actor] += e.request.Method + " " + string(e.request.Body) + ";"
	}
	if len(stages) != 30 {
		t.Errorf("%d git clients", len(stages))
	}
	for a, s := range stages {
		if s != "GET ;POST 0014command=ls-refs\n0000;POST 0011command=fetch0000;" {
			t.Errorf("%s: %q", a.Name, s)
		}
	}
}

func TestOwnPagesTakeThePlaceOfTheSyntheticSites(t *testing.T) {
	t.Parallel()
	actors := build(t, "campaign", Options{Seed: 1, Scale: 0.02, Pages: []string{"/a", "/b?x=1"}, Deep: []string{"/deep?n=2"}})
	var asked []string
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") })
	_, list := perform(t, VirtualOptions{Handler: plain}, actors)
	for _, e := range list {
		if !slices.Contains(asked, e.request.Target) {
			asked = append(asked, e.request.Target)
		}
	}
	slices.Sort(asked)
	if !slices.Equal(asked, []string{"/a", "/b?x=1", "/deep?n=2", "/favicon.ico"}) {
		t.Errorf("asked for %q", asked)
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	t.Parallel()
	s, err := Find("readers")
	if err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"scale":  {Scale: -1},
		"scale ": {Scale: 21},
		"origin": {Origin: "example.org"},
		"page":   {Pages: []string{"https://example.org/"}},
		"page ":  {Deep: []string{"/a#b"}},
	} {
		if _, err := s.Build(o); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Find("nothing"); err == nil || !strings.Contains(err.Error(), "campaign-copied") {
		t.Errorf("unknown scenario: %v", err)
	}
}
