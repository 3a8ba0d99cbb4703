package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Scenario is a named set of actors.
type Scenario struct {
	Name string
	Doc  string // a sentence or two: who takes part and what it is to show, with the numbers at scale 1

	build func(*stage)
}

// Options vary a scenario. The zero value plays it at its documented size against the synthetic site of seed 0.
type Options struct {
	// Seed decides everything that is left to chance.
	Seed uint64
	// Scale multiplies the number of clients; 0 means 1. At most 20.
	Scale float64
	// Origin is the site as clients know it: what their Host and Referer headers say, and whether they believe to use
	// HTTPS. Default "https://wiki.example.org".
	Origin string
	// Site is the synthetic site that the actors know their way around in. Default: NewSite(Seed).
	Site *Site
	// Pages, if not empty, are the targets ("/path?query") at which readers and crawlers arrive, instead of the synthetic site's: for a site of
	// one's own. Deep are those that campaigns ask for, by default Pages.
	Pages, Deep []string
}

// DefaultOrigin is the site's address unless another is given.
const DefaultOrigin = "https://wiki.example.org"

const maxScale = 20

// Scenarios returns all scenarios.
func Scenarios() []Scenario {
	return []Scenario{
		{"readers", "2,000 honest readers within ten minutes: with all current browsers, from homes and from offices behind one address, new and returning, " +
			"with and without scripts, with many tabs. Nobody may be refused.", func(s *stage) { s.readers(2000, 0, 10*time.Minute) }},
		{"search-crawler", "A search engine's crawler reads 400 pages politely from three addresses, among 200 readers.", func(s *stage) {
			s.readers(200, 0, 10*time.Minute)
			s.searchCrawler(10 * time.Minute)
		}},
		{"polite-ai", "An AI company's crawler says what it is and keeps to robots.txt, among 200 readers. What happens to it is the owner's choice.", func(s *stage) {
			s.readers(200, 0, 10*time.Minute)
			s.politeCrawler(10 * time.Minute)
		}},
		{"impolite-ai", "Crawlers that ignore robots.txt and read as fast as they can, among 300 readers: one that says what it is, one that no catalogue knows, " +
			"a library under its own name, a library under a browser's name.", func(s *stage) {
			s.readers(300, 0, 8*time.Minute)
			s.impoliteCrawlers(2*time.Minute, 4*time.Minute)
		}},
		{"feeds", "300 feed readers poll, among 200 readers. None may be refused or asked.", func(s *stage) {
			s.readers(200, 0, 10*time.Minute)
			s.feeds(300, 20*time.Minute)
		}},
		{"git", "60 clones and fetches over HTTP, eight of them again and again from a build server, among 200 readers. None may be refused or asked.", func(s *stage) {
			s.readers(200, 0, 10*time.Minute)
			s.git(60, 10*time.Minute)
		}},
		{"flash-crowd", "4,000 newcomers follow one link from a link aggregator within six minutes, most of them in the second and third, to the dearest " +
			"article of the site; 80 servers fetch it for a preview; 300 readers are there already. Nobody may be refused.", func(s *stage) {
			s.readers(300, 0, 8*time.Minute)
			s.flashCrowd(4000, time.Minute)
		}},
		campaign("campaign", imitated, "2,000 addresses of homes ask for five deep pages each within five minutes, from minute two on, among 2,000 readers. "+
			"Each request alone is a browser's; a program made them all."),
		campaign("campaign-rotating", rotated, "As campaign, with another browser's agent for each request."),
		campaign("campaign-copied", copied, "As campaign, with the very headers of the readers' browsers. Only what the members do, and what they do not, tells them from readers."),
		{"mixed", "Everything at once: 2,000 readers, all crawlers, 150 feed readers, git, a campaign of 2,000 addresses from minute two on and a flash crowd of 2,000 from " +
			"minute four on.", func(s *stage) {
			s.readers(2000, 0, 10*time.Minute)
			s.searchCrawler(10 * time.Minute)
			s.politeCrawler(10 * time.Minute)
			s.feeds(150, 10*time.Minute)
			s.git(30, 10*time.Minute)
			s.impoliteCrawlers(3*time.Minute, 4*time.Minute)
			s.campaign(2000, 5, imitated, 2*time.Minute, 5*time.Minute)
			s.flashCrowd(2000, 4*time.Minute)
		}},
	}
}

func campaign(name string, d disguise, doc string) Scenario {
	return Scenario{name, doc, func(s *stage) {
		s.readers(2000, 0, 10*time.Minute)
		s.campaign(2000, 5, d, 2*time.Minute, 5*time.Minute)
	}}
}

// Find returns the scenario of a name. The error lists the names.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("unknown scenario %q: use one of %s", name, strings.Join(names, ", "))
}

// Build returns the scenario's actors, the same for the same options.
func (s Scenario) Build(o Options) ([]*Actor, error) {
	if o.Scale == 0 {
		o.Scale = 1
	}
	if !(o.Scale > 0 && o.Scale <= maxScale) {
		return nil, fmt.Errorf("scale %v: use a number above 0, at most %d", o.Scale, maxScale)
	}
	if o.Origin == "" {
		o.Origin = DefaultOrigin
	}
	scheme, host, err := splitOrigin(o.Origin)
	if err != nil {
		return nil, err
	}
	if o.Site == nil {
		o.Site = NewSite(o.Seed)
	}
	for _, target := range append(append([]string(nil), o.Pages...), o.Deep...) {
		if _, err := url.ParseRequestURI(target); err != nil || target[0] != '/' || strings.ContainsAny(target, "# ") {
			return nil, fmt.Errorf("page %q: use a path such as /wiki/Main_Page, with a query if need be", target)
		}
	}
	if len(o.Deep) == 0 {
		o.Deep = o.Pages
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x51))
	st := &stage{Options: o, rng: rng, scheme: scheme, host: host, addresses: newAddresses(rand.New(rand.NewPCG(o.Seed, 0x52)))}
	s.build(st)
	return st.actors, nil
}

func splitOrigin(origin string) (scheme, host string, err error) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("origin %q: use a scheme and host such as %s", origin, DefaultOrigin)
	}
	return u.Scheme, u.Host, nil
}

// ErrNobody says that there are no actors to play.
var ErrNobody = errors.New("no actors")

// stage is where a scenario sets up its actors.
type stage struct {
	Options
	rng       *rand.Rand
	scheme    string
	host      string
	addresses *addresses
	actors    []*Actor
	counts    map[Label]int
}

// scaled returns how many there are at the scale.
func (s *stage) scaled(n int) int { return max(1, int(math.Round(float64(n)*s.Scale))) }

// client returns the means of a new actor. Each has chance of its own, so that one more request of one actor changes nothing for the others.
func (s *stage) client() client {
	return client{rng: rand.New(rand.NewPCG(s.rng.Uint64(), s.rng.Uint64())), scheme: s.scheme, host: s.host}
}

func (s *stage) add(l Label, addr netip.Addr, roundTrip time.Duration, b Behaviour) {
	if s.counts == nil {
		s.counts = map[Label]int{}
	}
	s.counts[l]++
	s.actors = append(s.actors, &Actor{Name: fmt.Sprintf("%s %d", l, s.counts[l]), Label: l, Client: addr, RoundTrip: roundTrip, Behaviour: b})
}

// entry returns a page as readers come to it.
func (s *stage) entry(rng *rand.Rand) string {
	if len(s.Pages) > 0 {
		return s.Pages[zipf(rng, len(s.Pages))]
	}
	return s.Site.popularTarget(rng)
}

// deep returns a page that few readers ask for.
func (s *stage) deep(rng *rand.Rand) string {
	if len(s.Deep) > 0 {
		return pick(rng, s.Deep)
	}
	return s.Site.deepTarget(rng)
}

func (s *stage) linked() string {
	if len(s.Pages) > 0 {
		return s.Pages[0]
	}
	return s.Site.LongArticle()
}

// officeSize is how many readers share an office's address.
const officeSize = 25

// readers adds honest readers who arrive evenly.
func (s *stage) readers(n int, from, during time.Duration) {
	n = s.scaled(n)
	var office netip.Addr
	inOffice := n / 20 // five in a hundred
	for i := range n {
		c := s.client()
		b := s.browser(c, from+c.between(0, during))
		addr := s.addresses.home(0.25)
		if i < inOffice {
			if i%officeSize == 0 {
				office = addr
			}
			addr = office
		}
		s.add(Reader, addr, b.between(8*time.Millisecond, 120*time.Millisecond), b)
	}
}

// referrers are where readers come from.
var referrers = []string{"https://www.google.com/", "https://www.google.com/", "https://www.google.com/", "https://duckduckgo.com/", "https://www.bing.com/",
	"https://en.wikipedia.org/", "https://old.reddit.com/", "https://forum.example.net/"}

func pickLanguage(rng *rand.Rand) string {
	return languages[weighted(rng, len(languages), func(i int) float64 { return 1 / float64(i+1) })]
}

// pickGraphical chooses a browser as readers have them, but not a text browser.
func pickGraphical(rng *rand.Rand) *program {
	for {
		if p := pickProgram(rng); p.engine != text {
			return p
		}
	}
}

// browser returns a reader as most sites have them.
func (s *stage) browser(c client, start time.Duration) *browser {
	b := &browser{client: c, program: pickProgram(c.rng), language: pickLanguage(c.rng), start: start, cache: map[string]cached{}}
	b.entry = s.entry(b.rng)
	b.from = where{site: "none", user: true}
	if b.chance(0.65) {
		b.from = where{site: "cross-site", referrer: pick(b.rng, referrers), user: true}
	}
	b.pages = 1
	for b.pages < 12 && b.chance(0.65) {
		b.pages++
	}
	b.scriptsOff = b.chance(0.02)
	b.cookiesOff = b.chance(0.003)
	b.impatient = b.chance(0.01)
	switch x := b.rng.Float64(); {
	case x < 0.04:
		b.tabs = 3 + b.rng.IntN(8)
		b.pages += b.tabs
	case x < 0.05:
		for range 10 {
			b.restored = append(b.restored, s.entry(b.rng))
		}
		b.pages += 10
	}
	switch x := b.rng.Float64(); {
	case x < 0.05:
		s.remember(b, start+24*time.Hour) // was here yesterday: nothing needs to be loaded again
	case x < 0.20:
		s.remember(b, 0) // was here last month: everything is asked for again, and nothing has changed
	}
	return b
}

// remember fills the cache of a reader who has been here before with the page's parts, fresh until then.
func (s *stage) remember(b *browser, until time.Duration) {
	if len(s.Pages) > 0 {
		return // nothing is known of what is on them
	}
	base := &url.URL{Scheme: s.scheme, Host: s.host, Path: "/"}
	p := parsePage(base, []byte(s.Site.page(s.Site.find(b.entry))))
	b.cache[b.entry] = cached{etag: s.Site.ETag(b.entry), page: p}
	b.icon = true
	for _, part := range p.parts {
		c := cached{etag: s.Site.ETag(part.target), until: until}
		if part.dest == "style" {
			body, _ := s.Site.body(s.Site.find(part.target), s.host)
			c.parts = parseSheet(base, []byte(body))
			for _, inner := range c.parts {
				b.cache[inner.target] = cached{etag: s.Site.ETag(inner.target), until: until}
			}
		}
		b.cache[part.target] = c
	}
}

// flashCrowd adds newcomers who follow one link: 15 in a hundred within the first minute, 60 in the second and third, the rest in three more.
func (s *stage) flashCrowd(n int, start time.Duration) {
	const aggregator = "https://news.example/"
	target := s.linked()
	for range s.scaled(n) {
		c := s.client()
		at := start
		switch x := c.rng.Float64(); {
		case x < 0.15:
			at += c.between(0, time.Minute)
		case x < 0.75:
			at += c.between(time.Minute, 3*time.Minute)
		default:
			at += c.between(3*time.Minute, 6*time.Minute)
		}
		b := s.browser(c, at)
		b.cache, b.icon, b.restored, b.tabs = map[string]cached{}, false, nil, 0
		b.entry, b.from = target, where{site: "cross-site", referrer: aggregator, user: true}
		b.pages = 1
		for b.pages < 6 && b.chance(0.25) {
			b.pages++
		}
		s.add(Newcomer, s.addresses.home(0.25), b.between(8*time.Millisecond, 150*time.Millisecond), b)
	}
	for range s.scaled(80) {
		c := s.client()
		s.add(LinkPreview, s.addresses.within("95.216.0.0/16"), 30*time.Millisecond, preview(&c, start+c.between(0, 90*time.Second), target))
	}
}

// campaign adds a campaign of n addresses with several requests each.
func (s *stage) campaign(n, each int, d disguise, start, during time.Duration) {
	for range s.scaled(n) {
		c := s.client()
		targets := make([]string, each)
		for i := range targets {
			targets[i] = s.deep(c.rng)
		}
		s.add(Campaign, s.addresses.home(0.1), c.between(40*time.Millisecond, 400*time.Millisecond), newMember(&c, d, start, during, targets))
	}
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		set(h, pairs[i], pairs[i+1])
	}
	return h
}

func (s *stage) searchCrawler(until time.Duration) {
	for range 3 {
		c := s.client()
		s.add(SearchCrawler, s.addresses.within("66.249.66.0/24"), 20*time.Millisecond, &spider{
			client: c, entry: "/", start: c.between(0, 10*time.Second), until: until, pages: 134, pause: 3 * time.Second, workers: 1,
			obeys: "Googlebot", renders: true, gentle: true,
			header: headers("User-Agent", "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.8010.24 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
				"Accept", "text/html,application/xhtml+xml,application/signed-exchange;v=b3,application/xml;q=0.9,*/*;q=0.8",
				"Accept-Encoding", "gzip, deflate, br", "From", "googlebot(at)googlebot.com"),
		})
	}
}

func (s *stage) politeCrawler(until time.Duration) {
	for range 2 {
		c := s.client()
		s.add(PoliteCrawler, s.addresses.within("20.171.206.0/24"), 20*time.Millisecond, &spider{
			client: c, entry: "/", start: c.between(0, 10*time.Second), until: until, pages: 200, pause: 3 * time.Second, workers: 1, obeys: "GPTBot", gentle: true,
			header: headers("User-Agent", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.3; +https://openai.com/gptbot",
				"Accept", "*/*", "Accept-Encoding", "gzip, br, deflate", "From", "gptbot(at)openai.com"),
		})
	}
}

func (s *stage) impoliteCrawlers(start, during time.Duration) {
	for _, kind := range []struct {
		addresses int
		header    http.Header
	}{
		{3, headers("User-Agent", "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)",
			"Accept", "*/*", "Accept-Encoding", "gzip, deflate, br")},
		{2, headers("User-Agent", "Mozilla/5.0 (compatible; QuiteNewSpiderBot/0.1; +https://quite-new.example/bot)", "Accept", "*/*", "Accept-Encoding", "gzip")},
		{2, headers("User-Agent", "python-requests/2.32.3", "Accept", "*/*", "Accept-Encoding", "gzip, deflate", "Connection", "keep-alive")},
		{3, headers("User-Agent", pickOf(s.rng, "chrome").agent, "Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
			"Accept-Language", "en-US,en;q=0.5", "Accept-Encoding", "gzip, deflate")},
	} {
		for range kind.addresses {
			c := s.client()
			cr := &spider{client: c, entry: "/", start: start + c.between(0, 10*time.Second), until: start + during, pages: s.scaled(700), pause: 600 * time.Millisecond, workers: 4,
				header: kind.header}
			cr.lost = func() string { return s.deep(cr.rng) }
			s.add(ImpoliteCrawler, s.addresses.within("47.128.0.0/16"), 60*time.Millisecond, cr)
		}
	}
}

func (s *stage) feeds(n int, until time.Duration) {
	for range s.scaled(n) {
		c := s.client()
		target := "/feed.xml"
		p := &poller{client: c, header: feedHeaders(&c), target: target, until: until, interval: c.between(4*time.Minute, 15*time.Minute)}
		p.start = c.between(0, until/2)
		addr := s.addresses.home(0.2)
		if c.chance(0.4) {
			addr = s.addresses.within("65.108.0.0/16")
		}
		s.add(FeedReader, addr, 30*time.Millisecond, p)
	}
}

func (s *stage) git(n int, during time.Duration) {
	builds := s.addresses.within("140.82.112.0/24")
	for i := range s.scaled(n) {
		c := s.client()
		addr := builds
		if i%8 != 0 {
			addr = s.addresses.home(0.2)
		}
		s.add(GitClient, addr, 30*time.Millisecond, gitClone(&c, c.between(0, during)))
	}
}
