package escalation

import "github.com/quickthorn/quickthorn/internal/defense"

// who a rule is about.
type who uint8

const (
	everybody who = iota
	clients
	campaigns
)

// rule says what one feature means. Above 0 is towards unwanted automation.
type rule struct {
	feature string
	group   string
	who     who
	// undeclared: not about who says that it is a robot.
	undeclared bool
	// served: not held against whom challenges kept from the pages.
	served bool
	// pages: not held against a client that asked for fewer.
	pages float64
	// value is what the curve gets, if it is not the feature itself.
	value func(v *view) (float64, bool)
	curve curve
	// bad and good say it for people, as the rest of a sentence about the client, without hostile text.
	bad, good func(v *view, x float64) string
}

// perPerson is a feature of a client divided by the people who seem to share its address.
func perPerson(name string) func(v *view) (float64, bool) {
	return func(v *view) (float64, bool) {
		x, ok := v.get(name)
		return x / v.persons, ok
	}
}

// newRules returns what each feature means. Where the numbers are judgement, the tests say what must follow from them: a person's
// pauses vary (a variation coefficient of 1 gives a regularity of 0.5), opens up to ten tabs at once, and reads a page for seconds;
// browsers fetch what pages are made of, unless they have it. The features requests, bytes and shapes say nothing by themselves.
func newRules() []rule {
	return []rule{
		// Timing. Robots that say so may come at their own pace as long as it does not hurt.
		{feature: "rate", group: groupTiming, who: clients, pages: 10, value: perPerson("rate"),
			curve: curve{{5, 0}, {15, 0.6}, {40, 1.2}, {90, 1.6}}, bad: paceClause},
		{feature: "burst", group: groupTiming, who: clients, pages: 10, value: perPerson("burst"),
			curve: curve{{10, 0}, {20, 0.6}, {50, 1.2}}, bad: burstClause},
		{feature: "navigations", group: groupTiming, who: clients, value: perPerson("navigations"),
			curve: curve{{150, 0}, {400, 0.6}, {1000, 1}}, bad: volumeClause},
		{feature: "regularity", group: groupTiming, undeclared: true, pages: 5,
			curve: curve{{0.35, -0.5}, {0.5, 0}, {0.65, 0.3}, {0.8, 0.9}, {0.95, 1.4}}, bad: says("paused equally long between pages"), good: says("paused as people do")},
		{feature: "hours", group: groupTiming, who: clients, undeclared: true, value: func(v *view) (float64, bool) {
			x, ok := v.get("hours")
			return x, ok && v.persons < 3 // a family is awake in turns
		}, curve: curve{{0.6, 0}, {0.8, 0.6}, {1, 1.2}}, bad: hoursClause},

		// Paths.
		{feature: "unlinked", group: groupPaths, undeclared: true, served: true, pages: 3,
			curve: curve{{0.1, -0.7}, {0.3, 0}, {0.7, 0.8}, {1, 1.3}}, bad: share("went to pages that no page visited before links to"), good: says("followed the site's own links")},
		{feature: "sequential", group: groupPaths, pages: 5,
			curve: curve{{0.3, 0}, {0.7, 0.8}, {1, 1.2}}, bad: says("counted pages through by their numbers")},
		{feature: "breadth", group: groupPaths, who: clients, undeclared: true, pages: 20,
			curve: curve{{0.85, 0}, {1, 0.6}}, bad: says("hardly ever came back to a page")},
		{feature: "patternShare", group: groupPaths, who: clients, pages: 20,
			curve: curve{{0.8, 0}, {1, 0.5}}, bad: says("asked for one kind of page only")},
		{feature: "queried", group: groupPaths, pages: 5,
			curve: curve{{0.6, 0}, {1, 0.4}}, bad: says("asked mostly for pages with a query")},
		{feature: "depth", group: groupPaths, pages: 5,
			curve: curve{{4, 0}, {7, 0.4}}, bad: says("asked for pages deep in the site")},

		// What browsers do besides.
		{feature: "assets", group: groupAssets, undeclared: true, served: true, pages: 3,
			curve: curve{{0, 1.2}, {0.15, 0.6}, {0.5, 0}, {1.5, -0.8}, {3, -1.4}}, bad: assetsClause, good: says("fetched what pages are made of")},
		{feature: "revalidated", group: groupAssets,
			curve: curve{{0.02, 0}, {0.1, -0.6}, {0.4, -1.2}}, good: says("came back to what a browser had kept")},
		{feature: "quiet", group: groupAssets, who: campaigns, undeclared: true,
			curve: curve{{0.2, -1.6}, {0.5, -0.4}, {0.7, 0.4}, {0.95, 1.4}}, bad: quietClause, good: says("went on to read")},

		// Referrers. They are easily invented, so that they say little for anybody.
		{feature: "referred", group: groupReferrers, undeclared: true, served: true, pages: 4,
			curve: curve{{0, 0.7}, {0.2, 0}, {0.5, -0.3}, {0.9, -0.7}}, bad: says("did not say which page led to the next"), good: says("came from page to page")},
		{feature: "referrerOdd", group: groupReferrers, undeclared: true, pages: 3,
			curve: curve{{0.1, 0}, {0.4, 0.8}, {0.8, 1.3}}, bad: share("named a page as the way there that does not lead there or was never opened")},

		// The site's wishes.
		{feature: "disallowed", group: groupRobots, value: func(v *view) (float64, bool) {
			x, ok := v.get("disallowed")
			return x, ok && v.automated && (v.campaign || x*v.pages >= 3)
		}, curve: curve{{0.01, 0}, {0.1, 0.7}, {0.3, 1.2}, {0.7, 1.6}}, bad: share("went where robots.txt asks robots not to go")},
		{feature: "traps", group: groupTraps, who: clients,
			curve: curve{{0, 0}, {1, 1}, {3, 1.4}}, bad: trapsClause},
		{feature: "traps", group: groupTraps, who: campaigns,
			curve: curve{{0.05, 0}, {0.3, 1.2}}, bad: says("followed links that people do not see")},

		// Answers.
		{feature: "notFound", group: groupStatuses, pages: 5,
			curve: curve{{0.2, 0}, {0.5, 0.7}, {0.9, 1.1}}, bad: share("asked for pages that do not exist")},
		{feature: "errors", group: groupStatuses, pages: 5,
			curve: curve{{0.3, 0}, {0.7, 0.6}}, bad: share("asked for what is refused or does not exist")},

		// Headers.
		{feature: "score", group: groupHeaders,
			curve: curve{{10, 0}, {40, 0.9}, {70, 1.4}}, bad: says("sent requests that look odd one by one")},
		{feature: "languageless", group: groupHeaders, value: func(v *view) (float64, bool) {
			x, ok := v.get("languageless")
			return x, ok && v.c.Family == defense.AgentBrowser
		}, curve: curve{{0.5, 0}, {1, 0.7}}, bad: says("claimed a browser that speaks no language")},
		{feature: "agents", group: groupHeaders, who: clients, value: func(v *view) (float64, bool) {
			agents, ok := v.get("agents")
			shapes, known := v.get("shapes")
			return agents / max(1, shapes), ok && known
		}, curve: curve{{3, 0}, {8, 1}}, bad: says("sent the same headers under changing names")},
		{feature: "shapes", group: groupHeaders, who: clients, value: func(v *view) (float64, bool) {
			return v.persons, true
		}, curve: curve{{2, 0}, {3, -0.8}}, good: says("seems to be several people who share an address")},
		{feature: "agentsPerShape", group: groupHeaders, who: campaigns,
			curve: curve{{4, 0}, {20, 0.9}}, bad: says("sent the same headers under changing names")},

		// The claim itself; it comes from no feature.
		{feature: "identity", group: groupIdentity, value: func(v *view) (float64, bool) {
			return 1, v.c.Identity.Status == defense.IdentityImpostor
		}, curve: curve{{0, 0}, {1, 1.6}}, bad: says("claimed to be a crawler that it is not")},

		// Challenges. One that was not solved says little: people close tabs.
		{feature: "challenged", group: groupChallenges, who: clients, value: func(v *view) (float64, bool) {
			shown, ok := v.get("challenged")
			solved, known := v.get("solved")
			return shown, ok && known && solved < 0.1
		}, curve: curve{{0, 0}, {1, 0.2}, {3, 0.8}, {10, 1.6}}, bad: challengedClause},
		{feature: "solved", group: groupChallenges, value: func(v *view) (float64, bool) {
			shown, ok := v.get("challenged")
			solved, known := v.get("solved")
			return solved, ok && known && shown > 0
		}, curve: curve{{0.1, 0}, {0.5, -1}, {1, -1.6}}, good: says("passed the challenge")},
		{feature: "challenged", group: groupChallenges, who: campaigns, value: func(v *view) (float64, bool) {
			shown, ok := v.get("challenged")
			solved, known := v.get("solved")
			return shown, ok && known && solved < 0.1
		}, curve: curve{{0.1, 0}, {0.5, 0.7}, {2, 1.4}}, bad: says("were challenged and did not pass")},

		// Crowds. All of it is true of readers whom a link elsewhere sends.
		{feature: "fresh", group: groupCrowd, who: campaigns, curve: curve{{0.5, 0}, {0.95, 0.7}}, bad: freshClause},
		{feature: "onset", group: groupCrowd, who: campaigns, curve: curve{{2, 0}, {10, 0.7}}, bad: says("came all at once")},
		{feature: "spread", group: groupCrowd, who: campaigns, curve: curve{{0.4, 0}, {0.9, 0.5}}, bad: says("came from many networks")},
		{feature: "clients", group: groupCrowd, who: campaigns, curve: curve{{20, 0}, {500, 0.5}}, bad: says("are many")},
		{feature: "readers", group: groupReaders, who: campaigns,
			curve: curve{{0.02, 1}, {0.3, 0}, {0.6, -1}, {0.9, -1.6}}, bad: says("resemble hardly any reader"), good: says("resemble many readers")},
	}
}
