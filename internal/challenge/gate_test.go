package challenge

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/challenge/work"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/redemption"
)

var (
	noon  = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	words = []string{"river", "lamp", "bread", "chair", "cloud", "horse", "key", "garden", "bottle", "window", "train", "apple"}
)

const (
	silent   = defense.ChallengeSilent
	refresh  = defense.ChallengeRefresh
	working  = defense.ChallengeWork
	asking   = defense.ChallengeQuestion
	provider = defense.ChallengeCaptcha
)

func newSigner(t testing.TB, keys ...string) *clearance.Signer {
	t.Helper()
	if keys == nil {
		keys = []string{"0123456789abcdef0123456789abcdef"}
	}
	var raw [][]byte
	for _, k := range keys {
		raw = append(raw, []byte(k))
	}
	s, err := clearance.NewSigner(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newGate(t testing.TB, kinds ...defense.ChallengeKind) *Gate {
	t.Helper()
	if kinds == nil {
		kinds = []defense.ChallengeKind{working, refresh}
	}
	l, err := defense.NewLadder(kinds...)
	if err != nil {
		t.Fatal(err)
	}
	return NewGate(Options{Signer: newSigner(t), Validity: 7 * 24 * time.Hour, Budget: clearance.Budget{Minute: 60, Day: 2000}, Ladder: l})
}

// browser keeps cookies as one does.
type browser struct {
	t       testing.TB
	jar     map[string]string
	address string
	now     time.Time
	secure  bool
	family  defense.AgentFamily
	refuses bool // cookies
}

func newBrowser(t testing.TB) *browser {
	return &browser{t: t, jar: map[string]string{}, address: "192.0.2.7", now: noon, family: defense.AgentBrowser}
}

func (b *browser) visit(target string) *Visit {
	h := http.Header{}
	for name, value := range b.jar {
		h.Add("Cookie", name+"="+value)
	}
	return &Visit{
		Context: b.t.Context(), Header: h, Host: "wiki.example.org", Target: target, Secure: b.secure, Words: words,
		Client: defense.NewClient(netip.MustParseAddr(b.address)), Family: b.family, Shape: 7, Now: b.now,
	}
}

func (b *browser) keep(set []string) {
	for _, s := range set {
		pair, attributes, _ := strings.Cut(s, ";")
		if b.refuses || strings.Contains(attributes, "Secure") && !b.secure {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		b.jar[name] = value
	}
}

func (b *browser) challenged(g *Gate, target string) *Page {
	b.t.Helper()
	p, looping := g.Issue(b.visit(target), defense.Ladder{})
	if looping {
		b.t.Fatal("thought to be looping")
	}
	b.keep(p.Cookies)
	return p
}

func (b *browser) redeem(g *Gate, address string, answer ...string) Result {
	b.t.Helper()
	_, query, _ := strings.Cut(address, "?")
	var f Form
	if !f.Parse(query, "captcha-response") {
		b.t.Fatalf("%q does not parse", query)
	}
	if len(answer) > 0 {
		f.Answer = answer[0]
	}
	r := g.Redeem(b.visit(PassPath), &f)
	b.keep(r.Cookies)
	if r.Page != nil {
		b.keep(r.Page.Cookies)
	}
	return r
}

// solve does what the page asks for, in the time that it takes.
func (b *browser) solve(g *Gate, p *Page) Result {
	b.t.Helper()
	switch p.Kind {
	case silent:
		b.keep([]string{g.Seen(b.visit(p.Seen), p.Seen, "style", "same-origin")})
		b.now = b.now.Add(p.Delay)
		return b.redeem(g, p.Refresh)
	case refresh:
		b.now = b.now.Add(p.Delay)
		return b.redeem(g, p.Refresh)
	case working:
		answer, err := p.Puzzle.Solve(b.t.Context(), p.Ticket)
		if err != nil {
			b.t.Fatal(err)
		}
		b.now = b.now.Add(time.Second)
		return b.redeem(g, p.Pass+"&ticket="+p.Ticket, answer)
	}
	b.now = b.now.Add(5 * time.Second)
	return b.redeem(g, p.Pass+"&ticket="+p.Ticket, words[p.Word])
}

func (b *browser) cleared(g *Gate) defense.Clearance {
	v := b.visit("/")
	return g.Clearance(v.Header, &v.Client, v.Family, v.Now)
}

func TestEachKindEarnsAClearanceAndWhatCostsLessEarnsLess(t *testing.T) {
	day := map[defense.ChallengeKind]uint32{}
	for _, k := range []defense.ChallengeKind{silent, refresh, working, asking} {
		g, b := newGate(t, k), newBrowser(t)
		p := b.challenged(g, "/wiki/A?x=1&y=%zz")
		if p.Kind != k {
			t.Fatalf("%s: shown %s", k, p.Kind)
		}
		r := b.solve(g, p)
		if r.Outcome != Passed || r.To != "/wiki/A?x=1&y=%zz" || r.Kind != k {
			t.Fatalf("%s: %+v", k, r)
		}
		c := b.cleared(g)
		if !c.Valid || c.Kind != k || c.ID != r.ID || c.Changed != 0 {
			t.Errorf("%s: %+v", k, c)
		}
		day[k] = c.Day
	}
	if !(day[silent] <= day[refresh] && day[refresh] < day[asking] && day[asking] < day[working] && day[working] == 2000) {
		t.Errorf("budgets %v", day)
	}
}

func TestNobodyWithoutJavaScriptIsDeadEnded(t *testing.T) {
	for _, tt := range []struct {
		ladder []defense.ChallengeKind
		then   defense.ChallengeKind
	}{
		{[]defense.ChallengeKind{working, refresh}, refresh},
		{[]defense.ChallengeKind{working, asking, refresh}, asking},
		{[]defense.ChallengeKind{working}, asking},
		{[]defense.ChallengeKind{refresh, working}, refresh}, // begins with it
		{[]defense.ChallengeKind{provider}, refresh},         // not configured
	} {
		g, b := newGate(t, tt.ladder...), newBrowser(t)
		p := b.challenged(g, "/a")
		if p.Kind == working {
			if p.Fallback == "" || p.Refresh != p.Fallback {
				t.Fatalf("%v: %+v", tt.ladder, p)
			}
			b.now = b.now.Add(p.Delay) // what <noscript> waits
			r := b.redeem(g, p.Fallback)
			if r.Outcome == Passed && tt.then == refresh {
				if c := b.cleared(g); c.Kind != refresh || c.Day >= 2000/2 {
					t.Errorf("%v: without JavaScript: %+v", tt.ladder, c)
				}
				continue
			}
			if r.Outcome != Again {
				t.Fatalf("%v: %+v", tt.ladder, r)
			}
			p = r.Page
		}
		if p.Kind != tt.then {
			t.Errorf("%v: then %s, want %s", tt.ladder, p.Kind, tt.then)
		}
		if r := b.solve(g, p); r.Outcome != Passed {
			t.Errorf("%v: %+v", tt.ladder, r)
		}
	}
}

func TestClaimingToHaveNoJavaScriptCostsTimeAndBudget(t *testing.T) {
	g, b := newGate(t), newBrowser(t)
	p := b.challenged(g, "/a")
	b.now = b.now.Add(time.Second)
	r := b.redeem(g, p.Fallback)                                                                                       // soon
	if r.Outcome != Again || r.Page.Notice != NoticeEarly || r.Page.Kind != refresh || r.Page.Delay != 3*time.Second { // of four
		t.Fatalf("%+v, %+v", r, r.Page)
	}
	if r := b.solve(g, r.Page); r.Outcome != Passed {
		t.Fatalf("%+v", r)
	}
	if c := b.cleared(g); c.Minute > 20 || c.Day > 500 {
		t.Errorf("%+v", c)
	}
}

func TestSlowDevicesHandInWhatTheyHave(t *testing.T) {
	g, b := newGate(t), newBrowser(t)
	p := b.challenged(g, "/a")
	whole, err := p.Puzzle.Solve(t.Context(), p.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	entry := len(whole) / p.Puzzle.Puzzles
	few := whole[:entry*p.Puzzle.Puzzles/4/4*4+0]
	for len(few)*3/4%5 != 0 || len(few)%4 == 1 { // whole entries of five bytes
		few = few[:len(few)-1]
	}
	r := b.redeem(g, p.Pass+"&ticket="+p.Ticket, few)
	if r.Outcome != Passed {
		t.Fatalf("%+v with %d of %d characters", r, len(few), len(whole))
	}
	if c := b.cleared(g); c.Day >= 1000 || c.Day < 100 || c.Minute < 20 {
		t.Errorf("%+v", c)
	}
	p = b.challenged(g, "/b")
	if r := b.redeem(g, p.Pass+"&ticket="+p.Ticket, "AAAA"); r.Outcome != Again || r.Page.Kind != refresh {
		t.Errorf("nothing solved: %+v", r)
	}
}

func TestAnyNumberOfChallengesMayBeOutstanding(t *testing.T) {
	g, b := newGate(t), newBrowser(t)
	// Ten tabs are opened at once, none with a cookie; each answer sets one, and the last counts.
	cookieless := newBrowser(t)
	cookieless.refuses = true
	var pages []*Page
	for i := range 10 {
		p := cookieless.challenged(g, "/"+strconv.Itoa(i))
		b.keep(p.Cookies)
		pages = append(pages, p)
	}
	for i, p := range pages {
		if r := b.solve(g, p); r.Outcome != Passed || r.To != "/"+strconv.Itoa(i) {
			t.Errorf("tab %d: %+v", i, r)
		}
	}
	// A late answer to a request without cookies takes nothing away.
	for _, set := range cookieless.challenged(g, "/late").Cookies {
		if strings.HasPrefix(set, clearanceCookie+"=") {
			t.Errorf("a challenge sets %s", set)
		}
	}
}

func TestATicketEarnsOneClearanceHoweverOftenItIsRedeemed(t *testing.T) {
	g, b := newGate(t, refresh), newBrowser(t)
	p := b.challenged(g, "/a")
	first := b.solve(g, p)
	b.now = b.now.Add(time.Minute)
	delete(b.jar, clearanceCookie) // the answer was lost on the way
	again := b.redeem(g, p.Refresh)
	if again.Outcome != Passed || again.Clearance.ID != first.Clearance.ID || !again.Clearance.Issued.Equal(first.Clearance.Issued) {
		t.Errorf("%+v, then %+v", first, again)
	}
	if c := b.cleared(g); c.ID != first.Clearance.ID {
		t.Errorf("the repeated request has %+v", c)
	}
	thief := newBrowser(t)
	thief.now = b.now
	thief.challenged(g, "/b") // a visitor cookie of its own
	if r := thief.redeem(g, p.Refresh); r.Outcome != Used || len(r.Cookies) != 0 {
		t.Errorf("another visitor: %+v", r)
	}
}

// shared is a store that edges have in common.
type shared struct {
	m   *redemption.Memory
	err error
}

func (s shared) Redeem(_ context.Context, r defense.Redemption) (defense.Redemption, bool, error) {
	if s.err != nil {
		return defense.Redemption{}, false, s.err
	}
	first, known := s.m.Note(r)
	return first, known, nil
}

func TestOfTwoEdgesOneRedeems(t *testing.T) {
	common := shared{m: redemption.NewMemory(1000)}
	a, c := newGate(t, refresh), newGate(t, refresh)
	a.Redemptions, c.Redemptions = common, common
	b, thief := newBrowser(t), newBrowser(t)
	p := b.challenged(a, "/a")
	thief.challenged(a, "/a")
	if r := b.solve(a, p); r.Outcome != Passed {
		t.Fatalf("%+v", r)
	}
	if r := b.redeem(c, p.Refresh); r.Outcome != Passed {
		t.Errorf("the same visitor at the other edge: %+v", r)
	}
	thief.now = b.now
	if r := thief.redeem(c, p.Refresh); r.Outcome != Used {
		t.Errorf("another visitor at the other edge: %+v", r)
	}
	// Without the store readers still pass.
	a.Redemptions = shared{err: errors.New("away")}
	if r := b.solve(a, b.challenged(a, "/b")); r.Outcome != Passed {
		t.Errorf("store away: %+v", r)
	}
}

func TestWrongClocksAndChangedAddressesDoNotLockOut(t *testing.T) {
	for _, d := range []time.Duration{-10 * time.Minute, -23 * time.Hour, 100 * time.Minute} {
		g, b := newGate(t, refresh), newBrowser(t)
		p := b.challenged(g, "/")
		b.now = b.now.Add(d)
		if r := b.redeem(g, p.Refresh); r.Outcome != Passed {
			t.Errorf("clock moved by %v: %+v", d, r)
		}
	}
	g, b := newGate(t), newBrowser(t)
	p := b.challenged(g, "/")
	b.address = "2001:db8::5" // dual stack
	if r := b.solve(g, p); r.Outcome != Passed {
		t.Fatalf("%+v", r)
	}
	if c := b.cleared(g); !c.Valid || c.Changed != 0 {
		t.Errorf("%+v", c)
	}
	b.address = "2001:db8::77"
	if c := b.cleared(g); !c.Valid || c.Changed != 0 {
		t.Errorf("another address of the network: %+v", c)
	}
	b.address, b.family = "198.51.100.9", defense.AgentApp
	if c := b.cleared(g); !c.Valid || c.Changed != 2 || c.Cost() != 4 {
		t.Errorf("another network and program: %+v", c)
	}
	for _, d := range []time.Duration{-24 * time.Hour, 8*24*time.Hour - time.Minute} {
		b := *b
		b.now = b.now.Add(d)
		if c := b.cleared(g); !c.Valid {
			t.Errorf("clock moved by %v: clearance void", d)
		}
	}
	b.now = b.now.Add(9 * 24 * time.Hour)
	if c := b.cleared(g); c.Valid {
		t.Error("a clearance does not run out")
	}
}

func TestCookiesOutliveWrongClocksAndSuitTheScheme(t *testing.T) {
	g := newGate(t)
	for _, tt := range []struct {
		secure, embedded bool
		has, lacks       string
	}{
		{false, false, "SameSite=Lax", "Secure"},
		{true, false, "SameSite=Lax; Secure", "Partitioned"},
		{true, true, "SameSite=None; Secure; Partitioned", "Lax"},
		{false, true, "SameSite=Lax", "Partitioned"},
	} {
		v := newBrowser(t).visit("/")
		v.Secure, v.Embedded = tt.secure, tt.embedded
		p, _ := g.Issue(v, defense.Ladder{})
		set := p.Cookies[0]
		if !strings.Contains(set, tt.has) || strings.Contains(set, tt.lacks) || strings.Contains(set, "Expires") || !strings.Contains(set, "; Max-Age=") || !strings.Contains(set, "; HttpOnly") || !strings.Contains(set, "; Path=/;") {
			t.Errorf("%+v: %s", tt, set)
		}
	}
}

func TestRefusedCookiesAreToldAtOnce(t *testing.T) {
	for _, k := range []defense.ChallengeKind{silent, refresh, working, asking} {
		g, b := newGate(t, k), newBrowser(t)
		b.refuses = true
		if r := b.solve(g, b.challenged(g, "/x")); r.Outcome != NoCookie || r.Cookies != nil || r.To != "/x" {
			t.Errorf("%s: %+v", k, r)
		}
	}
}

func TestAClearanceThatIsNotKeptEndsTheRounds(t *testing.T) {
	g, b := newGate(t, refresh), newBrowser(t)
	for range 2 {
		if r := b.solve(g, b.challenged(g, "/x")); r.Outcome != Passed {
			t.Fatalf("%+v", r)
		}
		delete(b.jar, clearanceCookie)
	}
	if _, looping := g.Issue(b.visit("/x"), defense.Ladder{}); !looping {
		t.Error("a third round")
	}
	b.now = b.now.Add(6 * time.Minute)
	if _, looping := g.Issue(b.visit("/x"), defense.Ladder{}); looping {
		t.Error("it is held against the visitor for ever")
	}
}

func TestWhatDoesNotWorkIsFollowedByAnotherWayAndAtLastByWords(t *testing.T) {
	g, b := newGate(t, silent, working, refresh), newBrowser(t)
	p := b.challenged(g, "/x")
	b.now = b.now.Add(p.Delay)
	r := b.redeem(g, p.Refresh) // a text browser loads no style sheet
	if r.Outcome != Again || r.Page.Kind != working {
		t.Fatalf("after silent: %+v", r)
	}
	r = b.redeem(g, r.Page.Pass+"&ticket="+r.Page.Ticket, "junk")
	if r.Outcome != Again || r.Page.Kind != refresh || r.Page.Notice != NoticeOther {
		t.Fatalf("after work: %+v", r)
	}
	if r := b.solve(g, r.Page); r.Outcome != Passed {
		t.Fatalf("%+v", r)
	}

	g, b = newGate(t, asking), newBrowser(t)
	p = b.challenged(g, "/x")
	rounds := 0
	for r = (Result{Outcome: Again, Page: p}); r.Outcome == Again; rounds++ {
		r = b.redeem(g, r.Page.Pass+"&ticket="+r.Page.Ticket, "no word of these")
	}
	if r.Outcome != GaveUp || rounds != maxAttempts+1 || r.To != "/x" {
		t.Errorf("after %d rounds: %+v", rounds, r)
	}
}

func TestAnOldPageLeadsToAFreshOne(t *testing.T) {
	g, b := newGate(t, refresh), newBrowser(t)
	p := b.challenged(g, "/x")
	b.now = b.now.Add(3 * time.Hour)
	r := b.redeem(g, p.Refresh)
	if r.Outcome != Again || r.Page.Notice != NoticeExpired || r.To != "/x" {
		t.Fatalf("%+v", r)
	}
	if r := b.solve(g, r.Page); r.Outcome != Passed {
		t.Errorf("%+v", r)
	}
}

func TestAQuestionIsNotAnsweredByFillingInEverything(t *testing.T) {
	g, b := newGate(t, asking), newBrowser(t)
	p := b.challenged(g, "/x")
	if len(p.Offered) != Choices || !slices.Contains(p.Offered, p.Word) {
		t.Fatalf("offered %v, asked %d", p.Offered, p.Word)
	}
	f := Form{Ticket: p.Ticket, To: "/x", Answer: words[p.Word], Trap: "https://example.org/"}
	if r := g.Redeem(b.visit(PassPath), &f); r.Outcome != Again || r.Page.Notice != NoticeWrong {
		t.Errorf("%+v", r)
	}
	asked := map[int]bool{}
	for range 200 {
		asked[b.challenged(g, "/x").Word] = true
	}
	if len(asked) < Words-2 {
		t.Errorf("of %d words %d are asked for", Words, len(asked))
	}
}

// fakeCaptcha stands for a provider.
type fakeCaptcha struct {
	good, away bool
	err        error
}

func (c *fakeCaptcha) Available() bool { return !c.away }
func (c *fakeCaptcha) Verify(_ context.Context, token, address, host string) (bool, error) {
	return c.good && token == "token" && host == "wiki.example.org", c.err
}

func TestAProvidersCheckAndItsOutage(t *testing.T) {
	g, b := newGate(t, provider, refresh), newBrowser(t)
	c := &fakeCaptcha{good: true}
	g.Captcha = c
	answer := func(p *Page, token string) Result {
		f := Form{Ticket: p.Ticket, To: "/x", Token: token}
		r := g.Redeem(b.visit(PassPath), &f)
		b.keep(r.Cookies)
		return r
	}
	p := b.challenged(g, "/x")
	if p.Kind != provider || p.Fallback == "" {
		t.Fatalf("%+v", p)
	}
	if r := answer(p, "token"); r.Outcome != Passed {
		t.Errorf("%+v", r)
	}
	c.good = false
	if r := answer(b.challenged(g, "/x"), "token"); r.Outcome != Again || r.Page.Kind != provider {
		t.Errorf("not solved: %+v", r)
	}
	c.err = errors.New("away")
	if r := answer(b.challenged(g, "/x"), "token"); r.Outcome != Again || r.Page.Kind != refresh {
		t.Errorf("outage: %+v", r)
	}
	c.away = true
	if p := b.challenged(g, "/x"); p.Kind != refresh {
		t.Errorf("while it is away: %s", p.Kind)
	}
}

func TestForgedPassAddressesLeadNowhere(t *testing.T) {
	g, b := newGate(t, refresh), newBrowser(t)
	p := b.challenged(g, "/x")
	b.now = b.now.Add(p.Delay)
	tk := p.Ticket
	for _, q := range []string{
		"", "ticket=", "ticket=" + tk, "ticket=" + tk + "&to=/y", "ticket=" + tk + "&to=//evil.example", "ticket=" + tk + "&to=%2F%2Fevil.example",
		"ticket=" + tk + "&to=https:evil.example", "ticket=" + tk + "&to=javascript:alert(1)", "ticket=" + tk + "&to=/%5Cevil.example",
		"ticket=" + tk + "&to=/%09/evil.example", "ticket=" + tk[:len(tk)-1] + "A&to=/x", "ticket=" + tk + "&to=/x%0d%0aSet-Cookie:a=b",
		"ticket=" + strings.Repeat("A", 4000) + "&to=/x",
	} {
		var f Form
		if !f.Parse(q, "") {
			t.Fatalf("%q does not parse", q)
		}
		if r := g.Redeem(b.visit(PassPath), &f); r.Outcome != Malformed || r.Cookies != nil || r.To != "/" {
			t.Errorf("%.80q: %+v", q, r)
		}
	}
	for _, q := range []string{"to=%", "to=%2", "to=%zz", strings.Repeat("a", MaxForm+1)} {
		if f := new(Form); f.Parse(q, "") {
			t.Errorf("%.20q parses as %+v", q, f)
		}
	}
}

func TestReturnNeverLeavesTheSite(t *testing.T) {
	g := newGate(t, refresh)
	for target, want := range map[string]string{
		"//evil.example/": "/.//evil.example/", `/\evil.example`: `/./\evil.example`, "///x": "/.///x", "/a//b": "/a//b", "https://evil.example/": "/",
		"": "/", "/" + strings.Repeat("x", maxTarget): "/", "/a\tb": "/", "/wiki/\xc3\xa4?q=\xff": "/wiki/%C3%A4?q=%FF", "/.quickthorn/pass?x": "/", "/a+b%20c?d=e+f&g": "/a+b%20c?d=e+f&g",
	} {
		b := newBrowser(t)
		if r := b.solve(g, b.challenged(g, target)); r.Outcome != Passed || r.To != want {
			t.Errorf("%q: %v to %q, want %q", target, r.Outcome, r.To, want)
		}
	}
}

func TestARenewedClearanceIsTheSame(t *testing.T) {
	g, b := newGate(t, refresh), newBrowser(t)
	b.solve(g, b.challenged(g, "/"))
	c := b.cleared(g)
	if set := g.Renew(&c, b.visit("/")); set != "" {
		t.Errorf("renewed at once: %s", set)
	}
	b.now = b.now.Add(4 * 24 * time.Hour)
	c = b.cleared(g)
	b.keep([]string{g.Renew(&c, b.visit("/"))})
	b.now = b.now.Add(6 * 24 * time.Hour)
	if r := b.cleared(g); !r.Valid || r.ID != c.ID || r.Day != c.Day || r.Kind != c.Kind {
		t.Errorf("%+v, renewed %+v", c, r)
	}
	b.address = "198.51.100.9"
	b.now = b.now.Add(4 * 24 * time.Hour)
	if c = b.cleared(g); g.Renew(&c, b.visit("/")) != "" {
		t.Error("renewed in another network")
	}
}

func TestANeighbourhoodThatPassesAllTheTimePaysMore(t *testing.T) {
	g := newGate(t)
	farm := func(i int) *browser {
		b := newBrowser(t)
		b.address = "198.51.100." + strconv.Itoa(i%250)
		b.now = noon.Add(time.Duration(i) * time.Second)
		return b
	}
	first := farm(0).challenged(g, "/")
	for i := range 800 {
		b := farm(i)
		p := b.challenged(g, "/")
		b.now = b.now.Add(p.Delay)
		b.redeem(g, p.Fallback)
	}
	b := farm(801)
	last := b.challenged(g, "/")
	if last.Puzzle.Bits < first.Puzzle.Bits+4 || last.Limit != first.Limit {
		t.Errorf("at first %+v, then %+v", first.Puzzle, last.Puzzle)
	}
	b.now = b.now.Add(last.Delay)
	if r := b.redeem(g, last.Fallback); r.Outcome != Passed || r.Clearance.Day > 200 || r.Clearance.Day < 100 {
		t.Errorf("%+v", r)
	}
	reader := newBrowser(t)
	reader.now = b.now
	if p := reader.challenged(g, "/"); p.Puzzle.Bits != first.Puzzle.Bits {
		t.Errorf("a reader elsewhere pays for it: %+v", p.Puzzle)
	}
	calm := farm(0)
	calm.now = b.now.Add(4 * time.Hour)
	if p := calm.challenged(g, "/"); p.Puzzle.Bits != first.Puzzle.Bits {
		t.Errorf("hours later: %+v", p.Puzzle)
	}
}

func TestThePassAddressIsLimitedPerNeighbourhood(t *testing.T) {
	g := newGate(t)
	client := defense.NewClient(netip.MustParseAddr("198.51.100.1"))
	admitted := 0
	for range 1000 {
		if ok, retry := g.Admit(&client, noon); ok {
			admitted++
		} else if retry <= 0 {
			t.Fatal("no time to wait")
		}
	}
	if admitted != passBurst {
		t.Errorf("%d admitted", admitted)
	}
	other := defense.NewClient(netip.MustParseAddr("203.0.113.1"))
	if ok, _ := g.Admit(&other, noon); !ok {
		t.Error("another neighbourhood is not admitted")
	}
}

func TestOneGoodCookieOfSeveralIsEnough(t *testing.T) {
	g, b := newGate(t, refresh), newBrowser(t)
	b.solve(g, b.challenged(g, "/"))
	good := b.jar[clearanceCookie]
	for _, line := range []string{
		"a=b; quickthorn-clearance=old; quickthorn-clearance=" + good, "quickthorn-clearance=\"" + good + "\"; x=y", "quickthorn-clearance=; quickthorn-clearance=" + good,
		"xquickthorn-clearance=1;quickthorn-clearance=" + good,
	} {
		client := defense.NewClient(netip.MustParseAddr(b.address))
		if c := g.Clearance(http.Header{"Cookie": {"z=1", line}}, &client, b.family, b.now); !c.Valid {
			t.Errorf("%q is no clearance", line)
		}
	}
}

func TestOurCookiesStayBetweenTheReaderAndTheEdge(t *testing.T) {
	for in, want := range map[string][]string{
		"a=b":                    {"a=b"},
		"quickthorn-clearance=x": nil,
		"a=b; quickthorn-visitor=x; c=d;quickthorn-seen=1": {"a=b; c=d"},
		"quickthorn-other=1": {"quickthorn-other=1"},
	} {
		h := http.Header{"Cookie": {in}}
		StripCookies(h)
		if got := h["Cookie"]; !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAnIssuedTokenIsReadFromItsHeader(t *testing.T) {
	g := newGate(t)
	text, err := g.Signer.IssueLong(&clearance.Issued{ID: 7, Name: "partner", Issued: noon, Expires: noon.Add(time.Hour), Budget: clearance.Budget{Minute: 600, Day: 10000}})
	if err != nil {
		t.Fatal(err)
	}
	client := defense.NewClient(netip.MustParseAddr("192.0.2.1"))
	c := g.Clearance(http.Header{clearance.Header: {text}}, &client, defense.AgentTool, noon.Add(time.Minute))
	if !c.Valid || c.Name != "partner" || c.Minute != 600 || c.ID != 7 || c.Kind != defense.ChallengeNone {
		t.Errorf("%+v", c)
	}
	if c := g.Clearance(http.Header{clearance.Header: {text}}, &client, defense.AgentTool, noon.Add(2*time.Hour)); c.Valid {
		t.Error("it does not run out")
	}
	if c := g.Clearance(http.Header{"Cookie": {"quickthorn-clearance=" + text}}, &client, defense.AgentTool, noon); c.Valid {
		t.Error("it serves as a cookie")
	}
}

func TestTheAlgorithmThatNeedsMemory(t *testing.T) {
	g, b := newGate(t), newBrowser(t)
	g.Algorithm = work.Memory
	p := b.challenged(g, "/")
	if p.Puzzle.Algorithm != work.Memory || p.Puzzle.Validate() != nil {
		t.Fatalf("%+v", p.Puzzle)
	}
	if r := b.solve(g, p); r.Outcome != Passed {
		t.Errorf("%+v", r)
	}
	for level := range uint8(maxLevel + 1) {
		for _, a := range []work.Algorithm{work.SHA256, work.Memory} {
			g.Algorithm = a
			p := g.puzzle(level)
			if err := p.Validate(); err != nil {
				t.Errorf("level %d: %v", level, err)
			}
		}
	}
}

func FuzzRedeem(f *testing.F) {
	g, b := newGate(f), newBrowser(f)
	p := b.challenged(g, "/x")
	f.Add("ticket="+p.Ticket+"&to=/x&answer=AAAA", "quickthorn-visitor="+b.jar[visitorCookie])
	f.Add("ticket="+p.Ticket+"&to=/x&plain=1", "")
	f.Fuzz(func(t *testing.T, query, cookies string) {
		var form Form
		if !form.Parse(query, "field") {
			return
		}
		b := *b
		b.t = t
		v := b.visit(PassPath)
		v.Header = http.Header{"Cookie": {cookies}}
		r := g.Redeem(v, &form)
		if !strings.HasPrefix(r.To, "/") || strings.HasPrefix(r.To, "//") || strings.HasPrefix(r.To, `/\`) || hasControl(r.To) {
			t.Fatalf("returns to %q", r.To)
		}
	})
}
