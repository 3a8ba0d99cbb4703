package escalation

import (
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestClientsAreJudgedByWhatTheyDo(t *testing.T) {
	tests := []struct {
		name    string
		c       *defense.Case
		change  func(c *defense.Case)
		outcome defense.CaseOutcome
		action  defense.Action
	}{
		// Readers.
		{"a reader", client("192.0.2.1", reader()), nil, defense.OutcomeClear, defense.Allow},
		{"a reader without JavaScript", client("192.0.2.1", reader().with(values{"assets": 1.5})), nil, defense.OutcomeClear, defense.Allow},
		{"a reader who blocks images and referrers", client("192.0.2.1", reader().with(values{"assets": 0, "referred": 0, "revalidated": 0})), nil, defense.OutcomeClear, defense.Allow},
		{"a reader with a text browser", client("192.0.2.1", reader().with(values{"assets": 0, "referred": 0, "revalidated": 0, "score": 20})), func(c *defense.Case) { c.Family = defense.AgentUnknown }, defense.OutcomeClear, defense.Allow},
		{"a reader who opens thirty tabs at once", client("192.0.2.1", reader().with(values{"burst": 30, "rate": 35, "navigations": 35, "breadth": 1, "referred": 0.95})), nil, defense.OutcomeClear, defense.Allow},
		{"a reader of a site that the assets come from elsewhere", func() *defense.Case {
			f := reader()
			delete(f, "assets")
			delete(f, "revalidated")
			return client("192.0.2.1", f)
		}(), nil, defense.OutcomeClear, defense.Allow},
		{"a prefetcher that follows a hidden link", client("192.0.2.1", reader().with(values{"traps": 1})), nil, defense.OutcomeDecided, defense.Challenge},
		{"an extension that follows every hidden link", client("192.0.2.1", reader().with(values{"traps": 30})), nil, defense.OutcomeDecided, defense.Challenge},
		{"an office behind one address", client("192.0.2.1", reader().with(values{
			"requests": 6000, "navigations": 900, "rate": 30, "burst": 12, "hours": 0.5, "breadth": 0.8, "agents": 25, "shapes": 12, "assets": 3, "regularity": 0.5,
		})), nil, defense.OutcomeClear, defense.Allow},
		{"a reader whose browser keeps no cookies, shown challenge after challenge", client("192.0.2.1", values{
			"requests": 30, "navigations": 25, "rate": 12, "burst": 4, "regularity": 0.45, "breadth": 0.2, "assets": 0, "referred": 0.1, "unlinked": 0.1, "challenged": 23, "solved": 0, "score": 0, "agents": 1, "shapes": 1,
		}), nil, defense.OutcomeClear, defense.Allow},
		{"somebody who passed the challenge and reads a lot", client("192.0.2.1", reader().with(values{"navigations": 120, "rate": 8, "challenged": 1, "solved": 1})), nil, defense.OutcomeClear, defense.Allow},

		// Scrapers that claim a browser.
		{"a scraper with a browser's name", client("192.0.2.1", scraper()), nil, defense.OutcomeDecided, defense.Challenge},
		{"a scraper that goes on through all challenges", client("192.0.2.1", scraper().with(values{"challenged": 150, "solved": 0, "score": 30})), nil, defense.OutcomeDecided, defense.Tarpit},
		{"the same, and it never sleeps", client("192.0.2.1", scraper().with(values{"challenged": 1500, "solved": 0, "score": 50, "hours": 1, "sequential": 0.7})), nil, defense.OutcomeDecided, defense.Deny},
		{"the same on an address that readers share", client("192.0.2.1", scraper().with(values{"challenged": 150, "solved": 0, "score": 30})), func(c *defense.Case) { c.Readers = 2 }, defense.OutcomeDecided, defense.Challenge},
		{"a scraper that solves the challenge and goes on", client("192.0.2.1", scraper().with(values{"rate": 60, "regularity": 0.97, "sequential": 0.9, "challenged": 1, "solved": 1})), nil, defense.OutcomeDecided, defense.Challenge},
		{"a scraper that only hurries", client("192.0.2.1", reader().with(values{"rate": 90, "burst": 40, "navigations": 400, "regularity": 0.99, "revalidated": 0, "assets": 0.5, "referred": 0.2, "unlinked": 0.3})), nil, defense.OutcomeWatch, defense.Allow},
		{"a scraper without a name", client("2001:db8:1:2::/64", scraper()), func(c *defense.Case) { c.Family = defense.AgentNone }, defense.OutcomeDecided, defense.Deny},

		// Robots by their own word.
		{"a polite crawler", client("192.0.2.1", scraper().with(values{"disallowed": 0, "rate": 6, "regularity": 1, "queried": 0.1, "patternShare": 0.5})), crawler("gptbot"), defense.OutcomeClear, defense.Allow},
		{"a crawler that ignores robots.txt and hurries", client("192.0.2.1", scraper().with(values{"rate": 60, "burst": 30, "disallowed": 0.8, "sequential": 0.6, "depth": 5})), crawler("gptbot"), defense.OutcomeDecided, defense.Tarpit},
		{"a crawler that ignores robots.txt at a slow pace", client("192.0.2.1", scraper().with(values{"rate": 2, "navigations": 60, "disallowed": 0.8, "sequential": 0, "depth": 3, "queried": 0.2})), crawler("gptbot"), defense.OutcomeWatch, defense.Allow},
		{"Googlebot that has proved it", client("192.0.2.1", scraper().with(values{"traps": 3})), func(c *defense.Case) {
			c.Family, c.Identity = defense.AgentCrawler, defense.EventIdentity{Crawler: "googlebot", Status: defense.IdentityVerified, How: "dns"}
		}, defense.OutcomeClear, defense.Allow},
		{"Googlebot, polite, that has not proved it", client("192.0.2.1", scraper().with(values{"disallowed": 0, "rate": 12, "regularity": 1})), crawler("googlebot"), defense.OutcomeClear, defense.Allow},
		{"Googlebot, unproved, that follows a hidden link", client("192.0.2.1", scraper().with(values{"disallowed": 0, "rate": 6, "traps": 1, "queried": 0.1, "patternShare": 0.5})), crawler("googlebot"), defense.OutcomeClear, defense.Allow},
		{"Googlebot by name, that behaves like none", client("192.0.2.1", scraper().with(values{"rate": 120, "burst": 60, "disallowed": 0.9, "sequential": 1, "traps": 5, "depth": 7})), crawler("googlebot"), defense.OutcomeDecided, defense.Throttle},
		{"the same, disproved", client("192.0.2.1", scraper().with(values{"rate": 120, "burst": 60, "disallowed": 0.9, "sequential": 1, "traps": 5, "depth": 7})), func(c *defense.Case) {
			c.Family, c.Identity = defense.AgentCrawler, defense.EventIdentity{Crawler: "googlebot", Status: defense.IdentityImpostor}
		}, defense.OutcomeDecided, defense.Deny},
		{"a feed reader that polls like a clock", client("192.0.2.1", values{"requests": 60, "navigations": 0, "regularity": 1, "agents": 1, "score": 0}), family(defense.AgentFeed), defense.OutcomeClear, defense.Allow},
		{"a feed reader that fetches the pages, too", client("192.0.2.1", values{"navigations": 40, "rate": 10, "regularity": 1, "assets": 0, "referred": 0, "unlinked": 1, "breadth": 1, "disallowed": 0.5}), family(defense.AgentFeed), defense.OutcomeClear, defense.Allow},
		{"git", client("192.0.2.1", values{"requests": 40, "navigations": 0, "regularity": 1, "score": 0}), family(defense.AgentGit), defense.OutcomeClear, defense.Allow},
		{"somebody's script that fetches a few pages", client("192.0.2.1", values{"navigations": 8, "rate": 8, "regularity": 1, "assets": 0, "referred": 0, "unlinked": 1, "breadth": 1, "disallowed": 0.3}), family(defense.AgentTool), defense.OutcomeClear, defense.Allow},

		// What nothing can be decided about.
		{"a scraper whose source vouches for no address", client("192.0.2.1", scraper()), func(c *defense.Case) { c.ObserveOnly = true }, defense.OutcomeWatch, defense.Allow},
		{"a scraper that is known by a token", client("token:abc", scraper()), nil, defense.OutcomeWatch, defense.Allow},
		{"a scraper on an address that no decision falls on", client("203.0.113.7", scraper()), nil, defense.OutcomeWatch, defense.Allow},
		{"a case in whose features nothing was observed", client("192.0.2.1", nil), nil, defense.OutcomeClear, defense.Allow},
		{"features of another version", client("192.0.2.1", scraper()), func(c *defense.Case) { c.Features.Schema = 99 }, defense.OutcomeClear, defense.Allow},
	}
	e := newEngine(t, exempt("203.0.113.0/24"))
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Revision = uint64(i)
			if tt.change != nil {
				tt.change(tt.c)
			}
			j := judge(t, e, tt.c)
			if j.Outcome != tt.outcome || action(j) != tt.action {
				t.Errorf("%s, %s at %.3f; want %s, %s\n%s", j.Outcome, action(j), j.Score, tt.outcome, tt.action, explain(j))
			}
			if len(j.Proposals) > 1 {
				t.Errorf("%d proposals for one client", len(j.Proposals))
			}
		})
	}
}

func TestCampaignsAreJudgedByWhatTheirMembersShare(t *testing.T) {
	const pattern, shape, program, network = "pattern:9f2c41d07b3ea865", "shape:9f2c41d07b3ea865", "program:9f2c41d07b3ea865", "198.51.100.0/24"
	readers := func(n uint64) func(*defense.Case) { return func(c *defense.Case) { c.Readers = n } }
	flash := values{
		"requests": 30, "navigations": 2, "assets": 4, "referred": 0.9, "unlinked": 0.05, "score": 0, "languageless": 0, "challenged": 0, "traps": 0,
		"clients": 3000, "fresh": 0.99, "quiet": 0.1, "spread": 0.9, "agentsPerShape": 12, "onset": 40, "readers": 0.9,
	}
	tests := []struct {
		name    string
		c       *defense.Case
		change  func(c *defense.Case)
		outcome defense.CaseOutcome
		scope   defense.Scope // of the first proposal
		action  defense.Action
		count   int
	}{
		{"a distributed campaign", campaign(pattern, 600, quietCrowd()), readers(10), defense.OutcomeDecided, defense.ScopeFingerprint, defense.Challenge, 1},
		{"its first minute, when each has asked for one page", campaign(pattern, 40, values{
			"navigations": 1, "assets": 0, "clients": 40, "fresh": 1, "quiet": 1, "spread": 1, "onset": 8, "readers": 0.1, "score": 0, "depth": 4,
		}), readers(4), defense.OutcomeDecided, defense.ScopeFingerprint, defense.Challenge, 1},
		{"a campaign whose members rotate their agents", campaign(shape, 600, quietCrowd().with(values{"agentsPerShape": 60})), readers(10), defense.OutcomeDecided, defense.ScopeFingerprint, defense.Challenge, 1},
		{"a campaign after it has met challenges", campaign(program, 600, quietCrowd().with(values{"challenged": 3, "solved": 0.01})), readers(10), defense.OutcomeDecided, defense.ScopeFingerprint, defense.Challenge, 1},
		{"a campaign from one network", campaign(network, 60, quietCrowd()), readers(2), defense.OutcomeDecided, defense.ScopeRange, defense.Challenge, 1},
		{"a campaign of a tool", campaign(program, 600, quietCrowd().with(values{"disallowed": 0.6, "sequential": 0.8, "challenged": 2, "solved": 0})), family(defense.AgentTool), defense.OutcomeDecided, defense.ScopeFingerprint, defense.Throttle, 1},

		{"as many readers share the pattern as there are members", campaign(pattern, 600, quietCrowd()), readers(600), defense.OutcomeDecided, defense.ScopeFingerprint, defense.Challenge, 1},
		{"more readers share the pattern than there are members", campaign(pattern, 600, quietCrowd()), readers(700), defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a third of who shares the program are readers", campaign(program, 600, quietCrowd()), readers(300), defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a seventh of a network are readers", campaign(network, 60, quietCrowd()), readers(10), defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a network is not judged by a few members", campaign(network, 19, quietCrowd()), nil, defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a network is not judged by one member", campaign(network, 1, quietCrowd()), nil, defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a large network is not judged as one", campaign("198.0.0.0/8", 6000, quietCrowd()), nil, defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a network that holds a trusted proxy", campaign("203.0.0.0/16", 600, quietCrowd()), nil, defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a quiet day", campaign(pattern, 600, quietCrowd()), func(c *defense.Case) { c.Posture = defense.Calm }, defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"a key that says nothing", campaign("elephant", 600, quietCrowd()), nil, defense.OutcomeDecided, defense.ScopeAddress, defense.Challenge, 3},
		{"no member is known", campaign("elephant", 600, quietCrowd()), func(c *defense.Case) { c.Members.Sample = []string{"x", "203.0.113.9"} }, defense.OutcomeWatch, 0, defense.Allow, 0},
		{"a source that vouches for no address", campaign(pattern, 600, quietCrowd()), func(c *defense.Case) { c.ObserveOnly = true }, defense.OutcomeWatch, 0, defense.Allow, 0},

		{"a flash crowd", campaign(pattern, 3000, flash), readers(2700), defense.OutcomeClear, 0, defense.Allow, 0},
		{"a flash crowd whose assets the site does not see", func() *defense.Case {
			f := flash.with(values{"quiet": 0, "readers": 0})
			delete(f, "quiet")
			delete(f, "assets")
			return campaign(pattern, 3000, f)
		}(), nil, defense.OutcomeClear, 0, defense.Allow, 0},
		{"a crowd of which nothing but the crowd is known", campaign(pattern, 3000, values{"clients": 5000, "fresh": 1, "spread": 1, "onset": 100, "readers": 0}), nil, defense.OutcomeWatch, 0, defense.Allow, 0},
		{"the machines of a polite crawler", campaign(program, 80, quietCrowd().with(values{"disallowed": 0})), crawler("gptbot"), defense.OutcomeWatch, 0, defense.Allow, 0},
		{"the machines of a search engine's crawler, unproved", campaign(program, 80, quietCrowd().with(values{"disallowed": 0.9, "sequential": 1})), crawler("googlebot"), defense.OutcomeWatch, 0, defense.Allow, 0},
		{"readers of feeds", campaign(program, 500, quietCrowd()), family(defense.AgentFeed), defense.OutcomeClear, 0, defense.Allow, 0},
	}
	e := newEngine(t, exempt("203.0.113.0/24"))
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Revision = uint64(i)
			if tt.change != nil {
				tt.change(tt.c)
			}
			j := judge(t, e, tt.c)
			if j.Outcome != tt.outcome || action(j) != tt.action || len(j.Proposals) != tt.count {
				t.Fatalf("%s, %d× %s at %.3f; want %s, %d× %s\n%s", j.Outcome, len(j.Proposals), action(j), j.Score, tt.outcome, tt.count, tt.action, explain(j))
			}
			for _, p := range j.Proposals {
				if p.Action != defense.Challenge && p.Action != defense.Throttle {
					t.Errorf("a campaign meets %s", p.Action)
				}
				if p.Seconds < 60 || p.Seconds > 3600 {
					t.Errorf("for %d s", p.Seconds)
				}
			}
			if tt.count > 0 && j.Proposals[0].Scope != tt.scope {
				t.Errorf("scope %s, want %s", j.Proposals[0].Scope, tt.scope)
			}
		})
	}
}

func TestMembersAreNamedOnceAndAsTheyAreCounted(t *testing.T) {
	e := newEngine(t)
	c := campaign("pattern:9f2c41d07b3ea865", 600, quietCrowd())
	c.Posture = defense.Calm
	j := judge(t, e, c)
	want := []string{"198.51.100.1", "198.51.100.2", "2001:db8:1:2::/64"}
	for i, p := range j.Proposals {
		if p.Value != want[i] {
			t.Errorf("proposal %d is about %s", i, p.Value)
		}
		scope := defense.ScopeAddress
		if i == 2 {
			scope = defense.ScopeRange // a /64 is one client
		}
		d := defense.Decision{Scope: p.Scope, Value: p.Value, Action: p.Action, Origin: "engine", Reason: p.Reason, Created: at(), Expires: at().Add(time.Duration(p.Seconds) * time.Second)}
		if err := d.Normalize(); err != nil || p.Scope != scope || d.Value != p.Value {
			t.Errorf("%s %s: %v", p.Scope, p.Value, err)
		}
	}
}

func TestEachStrikeDoublesTheTimeUpToALimit(t *testing.T) {
	e := newEngine(t)
	for i, tt := range []struct {
		c       *defense.Case
		strikes int
		want    time.Duration
	}{
		{client("192.0.2.1", scraper()), 0, 15 * time.Minute},
		{client("192.0.2.1", scraper()), 1, 30 * time.Minute},
		{client("192.0.2.1", scraper()), 4, 4 * time.Hour},
		{client("192.0.2.1", scraper()), 1 << 40, 7 * 24 * time.Hour},
		{client("192.0.2.1", reader().with(values{"traps": 1})), 0, 15 * time.Minute},
		{campaign("pattern:9f2c41d07b3ea865", 600, quietCrowd()), 0, 15 * time.Minute},
		{campaign("pattern:9f2c41d07b3ea865", 600, quietCrowd()), 2, time.Hour},
		{campaign("pattern:9f2c41d07b3ea865", 600, quietCrowd()), 50, time.Hour},
	} {
		tt.c.Revision, tt.c.Strikes = uint64(i), tt.strikes
		j := judge(t, e, tt.c)
		if len(j.Proposals) != 1 || j.Proposals[0].Seconds != int64(tt.want/time.Second) {
			t.Errorf("%d strikes: %+v, want %s", tt.strikes, j.Proposals, tt.want)
		}
	}
}

func crawler(id string) func(*defense.Case) {
	return func(c *defense.Case) {
		c.Family, c.Identity = defense.AgentCrawler, defense.EventIdentity{Crawler: id, Status: defense.IdentityUnverified}
	}
}

func family(f defense.AgentFamily) func(*defense.Case) {
	return func(c *defense.Case) { c.Family = f }
}
