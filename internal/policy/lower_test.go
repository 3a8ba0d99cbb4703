package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// bothWays compiles an expression twice: lowered, and wholly interpreted.
func bothWays(t testing.TB, c *conditions, text string) (lowered, interpreted condition, ok bool) {
	t.Helper()
	checked, issues := c.env.Compile(text)
	if issues.Err() != nil || checked.OutputType() != cel.BoolType {
		return condition{}, condition{}, false
	}
	l := lowering{env: c.env, ast: checked.NativeRep(), vars: c.vars, lists: c.lists}
	lowered = l.condition(checked.NativeRep().Expr())
	interpreted = l.interpret(checked.NativeRep().Expr())
	if l.err != nil {
		return condition{}, condition{}, false
	}
	return lowered, interpreted, true
}

func testConditions(t testing.TB) *conditions {
	t.Helper()
	ps := &problems{}
	lists := map[string]*list{}
	for name, entries := range map[string][]string{"office": {"203.0.113.0/24", "2001:db8::/32"}, "tools": {"curl", "Chrome"}, "asns": {"AS64496", "1"}} {
		spec := &listSpec{name: name}
		for _, e := range entries {
			spec.entries = append(spec.entries, located{text: e})
		}
		lists[name] = compileList(spec, ps)
	}
	c, err := newConditions(Vocabulary{}, []string{"costly"}, lists, nil, ps)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// randomProfile draws from few values so that comparisons often succeed.
func randomProfile(r *rand.Rand) *env {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	text := func(s ...string) defense.Text {
		return defense.Text{Value: pick(s...), Presence: defense.Presence(r.IntN(3))}
	}
	p := &defense.Profile{
		Time: time.Unix(r.Int64N(2e9), 0), Method: pick("GET", "POST"), Scheme: pick("http", "https", ""), Host: pick("example.org", ""),
		Path: pick("/", "/a", "/a/b", "/ä/\xff", "*", ""), Query: pick("", "a=b"), Target: pick("/", "/a?a=b"), Protocol: pick("HTTP/1.1", "HTTP/2.0", ""),
		Kind: defense.Kind(r.IntN(12)), Class: pick("", "costly"),
		Agent: defense.Agent{Text: text("", "curl/8", "Mozilla/5.0 (bot)"), Family: defense.AgentFamily(r.IntN(9)), Name: pick("", "curl", "Chrome", "/a"),
			Major: r.IntN(5) - 1, OS: pick("", "Linux"), Mobile: r.IntN(2) == 0},
		Headers:   defense.Headers{Accept: text("", "*/*", "text/html"), Cookie: defense.Presence(r.IntN(3)), Via: text("1.1 x")},
		Identity:  defense.Identity{Status: defense.IdentityStatus(r.IntN(4)), How: pick("", "dns")},
		Clearance: defense.Clearance{Valid: r.IntN(2) == 0},
	}
	if r.IntN(2) == 0 {
		p.Agent.Crawler = &defense.Crawler{ID: pick("gptbot", "x"), Name: "GPTBot", Purpose: defense.Purposes()[r.IntN(4)]}
	}
	p.Client = defense.NewClient([]netip.Addr{{}, netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.1")}[r.IntN(4)])
	p.Client.ASN, p.Client.Country = uint32([]int{0, 1, 64496, 1<<32 - 1}[r.IntN(4)]), pick("", "DE")
	e := &env{p: p, posture: defense.Posture(r.IntN(4)), sum: r.IntN(300) - 100}
	for range r.IntN(3) {
		e.signals = append(e.signals, defense.Signal{Name: pick("a", "b", "no-accept")})
	}
	return e
}

// expression draws a random expression of a type from the condition language.
func expression(r *rand.Rand, t kind, depth int) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	if depth <= 0 {
		switch t {
		case kindBool:
			return pick("true", "false", "agent.mobile", "clearance.valid", `present("accept")`, `absent("via")`, `absent("cookie")`)
		case kindInt:
			return pick("0", "1", "-1", "3", "64496", "4294967295", "9223372036854775807", "score", "agent.major", "client.asn", "time.hour", "signals.size()")
		}
		return pick(`""`, `"/a"`, `"curl"`, `"GET"`, `"a"`, `"203.0.113.7"`, `"2001:db8::1"`, "request.path", "request.kind", "agent.name", "agent.text",
			"client.address", "client.prefix", "crawler.id", "crawler.purpose", "posture", `header("accept")`, "identity.status", "request.class")
	}
	b := func() string { return expression(r, kindBool, depth-1) }
	i := func() string { return expression(r, kindInt, depth-1) }
	s := func() string { return expression(r, kindString, depth-1) }
	switch t {
	case kindInt:
		switch r.IntN(5) {
		case 0:
			return fmt.Sprintf("(%s %s %s)", i(), pick("+", "-", "*", "/", "%"), i())
		case 1:
			return fmt.Sprintf("(%s ? %s : %s)", b(), i(), i())
		case 2:
			return "size(" + s() + ")"
		case 3:
			return "-(" + i() + ")"
		}
		return expression(r, t, 0)
	case kindString:
		switch r.IntN(4) {
		case 0:
			return fmt.Sprintf("(%s ? %s : %s)", b(), s(), s())
		case 1:
			return fmt.Sprintf("(%s + %s)", s(), s())
		}
		return expression(r, t, 0)
	}
	switch r.IntN(14) {
	case 0, 1:
		return "(" + b() + " && " + b() + ")"
	case 2, 3:
		return "(" + b() + " || " + b() + " || " + b() + ")"
	case 4:
		return "!" + b()
	case 5:
		return fmt.Sprintf("(%s %s %s)", s(), pick("==", "!=", "<", "<=", ">", ">="), s())
	case 6:
		return fmt.Sprintf("(%s %s %s)", i(), pick("==", "!=", "<", "<=", ">", ">="), i())
	case 7:
		return fmt.Sprintf("(%s %s %s)", b(), pick("==", "!="), b())
	case 8:
		return fmt.Sprintf("%s.%s(%s)", s(), pick("startsWith", "endsWith", "contains"), s())
	case 9:
		return fmt.Sprintf(`%s.matches(%s)`, s(), pick(`"^/"`, `"(?i)BOT|curl"`, `"a.*b$"`, `"\\d"`))
	case 10:
		return fmt.Sprintf("(%s in [%s, %s, \"curl\"])", s(), pick(`"a"`, `"203.0.113.7"`), pick(`"GET"`, s()))
	case 11:
		return fmt.Sprintf("(%s in [1, 2, %s])", i(), pick("3", "64496", i()))
	case 12:
		return pick(`client.address.within("203.0.113.0/24")`, `client.address.within(["10.0.0.0/8", "2001:db8::1"])`, `client.address.inList("office")`,
			`agent.name.inList("tools")`, `client.asn.inList("asns")`, `glob(request.path, "/**/b")`, `"a" in signals`, s()+" in signals", `(client.address == "203.0.113.7")`,
			`(client.address in ["203.0.113.7", "10.0.0.1"])`)
	}
	return fmt.Sprintf("(%s ? %s : %s)", b(), b(), b())
}

// agree fails the test when the two ways differ on a random profile.
func agree(t *testing.T, text string, lowered, interpreted condition, r *rand.Rand) truth {
	t.Helper()
	e := randomProfile(r)
	got := lowered.eval(e)
	e.cost = 0
	want := interpreted.eval(e)
	if got != want {
		t.Fatalf("%s\nlowered %d, interpreted %d (%v)\nprofile %+v\nsignals %v posture %v sum %d", text, got, want, e.err, *e.p, e.signals, e.posture, e.sum)
	}
	return want
}

func TestLoweredConditionsAgreeWithInterpretedOnes(t *testing.T) {
	c := testConditions(t)
	r := rand.New(rand.NewPCG(1, 2))
	counts := [3]int{}
	total := 0
	for range 1500 {
		text := expression(r, kindBool, 1+r.IntN(4))
		lowered, interpreted, ok := bothWays(t, c, text)
		if !ok {
			continue
		}
		if lowered.total != nil {
			total++
		}
		for range 12 {
			counts[agree(t, text, lowered, interpreted, r)]++
		}
	}
	// The test is worth something only if all outcomes and both ways occur often.
	if min(counts[no], counts[yes], counts[failed]) < 100 || total < 300 {
		t.Errorf("outcomes false, true, failed: %v; wholly lowered: %d", counts, total)
	}
}

func FuzzLowering(f *testing.F) {
	c := testConditions(f)
	for _, s := range []string{
		`request.path.startsWith("/a") && !(agent.major / score > 2)`, `"a" in signals || [1,2].exists(x, x == agent.major)`,
		`client.address.within("10.0.0.0/8") ? agent.mobile : header("accept") != ""`, `client.asn * 3 - 1 % 2 >= -agent.major`,
		`agent.text.matches("(?i)bot") == ("" in [crawler.id, "x"])`, `size(request.path) in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]`, `false && 1/0 == 1`, `has({"a": 1}.a)`,
	} {
		f.Add(s, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		if len(text) > 300 {
			return
		}
		lowered, interpreted, ok := bothWays(t, c, text)
		if !ok {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for range 8 {
			e := randomProfile(r)
			got := lowered.eval(e)
			e.cost, e.err = 0, nil
			want := interpreted.eval(e)
			if e.err != nil && strings.Contains(e.err.Error(), "limit exceeded") {
				continue // lowered code has no cost to limit
			}
			if got != want {
				t.Fatalf("%s: lowered %d, interpreted %d (%v) on %+v", text, got, want, e.err, *e.p)
			}
		}
	})
}

func TestConstantsAreFolded(t *testing.T) {
	c := testConditions(t)
	for text, want := range map[string]bool{
		`1 + 1 == 2`: true, `"a" in ["a", "b"]`: true, `false && agent.mobile`: false, `agent.mobile && false`: false, `true || 1/0 == 1`: true,
		`!("abc".startsWith("b"))`: true, `(1 < 2 ? "a" : "b") == "a"`: true, `false && [1].exists(x, x == 1)`: false, `agent.name in []`: false,
	} {
		got, _, ok := bothWays(t, c, text)
		if !ok || !got.constant || got.value != want {
			t.Errorf("%s: constant %v, value %v", text, got.constant, got.value)
		}
	}
}

func TestTheCommonLanguageIsLowered(t *testing.T) {
	c := testConditions(t)
	for _, text := range []string{
		`request.kind in ["a", "b"] && !(agent.family == "tool") || score >= 50`, `client.address.inList("office")`, `client.asn.inList("asns")`,
		`agent.text.matches("bot")`, `glob(request.path, "/a/**")`, `"x" in signals`, `absent("via") && header("accept") != ""`,
		`agent.major * 2 - 1 < 80`, `size(request.query) > 100`, `agent.mobile ? score > 3 : score > 5`, `client.prefix == "10.0.0.0/24"`,
	} {
		if got, _, ok := bothWays(t, c, text); !ok || got.total == nil {
			t.Errorf("%s is interpreted", text)
		}
	}
}

func TestGuardsSpareTheInterpreter(t *testing.T) {
	c := testConditions(t)
	cond, _, ok := bothWays(t, c, `agent.mobile && [1, 2].exists(x, x == agent.major)`)
	if !ok {
		t.Fatal("does not compile")
	}
	e := &env{p: &defense.Profile{}}
	if cond.eval(e) != no || e.cost != 0 {
		t.Errorf("cost %d although the guard is false", e.cost)
	}
}

func FuzzCompile(f *testing.F) {
	for _, name := range presetNames() {
		src, err := PresetSource(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
	for _, s := range []string{
		"rules:\n  - name: x\n    when: >-\n      a &&\n      b\n    action: deny\n", "imports: [./a.yaml]", "a: &a [*a]", "rules: [{name: x, when: '\"é\" == request.pth', score: 1}]",
		"hosts: {'*.a': {budgets: [{name: b, per: site, rate: 1/s, burst: 1}]}}", "lists: {a: [10.0.0.0/33, '', 1]}", "? a\n: b", "- - - -", "name: \"\\u0000\"", "thresholds:\n- score: 1\n  action: deny",
	} {
		f.Add(s)
	}
	o := Options{Vocabulary: vocabulary(), ReadFile: func(string) ([]byte, error) { return []byte("rules: []"), nil }}
	f.Fuzz(func(t *testing.T, src string) {
		p, err := Compile("f.yaml", []byte(src), o)
		if err != nil {
			if list, ok := err.(Errors); ok && len(list) == 0 {
				t.Error("an error without problems")
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("control characters in %q", err)
			}
			return
		}
		out := judge(p, chrome(), defense.Siege)
		if out.Score < 0 || out.Score > defense.MaxScore {
			t.Errorf("score %d", out.Score)
		}
	})
}
