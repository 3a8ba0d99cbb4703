package casebook

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestReadersMakeNoCase(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(w *world)
	}{
		{"readers who follow links", func(w *world) {
			for i := range 300 {
				w.read(address(i), time.Duration(i)*time.Second, 1+i%9, chrome)
			}
		}},
		{"a flash crowd from a link aggregator", func(w *world) {
			for i := range 3000 {
				e := w.event(address(i), time.Duration(i)*50*time.Millisecond, "/wiki/Famous", chrome)
				if e.Request.Referrer = "https://news.example/"; i%3 == 0 {
					e.Request.Referrer = "" // from an application
				}
				e.Response.Duration = 4 // the site is slow now
				w.asset(address(i), time.Duration(i)*50*time.Millisecond+9*time.Second, chrome)
			}
		}},
		{"readers behind one address", func(w *world) {
			for i := range 200 {
				p := program{fmt.Sprintf("%s v%d", chrome.agent, i%7), fmt.Sprintf("%016x", 1+i%5), defense.AgentBrowser}
				w.read("198.51.100.1", time.Duration(i)*9*time.Second, 4, p)
			}
		}},
		{"readers with a cache and bookmarks who came earlier", func(w *world) {
			for i := range 60 {
				w.asset(address(i), -50*time.Minute, chrome)
				w.event(address(i), time.Duration(i)*time.Second, "/wiki/Start", chrome)
			}
		}},
		{"readers whose browsers revalidate", func(w *world) {
			for i := range 60 {
				w.event(address(i), time.Duration(i)*time.Second, "/wiki/Start", chrome).Response.Status = 304
			}
		}},
		{"readers of a site whose assets mostly come from a cache in front", func(w *world) {
			w.Book = New(w.o) // it was never different
			for i := range 300 {
				w.read(address(i), time.Duration(i)*time.Second, 3, chrome)
			}
			w.events = slices.DeleteFunc(w.events, func(e *defense.Event) bool {
				return e.Request.Kind == defense.KindAsset && !strings.HasSuffix(e.Client.Address, "7")
			})
			for i := range 100 {
				w.event(address(5000+i), 10*time.Minute+time.Duration(i)*time.Second, "/wiki/Bookmark", chrome)
			}
		}},
		{"feed readers", func(w *world) {
			for i := range 100 {
				for k := range 20 {
					e := w.event(address(i), time.Duration(k)*time.Minute, "/feed.atom", program{"FreshRSS/1.24", "2222222222222222", defense.AgentFeed})
					e.Request.Kind = defense.KindFeed
				}
				w.event(address(i), time.Hour/2, fmt.Sprintf("/wiki/New_%d", i), program{"FreshRSS/1.24", "2222222222222222", defense.AgentFeed})
			}
		}},
		{"git clones and API clients", func(w *world) {
			for i := range 100 {
				for k := range 20 {
					w.event(address(i), time.Duration(k)*time.Second, "/a.git/info/refs", program{"git/2.51", "3333333333333333", defense.AgentGit}).Request.Kind = defense.KindGit
					w.event(address(i), time.Duration(k)*time.Second, "/api/v1/x", program{"curl/8", "4444444444444444", defense.AgentTool}).Request.Kind = defense.KindAPI
				}
			}
		}},
		{"a search engine's crawlers, as long as nobody has proved who they are", func(w *world) {
			for i := range 100 {
				e := w.event(fmt.Sprintf("66.249.66.%d", i), time.Duration(i)*time.Second, fmt.Sprintf("/wiki/P%d", i), program{"Mozilla/5.0 (compatible; Googlebot/2.1)", "5555555555555555", defense.AgentCrawler})
				e.Identity = defense.EventIdentity{Crawler: "googlebot", Status: defense.IdentityUnverified}
			}
		}},
		{"verified crawlers, however fast", func(w *world) {
			for i := range 1000 {
				e := w.event("66.249.66.1", time.Duration(i)*100*time.Millisecond, fmt.Sprintf("/wiki/P%d", i), chrome)
				e.Identity = defense.EventIdentity{Crawler: "googlebot", Status: defense.IdentityVerified}
			}
		}},
		{"clients that the operator allows", func(w *world) {
			for i := range 1000 {
				e := w.event("66.249.66.1", time.Duration(i)*100*time.Millisecond, fmt.Sprintf("/wiki/P%d", i), chrome)
				e.Verdict = defense.EventVerdict{Action: defense.Allow, Rule: "decision:01M", Basis: defense.BasisOperator}
			}
		}},
		{"trusted addresses", func(w *world) {
			for i := range 1000 {
				w.event("10.0.0.9", time.Duration(i)*100*time.Millisecond, fmt.Sprintf("/wiki/P%d", i), chrome)
			}
		}},
		{"a few odd clients", func(w *world) {
			for i := range 15 {
				w.scrape(address(i), time.Duration(i)*time.Second, 3, chrome, revisions(i))
			}
		}},
		{"odd clients that are fewer than the new readers of the same pages", func(w *world) {
			for i := range 40 {
				w.scrape(address(i), time.Duration(i)*time.Second, 1, chrome, revisions(i))
			}
			for i := range 100 {
				e := w.event(address(1000+i), time.Duration(i)*300*time.Millisecond, "", chrome)
				e.Request.Path, e.Request.Query = revisions(i)(0)
				w.asset(address(1000+i), time.Duration(i)*300*time.Millisecond+time.Second, chrome)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.Trusted = append(o.Trusted, neighbourhood(parse(t, "10.0.0.0"))) })
			c.play(w)
			w.play(35 * time.Minute)
			w.none()
		})
	}
}

func TestACampaignIsFoundByWhatItsClientsShare(t *testing.T) {
	browsers := func(i int) program {
		return program{fmt.Sprintf("%s %d", chrome.agent, i), fmt.Sprintf("%016x", 77+i), defense.AgentBrowser}
	}
	for _, c := range []struct {
		name string
		play func(w *world, i int)
		key  string // how it begins
	}{
		{"one program and one kind of page", func(w *world, i int) {
			w.scrape(address(i), time.Duration(i)*time.Second/2, 5, chrome, revisions(i))
		}, "pattern:"},
		{"the agents change, the headers do not", func(w *world, i int) {
			w.scrape(address(i), time.Duration(i)*time.Second/2, 3, program{fmt.Sprintf("%s %d", chrome.agent, i), chrome.shape, defense.AgentBrowser}, revisions(i))
		}, "shape:"},
		{"one program that readers do not use, and many kinds of page", func(w *world, i int) {
			w.scrape(address(i), time.Duration(i)*time.Second/2, 3, browsers(0), func(k int) (string, string) {
				return fmt.Sprintf("/%c/%d", 'a'+(i+k)%26, i), fmt.Sprintf("%c=1", 'a'+(i/7)%26)
			})
		}, "program:"},
		{"every client asks for many kinds of page", func(w *world, i int) {
			w.scrape(address(i), time.Duration(i)*time.Second/2, 3, browsers(0), func(k int) (string, string) {
				return fmt.Sprintf("/%s/%d", [...]string{"a", "b", "c"}[k], i), fmt.Sprintf("%c=1", 'a'+i%5)
			})
		}, "program:"},
		{"every client is another, but they are neighbours", func(w *world, i int) {
			if i < 200 {
				w.scrape(fmt.Sprintf("203.0.113.%d", i), time.Duration(i)*time.Second/2, 3, browsers(i), revisions(i))
			}
		}, "203.0.113.0/24"},
		{"neighbours by IPv6", func(w *world, i int) {
			w.scrape(fmt.Sprintf("2001:db8:7:%x::1", i), time.Duration(i)*time.Second/2, 3, browsers(i), revisions(i))
		}, "2001:db8:7::/48"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for i := range 400 {
				c.play(w, i)
				w.read(address(100_000+i), time.Duration(i)*time.Second/2, 4, chrome)
			}
			w.play(time.Minute)
			got := w.the(defense.CaseCampaign)
			if !strings.HasPrefix(got.Key, c.key) || got.Site != "wiki" || got.ObserveOnly {
				t.Fatalf("key %s of site %q, want %s", got.Key, got.Site, c.key)
			}
			if got.Members.Count < 20 || len(got.Members.Sample) < 15 || len(got.Members.Sample) > maxSample || got.Posture != defense.Guarded || got.Family != defense.AgentBrowser {
				t.Errorf("%d members, %d shown, posture %s, family %s", got.Members.Count, len(got.Members.Sample), got.Posture, got.Family)
			}
			for _, m := range got.Members.Sample {
				if strings.HasPrefix(m, "12.") { // where the readers are
					t.Errorf("the reader %s is a member", m)
				}
			}
			if got.Readers > 5 {
				t.Errorf("%d readers share the key", got.Readers)
			}
			w.decide(got)
			w.play(6 * time.Minute)
			for _, other := range w.cases() {
				if other.ID != got.ID {
					t.Errorf("a second case, %s of %d members, beside %s", other.Key, other.Members.Count, got.Key)
				}
			}
			now, ok := w.Case(got.ID)
			if !ok || now.Members.Count < 190 || now.EventCount < 400 || len(now.Agents) == 0 || len(now.Paths) == 0 {
				t.Errorf("in the end: open %v, %d members, %d events, %d agents, %d paths", ok, now.Members.Count, now.EventCount, len(now.Agents), len(now.Paths))
			}
			f := now.Features.Values
			if f["assets"] != 0 || f["quiet"] < 0.9 || f["fresh"] != 1 || f["clients"] != float64(now.Members.Count) || f["readers"] > 0.1 {
				t.Errorf("features %v", f)
			}
			if _, ok := f["hours"]; ok {
				t.Error("the hours of clients that are not known for six hours were observed")
			}
		})
	}
}

func TestReadersThatShareTheKeyAreCounted(t *testing.T) {
	w := newWorld(t)
	for i := range 200 {
		w.scrape(address(i), time.Duration(i)*time.Second/4, 3, chrome, revisions(i))
	}
	for i := range 50 { // readers of old revisions, of whom some are cleared and some verified
		e := w.event(address(1000+i), time.Duration(i)*time.Second-20*time.Minute, "", chrome)
		e.Request.Path, e.Request.Query = revisions(i)(0)
		switch i % 3 {
		case 0:
			w.asset(address(1000+i), time.Duration(i)*time.Second-19*time.Minute, chrome)
			e.Time = e.Time.Add(time.Minute + time.Second)
		case 1:
			e.Client.Token = fmt.Sprint("token", i)
		default:
			e.Identity.Status = defense.IdentityVerified
		}
	}
	w.play(2 * time.Minute)
	c := w.the(defense.CaseCampaign)
	if c.Readers < 47 || c.Readers > 50 { // the first few of a key are not remembered
		t.Errorf("%d readers, want about 50", c.Readers)
	}
	if got := c.Features.Values["readers"]; got < 0.15 || got > 0.25 {
		t.Errorf("a share of %v readers, want about 0.2", got)
	}
}

func TestAClientThatNeverComesBackFromAChallengeIsOdd(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		at := time.Duration(i) * time.Second
		w.event(address(i), at, "/wiki/B", chrome).Request.Referrer = "https://news.example/"
		e := w.event(address(i), at, "/wiki/A", chrome)
		e.Kind, e.Challenge, e.Verdict.Action, e.Response.Status = "challenge", &defense.EventOutcome{Outcome: "issued"}, defense.Challenge, 429
		again := *e
		again.Time = again.Time.Add(30 * time.Second)
		w.events = append(w.events, &again)
	}
	w.play(3 * time.Minute)
	if c := w.the(defense.CaseCampaign); c.Members.Count < 40 {
		t.Errorf("%d members", c.Members.Count)
	}
}

func TestAClientThatPassesAChallengeIsAReader(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		at := time.Duration(i) * time.Second
		e := w.event(address(i), at, "/wiki/A", chrome)
		e.Kind, e.Challenge, e.Verdict.Action, e.Response.Status = "challenge", &defense.EventOutcome{Outcome: "issued"}, defense.Challenge, 429
		e = w.event(address(i), at+3*time.Second, "/.quickthorn/pass", chrome)
		e.Kind, e.Challenge, e.Response.Status = "challenge", &defense.EventOutcome{Outcome: "passed"}, 303
		e = w.event(address(i), at+4*time.Second, "/wiki/A", chrome)
		e.Client.Token = fmt.Sprint("token", i)
	}
	w.play(3 * time.Minute)
	w.none()
}

func TestAProgramThatReadersUseIsNoKey(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Window = 20 * time.Minute })
	for i := range 200 { // earlier, so that they are not new
		w.read(address(5000+i), time.Duration(i)*100*time.Millisecond-50*time.Minute, 3, chrome)
		w.scrape(address(i), time.Duration(i)*time.Second/4, 3, chrome, func(k int) (string, string) {
			return fmt.Sprintf("/%c/%d", 'a'+(i+k)%26, i), fmt.Sprintf("%c=1", 'a'+(i/7)%26)
		})
	}
	w.play(3 * time.Minute)
	for _, c := range w.cases() {
		if strings.HasPrefix(c.Key, "program:") {
			t.Errorf("%s with %d members and %d readers", c.Key, c.Members.Count, c.Readers)
		}
	}
}

func TestMembersOfACampaignThatIsDealtWithAreNoEvidenceOfAnother(t *testing.T) {
	w := newWorld(t)
	for i := range 300 {
		w.scrape(address(i), time.Duration(i)*time.Second/2, 3, chrome, revisions(i))
	}
	w.play(time.Minute)
	c := w.the(defense.CaseCampaign)
	w.decide(c)
	for i := range 12 { // some others use the same program for other pages
		w.scrape(address(1000+i), time.Minute+time.Duration(i)*time.Second, 2, chrome, func(k int) (string, string) {
			return fmt.Sprintf("/%c/1", 'a'+i), ""
		})
	}
	w.play(4 * time.Minute)
	for _, other := range w.cases() {
		if other.ID != c.ID {
			t.Errorf("%s of %d members was opened beside %s", other.Key, other.Members.Count, c.Key)
		}
	}
}

func TestAMemberOfACampaignThatIsDealtWithNeedsNoCaseOfItsOwn(t *testing.T) {
	for _, decided := range []bool{true, false} {
		w := newWorld(t)
		inOrder := func(i int) (string, string) { return "/w/index.php", fmt.Sprintf("oldid=%d", i) }
		for i := range 60 {
			w.scrape(address(i), time.Duration(i)*time.Second/2, 2, chrome, inOrder)
		}
		w.play(45 * time.Second)
		c := w.the(defense.CaseCampaign)
		w.judge(c, defense.OutcomeWatch)
		if decided {
			w.decide(c)
		}
		w.scrape("192.0.2.1", time.Minute, 7, chrome, inOrder)
		w.play(8 * time.Minute)
		own := slices.ContainsFunc(w.cases(), func(c defense.Case) bool { return c.Kind == defense.CaseClient })
		if own == decided {
			t.Errorf("decided %v: a case of its own %v", decided, own)
		}
	}
}

func TestAMemberThatTurnsOutToBeAReaderIsNotShown(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.scrape(address(i), time.Duration(i)*time.Second/2, 3, chrome, revisions(i))
	}
	w.play(time.Minute)
	c := w.the(defense.CaseCampaign)
	shown := c.Members.Sample[len(c.Members.Sample)-3:]
	e := w.event(shown[0], 61*time.Second, "/.quickthorn/pass", chrome) // from a tab in the background
	e.Kind, e.Challenge = "challenge", &defense.EventOutcome{Outcome: "passed"}
	w.asset(shown[1], 61*time.Second, chrome)
	w.event(shown[2], 61*time.Second, "/wiki/A", chrome).Client.Token = "token"
	w.play(62 * time.Second)
	now, _ := w.Case(c.ID)
	for _, m := range shown {
		if slices.Contains(now.Members.Sample, m) {
			t.Errorf("%s is still shown as a member", m)
		}
	}
	if len(now.Members.Sample) < 20 {
		t.Errorf("%d members are shown", len(now.Members.Sample))
	}
}

func TestRecalledEventsMakeReadersKnownAndNobodySuspicious(t *testing.T) {
	w := newWorld(t)
	for i := range 200 { // the archive has the pages of some and an asset of others
		e := w.event(address(i), -30*time.Minute+time.Duration(i)*time.Second, "", chrome)
		e.Request.Path, e.Request.Query = revisions(i)(0)
		if i%2 == 0 {
			w.asset(address(i), -31*time.Minute+time.Duration(i)*time.Second, chrome)
		}
	}
	w.hammer("192.0.2.1", -20*time.Minute, 100)
	slices.SortStableFunc(w.events, func(a, b *defense.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range w.events {
		w.Recall(e)
	}
	w.events = nil
	for i := range 100 { // those of whom no asset was kept come again, with everything in their caches
		e := w.event(address(2*i+1), time.Duration(i)*time.Second/4, "", chrome)
		e.Request.Path, e.Request.Query = revisions(i)(0)
	}
	w.play(time.Minute)
	w.none()
	for i := range 400 {
		w.scrape(address(1000+i), time.Minute+time.Duration(i)*time.Second/4, 3, chrome, revisions(i))
	}
	w.play(4 * time.Minute)
	if c := w.the(defense.CaseCampaign); c.Readers < 90 {
		t.Errorf("%d readers are known, of 100 that were recalled", c.Readers)
	}
}

func TestACampaignIsFoundOnASiteWhosePagesNameNoReferrer(t *testing.T) {
	w := newWorld(t)
	w.Book = New(w.o)
	for i := range 200 {
		w.read(address(1000+i), -time.Minute+time.Duration(i)*time.Second, 3, firefox)
		w.scrape(address(i), time.Duration(i)*time.Second, 3, chrome, revisions(i))
	}
	for _, e := range w.events {
		e.Request.Referrer = ""
	}
	w.play(2 * time.Minute)
	w.the(defense.CaseCampaign)
}

func TestEventsThatComeLateBringTheirAssetsAsLate(t *testing.T) {
	w := newWorld(t)
	for i := range 100 { // an edge that was cut off for half an hour sends what it kept: pages first, assets some seconds later
		w.event(address(i), -30*time.Minute+time.Duration(i)*time.Second, fmt.Sprintf("/wiki/P%d", i), chrome)
	}
	late := w.events
	w.events = nil
	for i := range 100 {
		w.asset(address(i), -30*time.Minute+time.Duration(i)*time.Second+time.Second, chrome)
	}
	assets := w.events
	w.events = nil
	for _, e := range late {
		w.Observe(e)
	}
	w.play(5 * time.Second)
	for _, e := range assets {
		w.Observe(e)
	}
	w.play(2 * time.Minute)
	w.none()
}

func TestAJudgedCampaignIsNotOpenedAgainUnderABroaderKey(t *testing.T) {
	w := newWorld(t)
	for i := range 400 {
		w.scrape(address(i), time.Duration(i)*time.Second/2, 3, chrome, revisions(i))
	}
	w.play(time.Minute)
	c := w.the(defense.CaseCampaign)
	w.judge(c, defense.OutcomeWatch)
	w.play(3 * time.Minute)
	for _, other := range w.cases() {
		if other.ID != c.ID {
			t.Errorf("%s was opened beside %s", other.Key, c.Key)
		}
	}
}

func TestACampaignThatEndsRestsAndKeepsItsNameForTheNextWave(t *testing.T) {
	w := newWorld(t)
	wave := func(from time.Duration, first int) {
		for i := first; i < first+100; i++ {
			w.scrape(address(i), from+time.Duration(i-first)*time.Second/2, 3, chrome, revisions(i))
		}
	}
	wave(0, 0)
	w.play(2 * time.Minute)
	c := w.the(defense.CaseCampaign)
	w.decide(c)
	w.play(4 * time.Hour)
	if _, open := w.Case(c.ID); open || w.Stats().Dormant != 1 {
		t.Fatalf("after hours of quiet: open %v, dormant %d", open, w.Stats().Dormant)
	}
	wave(4*time.Hour, 1000)
	w.play(4*time.Hour + 2*time.Minute)
	if again := w.the(defense.CaseCampaign); again.ID != c.ID || again.Strikes != 1 || again.Outcome != defense.OutcomeOpen || again.Revision <= c.Revision {
		t.Errorf("the next wave is case %s with %d strikes, outcome %q, revision %d after %d", again.ID, again.Strikes, again.Outcome, again.Revision, c.Revision)
	}
}

func TestOnsetComparesWithWhatIsUsual(t *testing.T) {
	var r rhythm
	at := start.UnixMilli()
	for range 100 {
		r.add(at, 10)
		at += slotLength
	}
	r.add(at, 200)
	if got := r.onset(at + 1000); got < 19 || got > 21.5 {
		t.Errorf("twenty times the usual is %v", got)
	}
	if got := r.onset(at + 400*slotLength); got != 0 {
		t.Errorf("after a day of quiet the onset is %v", got)
	}
}
