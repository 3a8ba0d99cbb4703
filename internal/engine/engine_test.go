package engine_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const reader = "203.0.113.7"

var profiler = sync.OnceValue(func() *profile.Profiler {
	c, err := crawler.Default()
	if err != nil {
		panic(err)
	}
	return profile.New(agent.New(c))
})

// world is an engine with all that it depends on.
type world struct {
	*engine.Engine
	set     *decision.Set
	posture defense.Posture
	mode    defense.Mode
	scratch engine.Scratch
	n       int
}

func newWorld(t testing.TB, source string) *world {
	t.Helper()
	w := &world{set: decision.NewSet(nil), mode: defense.ModeEnforce}
	pol, err := policy.Compile("test.yaml", []byte(source), policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.Engine = engine.New(engine.Options{
		Decisions: w.set, Policy: func() *policy.Policy { return pol }, Budgets: budget.New(1000),
		Posture: func() defense.Posture { return w.posture }, Mode: func() defense.Mode { return w.mode },
	})
	return w
}

// decide adds "ACTION by ORIGIN" about the reader's address, or about what follows "on".
func (w *world) decide(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		action, rest, _ := strings.Cut(s, " by ")
		origin, value, other := strings.Cut(rest, " on ")
		if !other {
			value = reader
		}
		a, err := defense.ParseAction(action)
		if err != nil {
			t.Fatal(err)
		}
		w.n++
		scope := defense.ScopeAddress
		if agent, ok := strings.CutPrefix(value, "agent "); ok {
			scope, value = defense.ScopeAgent, agent
		} else if _, err := defense.ParseFingerprint(value); err == nil {
			scope = defense.ScopeFingerprint
		}
		if err := w.set.Put(defense.Decision{ID: fmt.Sprintf("id%d", w.n), Scope: scope, Value: value, Action: a, Origin: origin, Created: noon, Sequence: uint64(w.n)}); err != nil {
			t.Fatal(err)
		}
	}
}

// change is what a test changes of the profile that chrome makes.
type change func(*defense.Profile)

func (w *world) judge(p *defense.Profile) defense.Verdict {
	var v defense.Verdict
	w.Judge(p, &w.scratch, &v, nil)
	return v
}

func (w *world) explain(p *defense.Profile) (defense.Verdict, *engine.Explanation) {
	var v defense.Verdict
	x := &engine.Explanation{}
	w.Judge(p, &w.scratch, &v, x)
	return v, x
}

// chromeRequest is a page opened in Chrome 141 on Windows over HTTPS.
func chromeRequest(path string) *http.Request {
	r := httptest.NewRequest("GET", "https://wiki.example.org"+path, nil)
	r.RequestURI = path
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.RemoteAddr = reader + ":50000"
	for name, value := range map[string]string{
		"User-Agent":                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"Accept":                    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
		"Accept-Language":           "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
		"Accept-Encoding":           "gzip, deflate, br, zstd",
		"Sec-Ch-Ua":                 `"Google Chrome";v="141", "Not?A_Brand";v="8", "Chromium";v="141"`,
		"Sec-Ch-Ua-Mobile":          "?0",
		"Sec-Ch-Ua-Platform":        `"Windows"`,
		"Sec-Fetch-Site":            "none",
		"Sec-Fetch-Mode":            "navigate",
		"Sec-Fetch-User":            "?1",
		"Sec-Fetch-Dest":            "document",
		"Upgrade-Insecure-Requests": "1",
		"Priority":                  "u=0, i",
	} {
		r.Header.Set(name, value)
	}
	return r
}

func profileOf(r *http.Request) *defense.Profile {
	p := &defense.Profile{}
	profiler().FromRequest(p, r, defense.NewClient(netip.MustParseAddr(reader)), noon)
	p.Site = "wiki"
	return p
}

func chrome(path string, changes ...change) *defense.Profile {
	p := profileOf(chromeRequest(path))
	for _, c := range changes {
		c(p)
	}
	return p
}

func cleared(p *defense.Profile) {
	p.Clearance = defense.Clearance{Valid: true, ID: 0x0123456789abcdef, Minute: 60, Day: 1000}
}
func earned(later time.Duration) change {
	return func(p *defense.Profile) { p.Clearance.Issued = noon.Add(later) }
}
func verified(p *defense.Profile) { p.Identity.Status = defense.IdentityVerified }
func kind(k defense.Kind) change  { return func(p *defense.Profile) { p.Kind = k } }
func post(p *defense.Profile)     { p.Method = "POST" }
func at(d time.Duration) change   { return func(p *defense.Profile) { p.Time = noon.Add(d) } }
func from(a string) change {
	return func(p *defense.Profile) { p.Client = defense.NewClient(netip.MustParseAddr(a)) }
}

// rules is a policy in which the path chooses the verdict.
const rules = `
rules:
  - {name: denied, when: 'request.path == "/denied"', action: deny, basis: certain, reason: denied by its rule}
  - {name: pit, when: 'request.path == "/pit"', action: tarpit, basis: certain}
  - {name: allowed, when: 'request.path == "/allowed"', action: allow, basis: certain}
  - {name: judged, when: 'request.path == "/judged"', action: deny, basis: judged}
  - {name: slowed, when: 'request.path == "/slowed"', action: throttle, retryAfter: 90s}
  - {name: asked, when: 'request.path == "/asked"', action: challenge, basis: certain}
  - {name: scored, when: 'request.path == "/doubtful"', score: 60}
  - {name: scored-more, when: 'request.path == "/forged"', score: 95}
thresholds:
  - {score: 50, action: challenge}
  - {score: 90, action: deny, retryAfter: 10m}
`

func TestPrecedence(t *testing.T) {
	tests := []struct {
		name      string
		decisions string // "ACTION by ORIGIN", separated by commas
		path      string
		changes   []change
		want      defense.Action
		by        string // beginning of Verdict.Rule
		basis     defense.Basis
	}{
		{"nothing speaks against a reader", "", "/", nil, defense.Allow, "", defense.BasisJudged},
		{"a rule decides", "", "/denied", nil, defense.Deny, "denied", defense.BasisCertain},
		{"a score decides", "", "/doubtful", nil, defense.Challenge, "threshold:50", defense.BasisJudged},

		{"operator's allow beats operator's ban", "deny by operator, allow by operator", "/", nil, defense.Allow, "decision:", defense.BasisOperator},
		{"operator's allow on a range beats a ban on the address", "deny by operator, allow by operator on 203.0.113.0/24", "/", nil, defense.Allow, "decision:", defense.BasisOperator},
		{"operator's allow beats a certain rule", "allow by operator", "/denied", nil, defense.Allow, "decision:", defense.BasisOperator},
		{"operator's allow beats engine, peer and list", "deny by engine, deny by peer:a, deny by list:b, allow by operator", "/forged", nil, defense.Allow, "decision:", defense.BasisOperator},
		{"operator's ban beats verified identity", "deny by operator", "/", []change{verified}, defense.Deny, "decision:", defense.BasisOperator},
		{"operator's ban beats an allowing rule", "tarpit by operator", "/allowed", nil, defense.Tarpit, "decision:", defense.BasisOperator},
		{"verified identity beats the engine", "deny by engine", "/", []change{verified}, defense.Allow, "", defense.BasisJudged},
		{"verified identity beats peers and lists", "deny by peer:a, deny by list:b", "/", []change{verified}, defense.Allow, "", defense.BasisJudged},
		{"verified identity is still subject to the owner's rules", "deny by engine", "/denied", []change{verified}, defense.Deny, "denied", defense.BasisCertain},
		{"an unproved claim beats nothing", "deny by engine", "/", []change{func(p *defense.Profile) { p.Identity.Status = defense.IdentityUnverified }}, defense.Deny, "decision:", defense.BasisJudged},
		{"the engine beats an allowing rule", "deny by engine", "/allowed", nil, defense.Deny, "decision:", defense.BasisJudged},
		{"the engine's allow beats a threshold", "allow by engine", "/forged", nil, defense.Allow, "decision:", defense.BasisJudged},
		{"an allowing rule beats a list", "deny by list:b", "/allowed", nil, defense.Allow, "allowed", defense.BasisCertain},
		{"a denying rule beats a peer's allow", "allow by peer:a", "/denied", nil, defense.Deny, "denied", defense.BasisCertain},
		{"a peer's allow beats a list's ban", "deny by list:b, allow by peer:a", "/", nil, defense.Allow, "", defense.BasisJudged},
		{"a list's allow lifts no threshold", "allow by list:b", "/forged", nil, defense.Deny, "threshold:90", defense.BasisJudged},
		{"a peer's ban beats a list's challenge", "challenge by list:b, deny by peer:a", "/", nil, defense.Deny, "decision:", defense.BasisJudged},
		{"a list's ban beats a milder threshold", "deny by list:b", "/doubtful", nil, defense.Deny, "decision:", defense.BasisJudged},
		{"a stricter threshold beats a list's challenge", "challenge by list:b", "/forged", nil, defense.Deny, "threshold:90", defense.BasisJudged},
		{"of equals the narrower counts", "deny by operator on 203.0.113.0/24, throttle by operator", "/", nil, defense.Throttle, "decision:", defense.BasisOperator},

		{"clearance satisfies a threshold's challenge", "", "/doubtful", []change{cleared}, defense.Allow, "threshold:50", defense.BasisJudged},
		{"clearance satisfies a rule's challenge", "", "/asked", []change{cleared}, defense.Allow, "asked", defense.BasisCertain},
		{"clearance satisfies a list's challenge", "challenge by list:b", "/", []change{cleared}, defense.Allow, "decision:", defense.BasisJudged},
		{"clearance satisfies the engine's challenge", "challenge by engine", "/", []change{cleared}, defense.Allow, "decision:", defense.BasisJudged},
		{"clearance satisfies the operator's challenge", "challenge by operator", "/", []change{cleared}, defense.Allow, "decision:", defense.BasisOperator},
		{"clearance does not satisfy a denying threshold", "", "/forged", []change{cleared}, defense.Deny, "threshold:90", defense.BasisJudged},
		{"clearance does not satisfy a denying rule", "", "/denied", []change{cleared}, defense.Deny, "denied", defense.BasisCertain},
		{"clearance does not satisfy a ban", "deny by operator", "/", []change{cleared}, defense.Deny, "decision:", defense.BasisOperator},
		{"clearance does not lead out of a tarpit that was decided later", "tarpit by engine", "/", []change{cleared}, defense.Tarpit, "decision:", defense.BasisJudged},
		{"clearance that was earned in the tarpit leads out", "tarpit by engine", "/", []change{cleared, earned(time.Hour)}, defense.Allow, "decision:", defense.BasisJudged},
		{"out of an operator's as well", "tarpit by operator", "/", []change{cleared, earned(time.Hour)}, defense.Allow, "decision:", defense.BasisOperator},
		{"and out of a rule's", "", "/pit", []change{cleared, earned(0)}, defense.Allow, "pit", defense.BasisCertain},
		{"an issued token does not", "tarpit by engine", "/", []change{cleared, earned(time.Hour), func(p *defense.Profile) { p.Clearance.Name = "partner" }}, defense.Tarpit, "decision:", defense.BasisJudged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, rules)
			if tt.decisions != "" {
				w.decide(t, strings.Split(tt.decisions, ", ")...)
			}
			p := chrome(tt.path, tt.changes...)
			v := w.judge(p)
			if v.Action != tt.want || v.Intended != tt.want {
				t.Errorf("%s, intended %s, want %s", v.Action, v.Intended, tt.want)
			}
			if !strings.HasPrefix(v.Rule, tt.by) || tt.by == "" && v.Rule != "" {
				t.Errorf("decided by %q, want %q", v.Rule, tt.by)
			}
			if v.Basis != tt.basis {
				t.Errorf("basis %s, want %s", v.Basis, tt.basis)
			}
			if strings.HasPrefix(v.Rule, "decision:") != (v.DecisionID != "") {
				t.Errorf("rule %q with decision %q", v.Rule, v.DecisionID)
			}
			if !v.Action.Stops() && v.RetryAfter != 0 {
				t.Errorf("%s with Retry-After %s", v.Action, v.RetryAfter)
			}
			// An explanation must say the same as the live verdict.
			if explained, _ := w.explain(p); !cmp.Equal(explained, v) {
				t.Errorf("explained differently (-live +explained):\n%s", cmp.Diff(v, explained))
			}
		})
	}
}

func TestDecisionsOfAnotherSiteOrTimeDoNotCount(t *testing.T) {
	w := newWorld(t, rules)
	for i, d := range []defense.Decision{
		{Value: reader, Action: defense.Deny, Origin: "operator", Site: "forge"},
		{Value: "198.51.100.9", Action: defense.Deny, Origin: "operator"},
		{Scope: defense.ScopeAgent, Value: "SomeBot", Action: defense.Deny, Origin: "operator"},
		{Value: reader, Action: defense.Tarpit, Origin: "engine", Expires: noon.Add(time.Minute)},
	} {
		d.ID, d.Created = fmt.Sprint(i), noon.Add(-time.Hour)
		if err := w.set.Put(d); err != nil {
			t.Fatal(err)
		}
	}
	if v := w.judge(chrome("/")); v.Action != defense.Tarpit || v.Reason == "" {
		t.Errorf("before it ends: %s because %q", v.Action, v.Reason)
	}
	if v := w.judge(chrome("/", at(2*time.Minute))); v.Action != defense.Allow {
		t.Errorf("after it ended, in the request's clock: %s by %s", v.Action, v.Rule)
	}
	if v := w.judge(chrome("/", at(2*time.Minute), func(p *defense.Profile) { p.Site = "forge" })); v.Action != defense.Deny {
		t.Errorf("on its own site: %s", v.Action)
	}
}

func TestModes(t *testing.T) {
	tests := []struct {
		what                                         string
		decisions, path                              string
		certain, enforce, observe, off, intendedElse defense.Action
	}{
		{"a reader", "", "/", defense.Allow, defense.Allow, defense.Allow, defense.Allow, defense.Allow},
		{"a certain rule", "", "/denied", defense.Deny, defense.Deny, defense.Observe, defense.Allow, defense.Deny},
		{"a judged rule", "", "/judged", defense.Observe, defense.Deny, defense.Observe, defense.Allow, defense.Deny},
		{"a threshold", "", "/doubtful", defense.Observe, defense.Challenge, defense.Observe, defense.Allow, defense.Challenge},
		{"the operator's ban", "deny by operator", "/", defense.Deny, defense.Deny, defense.Observe, defense.Allow, defense.Deny},
		{"the engine's ban", "deny by engine", "/", defense.Observe, defense.Deny, defense.Observe, defense.Allow, defense.Deny},
		{"a list's ban", "deny by list:b", "/", defense.Observe, defense.Deny, defense.Observe, defense.Allow, defense.Deny},
		{"the operator's allow", "allow by operator", "/denied", defense.Allow, defense.Allow, defense.Allow, defense.Allow, defense.Allow},
		{"a budget", "", "/spent", defense.Observe, defense.Throttle, defense.Observe, defense.Allow, defense.Throttle},
	}
	budgets := rules + `
classes: {spent: [/spent]}
budgets:
  - {name: tiny, per: class, class: spent, rate: 0.001/s, burst: 1, basis: judged}
`
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			w := newWorld(t, budgets)
			if tt.decisions != "" {
				w.decide(t, tt.decisions)
			}
			w.judge(chrome("/spent"))
			for mode, want := range map[defense.Mode]defense.Action{
				defense.ModeCertain: tt.certain, defense.ModeEnforce: tt.enforce, defense.ModeObserve: tt.observe, defense.ModeOff: tt.off,
			} {
				w.mode = mode
				v := w.judge(chrome(tt.path))
				intended := tt.intendedElse
				if mode == defense.ModeOff {
					intended = defense.Allow
				}
				if v.Action != want || v.Intended != intended || v.Mode != mode {
					t.Errorf("mode %s: %s, intended %s in %s; want %s, intended %s", mode, v.Action, v.Intended, v.Mode, want, intended)
				}
			}
		})
	}
}

// A verdict must be answerable by what asked, and what tells crawlers how to behave stays readable.
func TestVerdictsFitTheKindOfRequest(t *testing.T) {
	const allow, observe, throttle, challenge, deny = defense.Allow, defense.Observe, defense.Throttle, defense.Challenge, defense.Deny
	tests := []struct {
		name     string
		decision string
		path     string
		posture  defense.Posture
		changes  []change
		want     defense.Action
		retry    time.Duration
	}{
		{"a page is challenged", "", "/doubtful", defense.Calm, nil, challenge, 0},
		{"HEAD of a page is challenged", "", "/doubtful", defense.Calm, []change{func(p *defense.Profile) { p.Method = "HEAD" }}, challenge, 0},
		{"a form is not challenged in calm", "", "/doubtful", defense.Calm, []change{post}, observe, 0},
		{"a form is not challenged when guarded", "", "/doubtful", defense.Guarded, []change{post}, observe, 0},
		{"a form is challenged in siege", "", "/doubtful", defense.Siege, []change{post}, challenge, 0},
		{"a form is denied like any other", "", "/denied", defense.Calm, []change{post}, deny, 0},
		{"an asset is not challenged", "", "/doubtful", defense.Siege, []change{kind(defense.KindAsset)}, observe, 0},
		{"an asset is denied", "", "/denied", defense.Calm, []change{kind(defense.KindAsset)}, deny, 0},
		{"a feed waits instead", "", "/doubtful", defense.Calm, []change{kind(defense.KindFeed)}, throttle, 30 * time.Second},
		{"git waits instead", "", "/doubtful", defense.Calm, []change{kind(defense.KindGit)}, throttle, 30 * time.Second},
		{"an API call waits instead", "", "/doubtful", defense.Calm, []change{kind(defense.KindAPI)}, throttle, 30 * time.Second},
		{"an upgrade waits instead", "", "/doubtful", defense.Calm, []change{kind(defense.KindUpgrade)}, throttle, 30 * time.Second},
		{"a preview waits instead", "", "/doubtful", defense.Calm, []change{kind(defense.KindPreview)}, throttle, 30 * time.Second},
		{"a cleared API call passes", "", "/doubtful", defense.Calm, []change{kind(defense.KindAPI), cleared}, allow, 0},
		{"a list's challenge makes git wait", "challenge by list:b", "/", defense.Calm, []change{kind(defense.KindGit)}, throttle, 30 * time.Second},
		{"the operator's challenge cannot be shown to git either", "challenge by operator", "/", defense.Calm, []change{kind(defense.KindGit)}, throttle, 30 * time.Second},
		{"a rule's own Retry-After stays", "", "/slowed", defense.Calm, nil, throttle, 90 * time.Second},
		{"a decision does not inherit a threshold's Retry-After", "throttle by engine", "/forged", defense.Calm, nil, throttle, 30 * time.Second},

		{"robots.txt passes a denying rule", "", "/denied", defense.Siege, []change{kind(defense.KindRobots)}, allow, 0},
		{"robots.txt passes a score", "", "/forged", defense.Siege, []change{kind(defense.KindRobots)}, allow, 0},
		{"well-known passes a rule", "", "/denied", defense.Siege, []change{kind(defense.KindWellKnown)}, allow, 0},
		{"robots.txt passes the engine's ban", "deny by engine", "/", defense.Siege, []change{kind(defense.KindRobots)}, allow, 0},
		{"robots.txt passes a list's ban", "tarpit by list:b", "/", defense.Siege, []change{kind(defense.KindRobots)}, allow, 0},
		{"robots.txt passes the operator's challenge", "challenge by operator", "/", defense.Siege, []change{kind(defense.KindRobots)}, allow, 0},
		{"robots.txt does not pass the operator's ban", "deny by operator", "/", defense.Calm, []change{kind(defense.KindRobots)}, deny, 0},
		{"well-known does not pass the operator's throttle", "throttle by operator", "/", defense.Calm, []change{kind(defense.KindWellKnown)}, throttle, 30 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, rules)
			w.posture = tt.posture
			if tt.decision != "" {
				w.decide(t, tt.decision)
			}
			v := w.judge(chrome(tt.path, tt.changes...))
			if v.Action != tt.want || v.RetryAfter != tt.retry {
				t.Errorf("%s, retry after %s; want %s after %s (by %s)", v.Action, v.RetryAfter, tt.want, tt.retry, v.Rule)
			}
		})
	}
}

func TestRealRobotsTxtIsReadableForWhomThePageIsDenied(t *testing.T) {
	w := newWorld(t, "imports: [readers-first]")
	for path, want := range map[string]defense.Action{
		"/": defense.Deny, "/robots.txt": defense.Allow, "/sitemap.xml": defense.Allow, "/.well-known/security.txt": defense.Allow, "/favicon.ico": defense.Allow,
		"/a/robots.txt": defense.Deny, "/style.css": defense.Deny,
	} {
		r := httptest.NewRequest("GET", "http://wiki.example.org"+path, nil)
		r.RequestURI = path
		r.Header.Set("User-Agent", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.3; +https://openai.com/gptbot)")
		if v := w.judge(profileOf(r)); v.Action != want {
			t.Errorf("%s: %s by %s, want %s", path, v.Action, v.Rule, want)
		}
	}
}

func TestBudgetsThrottleWhoSpendsThem(t *testing.T) {
	tests := []struct {
		per    string
		second *defense.Profile // who comes when the first has spent the budget
		want   defense.Action
	}{
		{"client", chrome("/page"), defense.Throttle},
		{"client", chrome("/page", from("203.0.113.8")), defense.Allow},
		{"client", chrome("/page", func(p *defense.Profile) { p.Site = "forge" }), defense.Allow},
		{"prefix", chrome("/page", from("203.0.113.8")), defense.Throttle},
		{"prefix", chrome("/page", from("203.0.114.8")), defense.Allow},
		{"class", chrome("/page", from("198.51.100.1")), defense.Throttle},
		{"site", chrome("/page", from("198.51.100.1")), defense.Throttle},
		{"site", chrome("/page", func(p *defense.Profile) { p.Site = "forge" }), defense.Allow},
		{"site", chrome("/other"), defense.Allow},
		{"client", chrome("/page", func(p *defense.Profile) { p.Client = defense.Client{} }), defense.Allow},
	}
	for i, tt := range tests {
		w := newWorld(t, fmt.Sprintf(`
classes: {page: [/page]}
budgets: [{name: small, per: %s, class: page, rate: 1/s, burst: 3, reason: too many pages}]`, tt.per))
		for n := range 3 {
			if v := w.judge(chrome("/page")); v.Action != defense.Allow {
				t.Errorf("%d: request %d of 3: %s", i, n+1, v.Action)
			}
		}
		v := w.judge(tt.second)
		if v.Action != tt.want {
			t.Errorf("%d: per %s: then %s, want %s", i, tt.per, v.Action, tt.want)
		}
		if tt.want == defense.Throttle && (v.Rule != "budget:small" || v.Reason != "too many pages" || v.RetryAfter <= 0 || v.RetryAfter > time.Second) {
			t.Errorf("%d: by %q because %q, retry after %s", i, v.Rule, v.Reason, v.RetryAfter)
		}
	}
}

func TestBudgetsRunOnTheClockOfTheRequest(t *testing.T) {
	w := newWorld(t, `budgets: [{name: small, per: client, rate: 1/s, burst: 2}]`)
	for _, step := range []struct {
		after time.Duration
		want  defense.Action
	}{{0, defense.Allow}, {0, defense.Allow}, {0, defense.Throttle}, {time.Second, defense.Allow}, {time.Second, defense.Throttle}, {time.Hour, defense.Allow}} {
		if v := w.judge(chrome("/", at(step.after))); v.Action != step.want {
			t.Errorf("after %s: %s, want %s", step.after, v.Action, step.want)
		}
	}
}

func TestWhatIsStoppedOrAlwaysReadableSpendsNoBudget(t *testing.T) {
	w := newWorld(t, rules+`budgets: [{name: two, per: client, rate: 0.001/s, burst: 2}]`)
	for range 5 {
		w.judge(chrome("/denied"))
		w.judge(chrome("/doubtful"))
		if v := w.judge(chrome("/", kind(defense.KindRobots))); v.Action != defense.Allow {
			t.Fatalf("robots.txt: %s", v.Action)
		}
	}
	for n, want := range []defense.Action{defense.Allow, defense.Allow, defense.Throttle} {
		if v := w.judge(chrome("/")); v.Action != want {
			t.Errorf("page %d: %s, want %s", n+1, v.Action, want)
		}
	}
	if v := w.judge(chrome("/", kind(defense.KindRobots))); v.Action != defense.Allow {
		t.Errorf("robots.txt with the budget spent: %s", v.Action)
	}
}

// A doubtful client whose challenge cannot be shown is let through, but not without measure.
func TestWhatIsLetThroughUnchallengedSpendsItsBudget(t *testing.T) {
	for name, c := range map[string]change{"form": post, "asset": kind(defense.KindAsset), "cleared": cleared} {
		w := newWorld(t, rules+`budgets: [{name: two, per: client, rate: 0.001/s, burst: 2}]`)
		var got []defense.Action
		for range 3 {
			got = append(got, w.judge(chrome("/doubtful", c)).Action)
		}
		if got[0].Stops() || got[1].Stops() || got[2] != defense.Throttle {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestShadowBudgetsAndRulesAreReportedOnly(t *testing.T) {
	w := newWorld(t, `
rules: [{name: trial, when: 'agent.name == "Chrome"', action: deny, mode: shadow}]
budgets:
  - {name: trial, per: client, rate: 0.001/s, burst: 1, mode: shadow}
  - {name: second, per: client, rate: 0.001/s, burst: 2}`)
	rule := defense.ShadowHit{Rule: "trial", Action: defense.Deny}
	tally := defense.ShadowHit{Rule: "budget:trial", Action: defense.Throttle}
	for n, want := range []struct {
		action defense.Action
		shadow []defense.ShadowHit
	}{{defense.Allow, []defense.ShadowHit{rule}}, {defense.Allow, []defense.ShadowHit{rule, tally}}, {defense.Throttle, []defense.ShadowHit{rule, tally}}} {
		v := w.judge(chrome("/"))
		if v.Action != want.action || !cmp.Equal(v.Shadow, want.shadow) {
			t.Errorf("request %d: %s with %v, want %s with %v", n+1, v.Action, v.Shadow, want.action, want.shadow)
		}
	}
}

func TestOfSeveralSpentBudgetsTheLongestWaitCounts(t *testing.T) {
	w := newWorld(t, `
budgets:
  - {name: short, per: client, rate: 1/s, burst: 1}
  - {name: long, per: client, rate: 0.01/s, burst: 1}
  - {name: other, per: client, rate: 0.5/s, burst: 1}`)
	w.judge(chrome("/"))
	if v := w.judge(chrome("/")); v.Rule != "budget:long" || v.RetryAfter < 99*time.Second || v.RetryAfter > 100*time.Second {
		t.Errorf("by %s, retry after %s", v.Rule, v.RetryAfter)
	}
}

func TestPostureGatesRulesThresholdsAndBudgets(t *testing.T) {
	const source = `
rules:
  - {name: tense, when: 'request.path == "/rule"', action: deny, posture: guarded}
  - {name: scored, when: 'request.path == "/score"', score: 60}
thresholds: [{score: 50, action: challenge, posture: guarded}]
budgets: [{name: tense, per: client, rate: 0.001/s, burst: 1, posture: guarded}]`
	for _, tt := range []struct {
		path    string
		posture defense.Posture
		want    defense.Action
	}{
		{"/rule", defense.Calm, defense.Allow}, {"/rule", defense.Guarded, defense.Deny}, {"/rule", defense.Siege, defense.Deny},
		{"/score", defense.Calm, defense.Allow}, {"/score", defense.Guarded, defense.Challenge},
		{"/", defense.Calm, defense.Allow}, {"/", defense.Guarded, defense.Throttle},
	} {
		w := newWorld(t, source)
		w.posture = tt.posture
		w.judge(chrome("/"))
		if v := w.judge(chrome(tt.path)); v.Action != tt.want || v.Posture != tt.posture {
			t.Errorf("%s in %s: %s in %s, want %s", tt.path, tt.posture, v.Action, v.Posture, tt.want)
		}
	}
}

func TestExplainingChargesNothingAndSaysHowTheVerdictCame(t *testing.T) {
	w := newWorld(t, rules+`budgets: [{name: one, per: client, rate: 0.001/s, burst: 1}]`)
	w.decide(t, "challenge by list:b", "allow by peer:c")
	for range 5 {
		if v, _ := w.explain(chrome("/")); v.Action != defense.Allow {
			t.Fatalf("explained: %s", v.Action)
		}
	}
	if v := w.judge(chrome("/")); v.Action != defense.Allow {
		t.Errorf("the explanations spent the budget: %s", v.Action)
	}
	_, x := w.explain(chrome("/"))
	if len(x.Decisions) != 1 || x.Decisions[0].Found.Origin != "peer:c" || x.Decisions[0].Note == "" {
		t.Errorf("decisions: %+v", x.Decisions)
	}
	if notes := strings.Join(x.Notes, "\n"); !strings.Contains(notes, `budget "one"`) {
		t.Errorf("notes: %s", notes)
	}
	if len(x.Steps) == 0 {
		t.Error("no rule was traced")
	}
	w.mode = defense.ModeOff
	if _, x := w.explain(chrome("/")); len(x.Notes) != 1 || !strings.Contains(x.Notes[0], "mode off") {
		t.Errorf("mode off: %v", x.Notes)
	}
}

func TestScratchOfOneRequestLeaksNothingIntoTheNext(t *testing.T) {
	w := newWorld(t, rules)
	w.decide(t, "deny by operator on 198.51.100.1")
	w.judge(chrome("/forged", from("198.51.100.1")))
	got := w.judge(chrome("/"))
	if want := newWorld(t, rules).judge(chrome("/")); !cmp.Equal(got, want) {
		t.Errorf("(-fresh +reused):\n%s", cmp.Diff(want, got))
	}
}

func TestTheHostsOwnSectionAndClassAreUsed(t *testing.T) {
	w := newWorld(t, `
hosts:
  forge.example.org:
    classes: {blame: ["/**/blame/**"]}
    rules: [{name: no-blame, when: 'request.class == "blame"', action: deny}]`)
	forge := func(p *defense.Profile) { p.Host = "forge.example.org" }
	p := chrome("/a/blame/main", forge)
	if v := w.judge(p); v.Action != defense.Deny || p.Class != "blame" {
		t.Errorf("forge: %s, class %q", v.Action, p.Class)
	}
	if v := w.judge(chrome("/a/blame/main")); v.Action != defense.Allow {
		t.Errorf("elsewhere: %s", v.Action)
	}
}

// BenchmarkVerdict is what one page of a browser costs: profile, 100,000 decisions, default
// policy, budgets. The aim is 10 µs and 10 allocations at most.
func BenchmarkVerdict(b *testing.B) {
	w := newWorld(b, "imports: [readers-first]")
	ds := make([]defense.Decision, 0, 100_000)
	for i := range 100_000 {
		d := defense.Decision{ID: fmt.Sprint(i), Action: defense.Deny, Origin: "list:test", Created: noon, Sequence: uint64(i + 1)}
		if i%10 == 0 {
			d.Value = netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 12), byte(i >> 4), byte(i << 4)}), 28).String()
		} else {
			d.Value = netip.AddrFrom4([4]byte{45, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		}
		ds = append(ds, d)
	}
	if err := w.set.Put(ds...); err != nil {
		b.Fatal(err)
	}
	w.mode = defense.ModeCertain
	f, r, client := profiler(), chromeRequest("/wiki/Main_Page"), netip.MustParseAddr(reader)
	var p defense.Profile
	var v defense.Verdict
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second) // or the budget is spent
		f.FromRequest(&p, r, defense.NewClient(client), now)
		p.Site = "wiki"
		w.Judge(&p, &w.scratch, &v, nil)
	}
	if v.Action != defense.Allow {
		b.Fatalf("%s by %s", v.Action, v.Rule)
	}
}
