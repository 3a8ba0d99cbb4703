package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// vocabulary is what a real edge would give: enough names to test the checks.
func vocabulary() Vocabulary {
	return Vocabulary{
		Signals:  []string{"no-user-agent", "no-sec-fetch", "tool-on-page", "headless-browser"},
		Crawlers: []string{"gptbot", "googlebot", "claudebot", "ahrefsbot"},
	}
}

func mustCompile(t testing.TB, src string) *Policy {
	t.Helper()
	p, err := Compile("test.yaml", []byte(src), Options{Vocabulary: vocabulary()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustLoad(t testing.TB, ref string) *Policy {
	t.Helper()
	p, err := Load(ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// chrome is a page request as Chrome 141 sends it over HTTPS.
func chrome() *defense.Profile {
	present := func(s string) defense.Text { return defense.Observed(s, true) }
	return &defense.Profile{
		Time: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC), Method: "GET", Scheme: "https", Host: "example.org",
		Target: "/wiki/Hedge?lang=en", Path: "/wiki/Hedge", Query: "lang=en", Protocol: "HTTP/2.0", Kind: defense.KindNavigation,
		Client: defense.NewClient(netip.MustParseAddr("203.0.113.7")),
		Agent: defense.Agent{
			Text:   present("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"),
			Family: defense.AgentBrowser, Name: "Chrome", Major: 141, OS: "Linux",
		},
		Headers: defense.Headers{
			Accept:         present("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
			AcceptLanguage: present("en-GB,en;q=0.9"), AcceptEncoding: present("gzip, deflate, br, zstd"),
			SecFetchSite: present("none"), SecFetchMode: present("navigate"), SecFetchDest: present("document"), SecFetchUser: present("?1"),
			SecCHUA: present(`"Chromium";v="141", "Not?A_Brand";v="8"`), SecCHUAMobile: present("?0"), SecCHUAPlatform: present(`"Linux"`),
			UpgradeInsecure: present("1"), Referer: defense.Observed("", false), From: defense.Observed("", false),
			Cookie: defense.Absent, Authorization: defense.Absent,
		},
		TLS: defense.TLS{Version: "1.3"},
	}
}

func crawler(id, name string, purpose defense.Purpose) *defense.Profile {
	p := chrome()
	p.Agent = defense.Agent{Text: defense.Observed("Mozilla/5.0 (compatible; "+name+"/1.2)", true), Family: defense.AgentCrawler, Name: name,
		Crawler: &defense.Crawler{ID: id, Name: name, Purpose: purpose}}
	p.Identity = defense.Identity{Crawler: id, Status: defense.IdentityUnverified}
	return p
}

func with(p *defense.Profile, change func(*defense.Profile)) *defense.Profile {
	change(p)
	return p
}

// judge evaluates p as the edge does: class first.
func judge(pol *Policy, p *defense.Profile, posture defense.Posture, signals ...defense.Signal) *Outcome {
	s := pol.Section(p.Host)
	p.Class = s.Class(p)
	var out Outcome
	s.Evaluate(&Input{Profile: p, Posture: posture, Signals: signals, Explain: true}, &out)
	return &out
}

func TestRulesAreJudgedInOrderAndTheFirstActionDecides(t *testing.T) {
	pol := mustCompile(t, `
rules:
  - {name: wiki-costs, when: 'request.path.startsWith("/wiki/")', score: 10, reason: wiki pages cost}
  - {name: shadowed, when: 'agent.name == "Chrome"', action: deny, mode: shadow}
  - {name: tense, when: 'true', action: deny, posture: siege}
  - {name: other, when: 'agent.name == "Firefox"', action: deny}
  - {name: scored, when: 'score == 25 && "wiki-costs" in signals', action: throttle, retryAfter: 90s, basis: judged, reason: too much}
  - {name: late, when: 'score > 0', action: allow}
`)
	out := judge(pol, chrome(), defense.Calm, defense.Signal{Name: "tool-on-page", Weight: 15, Sentence: "x"})
	if out.Action != defense.Throttle || out.Rule != "scored" || out.Reason != "too much" || out.Basis != defense.BasisJudged || out.RetryAfter != 90*time.Second {
		t.Errorf("decided %s by %q because %q on basis %s, retry after %s", out.Action, out.Rule, out.Reason, out.Basis, out.RetryAfter)
	}
	want := []defense.Signal{{Name: "tool-on-page", Weight: 15, Sentence: "x"}, {Name: "wiki-costs", Weight: 10, Sentence: "wiki pages cost"}}
	if d := cmp.Diff(want, out.Signals); d != "" || out.Score != 25 {
		t.Errorf("score %d, signals (-want +got):\n%s", out.Score, d)
	}
	if d := cmp.Diff([]defense.ShadowHit{{Rule: "shadowed", Action: defense.Deny}}, out.Shadow); d != "" {
		t.Errorf("shadow (-want +got):\n%s", d)
	}
	var trace []string
	for _, s := range out.Trace {
		line := s.Rule + " " + s.Effect
		if s.Matched {
			line += " matched"
		}
		if s.Skipped != "" {
			line += " (" + s.Skipped + ")"
		}
		trace = append(trace, line)
	}
	wantTrace := []string{
		"wiki-costs score +10 matched",
		"shadowed deny matched (shadow: only reported)",
		"tense deny (needs posture siege, the edge is calm)",
		"other deny",
		"scored throttle matched",
	}
	if d := cmp.Diff(wantTrace, trace); d != "" {
		t.Errorf("trace (-want +got):\n%s", d)
	}
	if s := out.Trace[0]; s.File != "test.yaml" || s.Line != 3 || s.When != `request.path.startsWith("/wiki/")` {
		t.Errorf("first step is at %s:%d: %s", s.File, s.Line, s.When)
	}
	if got := judge(pol, chrome(), defense.Siege); got.Rule != "tense" || got.Basis != defense.BasisCertain {
		t.Errorf("in siege %q decided on basis %s; an operator's rule is certain by default", got.Rule, got.Basis)
	}
}

func TestThresholds(t *testing.T) {
	pol := mustCompile(t, `
thresholds:
  - {score: 40, action: observe}
  - {score: 50, action: challenge, posture: guarded}
  - {score: 80, action: challenge, reason: forged}
  - {score: 90, action: deny, posture: siege, retryAfter: 10m}
  - {score: 95, action: deny, mode: shadow}
`)
	for _, tt := range []struct {
		score   int
		posture defense.Posture
		action  defense.Action
		rule    string
		shadow  int
	}{
		{0, defense.Siege, defense.Allow, "", 0},
		{39, defense.Siege, defense.Allow, "", 0},
		{40, defense.Calm, defense.Observe, "threshold:40", 0},
		{50, defense.Calm, defense.Observe, "threshold:40", 0},
		{50, defense.Guarded, defense.Challenge, "threshold:50", 0},
		{80, defense.Calm, defense.Challenge, "threshold:80", 0},
		{90, defense.Guarded, defense.Challenge, "threshold:80", 0},
		{90, defense.Siege, defense.Deny, "threshold:90", 0},
		{150, defense.Calm, defense.Challenge, "threshold:80", 1},
		{-20, defense.Siege, defense.Allow, "", 0},
	} {
		out := judge(pol, chrome(), tt.posture, defense.Signal{Name: "a", Weight: tt.score - 1}, defense.Signal{Name: "b", Weight: 1})
		if out.Action != tt.action || out.Rule != tt.rule || len(out.Shadow) != tt.shadow || out.Basis != defense.BasisJudged {
			t.Errorf("score %d in %s: %s by %q, %d shadow hits, %s", tt.score, tt.posture, out.Action, out.Rule, len(out.Shadow), out.Basis)
		}
		if out.Score != defense.ClampScore(tt.score) {
			t.Errorf("score %d became %d", tt.score, out.Score)
		}
	}
}

func TestSignalWeightsAreOverriddenAndSwitchedOff(t *testing.T) {
	pol := mustCompile(t, `
signals: {no-sec-fetch: 5, tool-on-page: 0}
rules: [{name: seen, when: '"tool-on-page" in signals', action: deny}]
hosts:
  strict.example.org:
    signals: {no-sec-fetch: 60}
`)
	signals := []defense.Signal{{Name: "no-sec-fetch", Weight: 30}, {Name: "tool-on-page", Weight: 15}, {Name: "headless-browser", Weight: 40}}
	out := judge(pol, chrome(), defense.Calm, signals...)
	if out.Score != 45 || len(out.Signals) != 2 || out.Rule != "" {
		t.Errorf("score %d of %v, rule %q", out.Score, out.Signals, out.Rule)
	}
	strict := with(chrome(), func(p *defense.Profile) { p.Host = "strict.example.org" })
	if out := judge(pol, strict, defense.Calm, signals...); out.Score != 100 || out.Signals[0].Weight != 60 {
		t.Errorf("strict host: score %d of %v", out.Score, out.Signals)
	}
	if signals[0].Weight != 30 {
		t.Error("the caller's signals were changed")
	}
}

func TestRobotsStayReadableWhateverTheRulesSay(t *testing.T) {
	pol := mustCompile(t, `
rules:
  - {name: hints, when: 'true', score: 100}
  - {name: nobody, when: 'true', action: deny}
thresholds: [{score: 10, action: tarpit}]
`)
	for _, kind := range []defense.Kind{defense.KindRobots, defense.KindWellKnown} {
		out := judge(pol, with(chrome(), func(p *defense.Profile) { p.Kind = kind }), defense.Siege)
		if out.Action != defense.Allow || out.Score != 100 {
			t.Errorf("%s: %s by %q, score %d", kind, out.Action, out.Rule, out.Score)
		}
	}
	if out := judge(pol, chrome(), defense.Calm); out.Action != defense.Deny {
		t.Errorf("a page: %s", out.Action)
	}
}

func TestHostSections(t *testing.T) {
	pol := mustCompile(t, `
classes: {shop: [/shop/**], all: [/**]}
rules:
  - {name: a, when: 'request.path == "/a"', action: deny}
  - {name: b, when: 'true', action: observe}
budgets: [{name: pages, per: client, rate: 1/s, burst: 10}]
thresholds: [{score: 50, action: challenge}]
hosts:
  www.example.org:
    classes: {shop: [/kaufen/**]}
    rules: [{name: a, when: 'request.path == "/b"', action: tarpit}]
    budgets: [{name: pages, per: client, rate: 60/min, burst: 20}, {name: more, per: site, rate: 3600/h, burst: 1}]
    thresholds: []
  "*.example.org":
    rules: [{name: wild, when: 'true', action: throttle}]
  "*.deep.example.org":
    rules: [{name: deep, when: 'true', action: throttle}]
`)
	for _, tt := range []struct{ host, path, rule string }{
		{"example.org", "/a", "a"},
		{"example.org", "/b", "b"},
		{"www.example.org", "/a", "b"}, // the host's rule a took the general one's place
		{"www.example.org", "/b", "a"},
		{"x.example.org", "/a", "wild"},
		{"x.y.example.org", "/a", "wild"},
		{"x.deep.example.org", "/a", "deep"},
		{"deep.example.org", "/a", "wild"},
		{"badexample.org", "/x", "b"},
		{".example.org", "/x", "wild"},
		{"", "/x", "b"},
		{".", "/x", "b"},
	} {
		out := judge(pol, with(chrome(), func(p *defense.Profile) { p.Host, p.Path = tt.host, tt.path }), defense.Calm)
		if out.Rule != tt.rule {
			t.Errorf("%s%s: rule %q, want %q", tt.host, tt.path, out.Rule, tt.rule)
		}
	}
	general, www := pol.Section("example.org"), pol.Section("www.example.org")
	if len(general.thresholds) != 1 || len(www.thresholds) != 0 {
		t.Errorf("thresholds: general %d, www %d", len(general.thresholds), len(www.thresholds))
	}
	if b := www.Budgets(); len(b) != 2 || b[0].Rate != 1 || b[0].Burst != 20 || b[1].Rate != 1 || b[1].Per != PerSite {
		t.Errorf("budgets of www: %+v", b)
	}
	class := func(s *Section, path string) string {
		return s.Class(with(chrome(), func(p *defense.Profile) { p.Path = path }))
	}
	if a, b, c := class(general, "/shop/x"), class(www, "/shop/x"), class(www, "/kaufen"); a != "shop" || b != "all" || c != "shop" {
		t.Errorf("classes: %q, %q, %q", a, b, c)
	}
}

func TestBudgetCovers(t *testing.T) {
	pol := mustCompile(t, `
classes: {costly: [/search, {when: 'request.query.contains("diff=")'}]}
budgets:
  - {name: pages, per: client, kinds: navigation, rate: 1/s, burst: 10}
  - {name: costly, per: class, class: costly, rate: 0.5/s, burst: 10, mode: shadow, posture: guarded}
  - {name: seo, per: site, when: 'crawler.purpose == "seo" || request.class == "costly"', rate: 1/s, burst: 10, basis: certain, reason: so there}
`)
	s := pol.Section("x")
	covered := func(p *defense.Profile) string {
		p.Class = s.Class(p)
		var names []string
		for _, b := range s.Budgets() {
			if b.Covers(p) {
				names = append(names, b.Name)
			}
		}
		return strings.Join(names, " ")
	}
	for _, tt := range []struct {
		p    *defense.Profile
		want string
	}{
		{chrome(), "pages"},
		{with(chrome(), func(p *defense.Profile) { p.Path = "/search/" }), "pages costly seo"},
		{with(chrome(), func(p *defense.Profile) { p.Query = "diff=3" }), "pages costly seo"},
		{with(chrome(), func(p *defense.Profile) { p.Kind = defense.KindAsset }), ""},
		{crawler("ahrefsbot", "AhrefsBot", defense.PurposeSEO), "pages seo"},
	} {
		if got := covered(tt.p); got != tt.want {
			t.Errorf("%s?%s by %s: %q, want %q", tt.p.Path, tt.p.Query, tt.p.Agent.Name, got, tt.want)
		}
	}
	b := s.Budgets()
	if !b[1].Shadow() || b[1].Posture != defense.Guarded || b[1].Rate != 0.5 || b[0].Shadow() || b[2].Basis != defense.BasisCertain || b[2].Reason != "so there" {
		t.Errorf("budgets %+v", b)
	}
}

func TestConditions(t *testing.T) {
	lists := `
lists:
  office: [192.0.2.0/24, "2001:db8::/32", 203.0.113.7]
  hosters: [AS64496, 64497]
  tools: [curl, wget]
  none: []
rules: [{name: r, when: '%s', action: deny}]
`
	base := chrome()
	base.Client.ASN, base.Client.Country = 64496, "DE"
	for cond, want := range map[string]bool{
		`client.address.within("203.0.113.0/24")`:                              true,
		`client.address.within(["10.0.0.0/8", "203.0.113.7"])`:                 true,
		`client.address.within("10.0.0.0/8")`:                                  false,
		`client.address.inList("office") && client.asn.inList("hosters")`:      true,
		`agent.name.inList("tools") || client.address.inList("none")`:          false,
		`client.address == "203.0.113.7" && client.prefix == "203.0.113.0/24"`: true,
		`client.address in ["203.0.113.8", "203.0.113.7"]`:                     true,
		`client.country == "DE" && client.asn == 64496`:                        true,
		`request.kind in ["feed", "navigation"] && request.method != "POST"`:   true,
		`header("accept").contains("text/html") && present("accept")`:          true,
		`header("Accept-Language").startsWith("en")`:                           true,
		`absent("referer") && !present("referer") && header("referer") == ""`:  true,
		`absent("via")`:                                            false, // not observed is not absent
		`present("via") || header("via") != ""`:                    false,
		`absent("cookie") && absent("authorization")`:              true,
		`agent.major >= 140 && agent.major < 150 && !agent.mobile`: true,
		`agent.text.matches("(?i)chrome/1[34]\\d")`:                true,
		`glob(request.path, "/wiki/**")`:                           true,
		`crawler.id == "" && crawler.purpose == ""`:                true,
		`time.hour == 15`:                                          true,
		`tls.version == "1.3" && request.scheme == "https"`:        true,
		`posture == "calm" && score == 0 && signals.size() == 0`:   true,
		`size(request.path) == 11`:                                 true,
		`signals.exists(s, s.startsWith("no-"))`:                   false,
		`agent.major % 2 == 1 ? agent.os == "Linux" : false`:       true,
		`[1, 2, 3].exists(x, x * 47 == agent.major)`:               true,
		`1 / (agent.major - 141) == 1`:                             false, // an error never matches
		`!(1 / (agent.major - 141) == 1)`:                          false,
		`1 / (agent.major - 141) == 1 || agent.name == "Chrome"`:   true,
		`identity.status == "none" && !clearance.valid`:            true,
		`request.target == "/wiki/Hedge?lang=en"`:                  true,
	} {
		pol := mustCompile(t, strings.Replace(lists, "%s", strings.ReplaceAll(cond, "'", "''"), 1))
		p := *base
		if out := judge(pol, &p, defense.Calm); (out.Rule == "r") != want {
			t.Errorf("%s: %v, want %v (%s)", cond, out.Rule == "r", want, out.Trace[0].Error)
		}
	}
}

func TestAnErrorInAConditionIsExplained(t *testing.T) {
	pol := mustCompile(t, `rules: [{name: r, when: '1 / (agent.major - 141) == 1', action: deny}]`)
	out := judge(pol, chrome(), defense.Calm)
	if len(out.Trace) != 1 || !strings.Contains(out.Trace[0].Error, "division by zero") {
		t.Errorf("trace %+v", out.Trace)
	}
}

func TestNoConditionCanStallARequest(t *testing.T) {
	list := "[" + strings.Repeat("1,", 200) + "1]"
	var src strings.Builder
	src.WriteString("rules:\n")
	for i := range 30 {
		src.WriteString("  - {name: r" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + ", action: deny, when: 'LIST.all(a, LIST.all(b, LIST.all(c, a + b + c + agent.major > 0)))'}\n")
	}
	heavy := mustCompile(t, strings.ReplaceAll(src.String(), "LIST", list))
	out := judge(heavy, chrome(), defense.Calm)
	if out.Action != defense.Allow {
		t.Errorf("an exhausted condition decided: %s by %q", out.Action, out.Rule)
	}
	if !strings.Contains(out.Trace[0].Error, "cost limit") {
		t.Errorf("first error: %q", out.Trace[0].Error)
	}
	if last := out.Trace[len(out.Trace)-1].Error; !strings.Contains(last, "used up the request's cost limit") {
		t.Errorf("last error: %q", last)
	}
}

func TestOutcomeIsReusedWithoutLeaks(t *testing.T) {
	pol := mustCompile(t, `
rules:
  - {name: s, when: 'request.path == "/a"', score: 60}
  - {name: sh, when: 'request.path == "/a"', action: deny, mode: shadow}
thresholds: [{score: 50, action: throttle, retryAfter: 5s}]
`)
	s := pol.Section("")
	var out Outcome
	a, b := with(chrome(), func(p *defense.Profile) { p.Path = "/a" }), chrome()
	s.Evaluate(&Input{Profile: a, Explain: true}, &out)
	if out.Action != defense.Throttle || len(out.Shadow) != 1 || out.env.p != nil || out.env.signals != nil {
		t.Fatalf("first: %+v", out)
	}
	s.Evaluate(&Input{Profile: b}, &out)
	if out.Action != defense.Allow || out.Score != 0 || out.Rule != "" || out.RetryAfter != 0 || len(out.Signals)+len(out.Shadow)+len(out.Trace) != 0 {
		t.Errorf("second: %+v", out)
	}
}

func TestRulesListsWhatIsJudged(t *testing.T) {
	pol := mustCompile(t, `
rules:
  - {name: a, when: 'true', score: -5, mode: shadow}
thresholds: [{score: 50, action: challenge, posture: guarded}]
hosts:
  h.example.org:
    rules: [{name: b, when: "score > 3", action: deny}]
`)
	got := pol.Rules()
	want := []RuleInfo{
		{Name: "a", When: "true", Effect: "score -5", Mode: "shadow", Posture: "calm", Reason: "the request matches: true", File: "test.yaml", Line: 3},
		{Name: "threshold:50", Effect: "challenge", Mode: "enforce", Posture: "guarded", Basis: "judged", Reason: "the signals together reach a score of 50", File: "test.yaml", Line: 4},
		{Host: "h.example.org", Name: "b", When: "score > 3", Effect: "deny", Mode: "enforce", Posture: "calm", Basis: "certain", Reason: "the request matches: score > 3", File: "test.yaml", Line: 7},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestVariablesAreDocumented(t *testing.T) {
	var names []string
	for _, v := range Variables() {
		if v.Doc == "" || v.Type == "" || slices.Contains(names, v.Name) {
			t.Errorf("%+v", v)
		}
		names = append(names, v.Name)
	}
	if len(names) < 30 {
		t.Errorf("only %d variables", len(names))
	}
}
