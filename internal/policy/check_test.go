package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compileErrors returns the problems of a policy as text.
func compileErrors(t *testing.T, src string) []string {
	t.Helper()
	_, err := Compile("p.yaml", []byte(src), Options{Vocabulary: vocabulary()})
	if err == nil {
		return nil
	}
	var list Errors
	if !errors.As(err, &list) {
		t.Fatalf("%T: %v", err, err)
	}
	return strings.Split(err.Error(), "\n")
}

func TestMistakesAreNamedWithPlaceAndIntention(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"action", "rules:\n  - name: x\n    when: 'true'\n    action: blokc\n", `p.yaml:4:13: unknown action "blokc" (did you mean "deny"?)`},
		{"action exact synonym", "rules:\n  - name: x\n    when: 'true'\n    action: block\n", `p.yaml:4:13: unknown action "block" (did you mean "deny"?)`},
		{"action typo", "rules:\n  - name: x\n    when: 'true'\n    action: chalenge\n", `p.yaml:4:13: unknown action "chalenge" (did you mean "challenge"?)`},
		{"action nonsense", "rules:\n  - name: x\n    when: 'true'\n    action: zzzzzzzz\n", `p.yaml:4:13: unknown action "zzzzzzzz" (known: allow, observe, throttle, challenge, tarpit, deny)`},
		{"charge", "rules:\n  - name: x\n    when: 'true'\n    action: charge\n", `p.yaml:4:13: action "charge": charge is not built yet`},
		{"top key", "ruels: []\n", `p.yaml:1:1: a policy has no key "ruels" (did you mean "rules"?)`},
		{"rule key", "rules:\n  - name: x\n    wehn: 'true'\n    action: deny\n", `p.yaml:3:5: a rule has no key "wehn" (did you mean "when"?)
p.yaml:2:5: rule "x" needs a condition (when)`},
		{"twice a key", "name: a\nname: b\nrules: []\n", `p.yaml:2:1: cannot be read as YAML: mapping key "name" already defined at [1:1]`},
		{"twice a rule", "rules:\n  - {name: x, when: 'true', score: 1}\n  - {name: x, when: 'true', score: 1}\n", `p.yaml:3:5: rule "x" appears twice; the first is in line 2`},
		{"action and score", "rules: [{name: x, when: 'true', score: 1, action: deny}]", `p.yaml:1:9: rule "x" needs exactly one of action and score`},
		{"neither", "rules: [{name: x, when: 'true'}]", `p.yaml:1:9: rule "x" needs exactly one of action and score`},
		{"nameless", "rules:\n  - when: 'true'\n    action: deny", `p.yaml:2:5: a rule needs a name`},
		{"basis of a score", "rules: [{name: x, when: 'true', score: 1, basis: certain}]", `p.yaml:1:9: rule "x" only adds to the score: basis belongs to rules with an action`},
		{"retryAfter of allow", "rules: [{name: x, when: 'true', action: allow, retryAfter: 5s}]", `p.yaml:1:9: rule "x" lets the request pass: retryAfter belongs to throttle, challenge, tarpit and deny`},
		{"retryAfter", "rules: [{name: x, when: 'true', action: deny, retryAfter: 5}]", `p.yaml:1:59: retryAfter is a duration from 1s to 24h such as 60s or 5m, not "5"`},
		{"score range", "rules: [{name: x, when: 'true', score: 101}]", `p.yaml:1:40: score is a whole number from -100 to 100, not "101"`},
		{"mode", "rules: [{name: x, when: 'true', score: 1, mode: shadwo}]", `p.yaml:1:49: unknown mode "shadwo" (did you mean "shadow"?)`},
		{"posture", "rules: [{name: x, when: 'true', score: 1, posture: guard}]", `p.yaml:1:52: unknown posture "guard" (did you mean "guarded"?)`},
		{"not a list", "rules: {name: x}", `p.yaml:1:8: rules is a list (lines that begin with -), not a mapping`},
		{"not a mapping", "rules: [x]", `p.yaml:1:9: a rule is a mapping (key: value lines), not "x"`},
		{"threshold", "thresholds: [{score: 50, action: allow}, {score: 50}, {score: 0, action: deny}]", `p.yaml:1:34: a threshold cannot allow: what reaches no threshold passes
p.yaml:1:42: a threshold needs score and action
p.yaml:1:63: a threshold's score is a whole number from 1 to 100, not "0"`},
		{"two thresholds", "thresholds: [{score: 50, action: deny}, {score: 50, action: tarpit}]", `p.yaml:1:41: there are two thresholds for score 50 and posture calm`},
		{"budget", "budgets: [{name: b, per: clnt, rate: 5, burst: 0}, {name: c}]", `p.yaml:1:26: unknown per "clnt" (did you mean "client"?)
p.yaml:1:38: rate is a number of requests in a unit of time such as 5/s, 300/min or 1000/h, not "5"
p.yaml:1:48: burst is a whole number from 1 to 1000000, not "0"
p.yaml:1:52: budget "c" needs per, rate and burst`},
		{"budget's class", "classes: {expensive: [/a]}\nbudgets: [{name: b, per: client, rate: 5/s, burst: 1, class: expensiv, kinds: [page]}]",
			`p.yaml:2:62: budget "b": there is no class "expensiv" (did you mean "expensive"?)
p.yaml:2:80: unknown kind "page" (known: other, navigation, asset, media, feed, api, git, upgrade, preview, robots, wellknown)`},
		{"unknown signal", "signals: {no-sec-fetsch: 3}\n", `p.yaml:1:11: unknown signal "no-sec-fetsch" (did you mean "no-sec-fetch"?)`},
		{"class pattern", "classes:\n  a:\n    - /x/[ab]\n    - b/c\n", `p.yaml:3:7: class "a": the path pattern "/x/[ab]" has brackets or backslashes: a path pattern knows *, ** and ?; use a condition with matches("…") for a regular expression
p.yaml:4:7: class "a": the path pattern "b/c" should begin with / or **/`},
		{"class condition", "classes:\n  a:\n    - when: score > 3 && request.class == \"a\"\n", `p.yaml:3:13: class "a": score is known to rules only
p.yaml:3:26: class "a": request.class is known to rules and budgets only`},
		{"host", "hosts:\n  https://example.org/: {rules: []}\n  a.*.org: {rules: []}\n", `p.yaml:2:3: host "https://example.org/": write the host's name alone, without scheme, port and path
p.yaml:3:3: host "a.*.org": a wildcard stands only at the beginning, as in *.example.org`},
		{"list entries", "lists:\n  office:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n    - 10.1.2.3/8\n    - nonsense\n  names: [curl, 10.0.0.1]\n  bad: [10.0.0.0/33]\n", `p.yaml:4:7: list "office": "10.0.0.0/33" is not a range: "33" is not a number of bits from 0 to 32
p.yaml:5:7: list "office": "10.1.2.3/8" has bits set beyond its mask (did you mean "10.0.0.0/8"?)
p.yaml:6:7: list "office": "nonsense" is not an IP address or a range such as 192.0.2.0/24
p.yaml:7:17: list "names" holds texts, but "10.0.0.1" looks like an address: put addresses in a list of their own
p.yaml:8:9: list "bad": "10.0.0.0/33" is not a range: "33" is not a number of bits from 0 to 32`},
		{"alias", "lists: &a\n  b: [x]\nrules: *a\n", `p.yaml:1:8: cannot be read as YAML: anchors (&), aliases (*) and merges (<<) are not supported: name a list under lists, or import a file`},
		{"tag", "name: !!str x\n", `p.yaml:1:7: cannot be read as YAML: tags (!) are not supported; a text that begins with ! needs quotes`},
		{"empty", "# nothing\n", `p.yaml: is empty: a policy needs rules, thresholds, budgets or imports`},
		{"two documents", "name: a\n---\nname: b\n", `p.yaml:3:1: a policy file holds one YAML document; this is a second one`},
		{"deep", "rules: " + strings.Repeat("[", 100), `p.yaml:1:24: cannot be read as YAML: more than 16 nested brackets`},
		{"deep lists", strings.Repeat("- ", 100), `p.yaml:1:9: cannot be read as YAML: too many nested lists in one line`},
		{"binary", "name: \xff\xfe", `p.yaml: is not valid UTF-8 text`},
		{"import", "imports: [reader-first]", `p.yaml:1:11: import "reader-first": there is no preset of that name (did you mean "readers-first"?); a file begins with ./`},
		{"disable", "imports: [readers-first]\ndisable: [probe-pth]", `p.yaml:2:11: disable: no import has a rule or budget "probe-pth" (did you mean "probe-path"?)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(strings.Split(tt.want, "\n"), compileErrors(t, tt.src), cmp.Transformer("sort", func(s []string) []string { s = slices.Clone(s); slices.Sort(s); return s })); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestMistakesInConditions(t *testing.T) {
	for cond, want := range map[string]string{
		`requst.path == "/a"`:                                     `p.yaml:5:11: rule "x": unknown variable "requst.path" (did you mean "request.path"?)`,
		`request.pth == "/a"`:                                     `p.yaml:5:11: rule "x": unknown variable "request.pth" (did you mean "request.path"?)`,
		`request.zzzzzzzzz == "/a"`:                               `p.yaml:5:11: rule "x": unknown variable "request.zzzzzzzzz" (known: request.class, request.host, request.kind, request.method, request.path, request.protocol, request.query, request.scheme, request.target, request.trap)`,
		`request.path.size == 3`:                                  `p.yaml:5:11: rule "x": request.path has no part "size"`,
		`"a" == "a" && crawler.purpose == "ai-traning"`:           `p.yaml:5:44: rule "x": crawler.purpose is never "ai-traning" (did you mean "ai-training"?)`,
		`request.kind in ["feed", "gti"]`:                         `p.yaml:5:36: rule "x": request.kind is never "gti" (did you mean "git"?)`,
		`request.kind == "page"`:                                  `p.yaml:5:27: rule "x": request.kind is never "page" (known: other, navigation, asset, media, feed, api, git, upgrade, preview, robots, wellknown)`,
		`crawler.id == "gptbt"`:                                   `p.yaml:5:25: rule "x": crawler.id is never "gptbt" (did you mean "gptbot"?)`,
		`"no-sec-fetchs" in signals`:                              `p.yaml:5:11: rule "x": unknown signal "no-sec-fetchs" (did you mean "no-sec-fetch"?)`,
		`request.class == "nothing"`:                              `p.yaml:5:28: rule "x": request.class is never "nothing" (known: costly)`,
		`request.protocol == "HTTP/2"`:                            `p.yaml:5:31: rule "x": request.protocol is never "HTTP/2" (did you mean "HTTP/2.0"?)`,
		`request.path == "admin"`:                                 `p.yaml:5:27: rule "x": request.path always begins with a slash (did you mean "/admin"?)`,
		`request.path.startsWith("admin")`:                        `p.yaml:5:35: rule "x": request.path always begins with a slash (did you mean "/admin"?)`,
		`request.method == "get"`:                                 `p.yaml:5:29: rule "x": request.method is never "get": methods are upper case (did you mean "GET"?)`,
		`client.country == "de"`:                                  `p.yaml:5:29: rule "x": client.country is never "de": countries are upper case (did you mean "DE"?)`,
		`client.address == "2001:DB8::1"`:                         `p.yaml:5:29: rule "x": client.address is never "2001:DB8::1": that is not the address's canonical form (did you mean "2001:db8::1"?)`,
		`client.address == "10.0.0.0/8"`:                          `p.yaml:5:29: rule "x": client.address is never "10.0.0.0/8": a range is asked for with client.address.within("10.0.0.0/8")`,
		`client.address.within("10.0.0.0/33")`:                    `p.yaml:5:33: rule "x": "10.0.0.0/33" is not a range: "33" is not a number of bits from 0 to 32`,
		`client.address.within(agent.text)`:                       `p.yaml:5:38: rule "x": within needs ranges in quotes; name a list with inList`,
		`agent.text.within("10.0.0.0/8")`:                         `p.yaml:5:16: rule "x": within is asked of client.address`,
		`client.address.inList("offices")`:                        `p.yaml:5:33: rule "x": there is no list "offices" (did you mean "office"?)`,
		`agent.name.inList("office")`:                             `p.yaml:5:29: rule "x": list "office" holds addresses, which agent.name never equals`,
		`client.asn.inList("tools")`:                              `p.yaml:5:29: rule "x": list "tools" holds texts, which client.asn never equals`,
		`client.address.in("10.0.0.0/8")`:                         `p.yaml:5:26: rule "x": Syntax error: no viable alternative at input '.in' ("in" is an operator: write client.address.within("192.0.2.0/24") or client.address.inList("name"))`,
		`agent.text.matches("(")`:                                 "p.yaml:5:30: rule \"x\": error parsing regexp: missing closing ): `(`",
		`agent.text.matches("((a{100}){100}){100}")`:              "p.yaml:5:30: rule \"x\": error parsing regexp: invalid repeat count: `{100}`",
		`agent.text.matches("(a{30}){30}(b{30}){30}(c{30}){30}")`: `p.yaml:5:30: rule "x": the regular expression is too complex (repetitions multiply): its size 2882 exceeds limit of 2000`,
		`glob(request.path, "/a/{b}")`:                            `p.yaml:5:30: rule "x": the path pattern "/a/{b}" has brackets or backslashes: a path pattern knows *, ** and ?; use a condition with matches("…") for a regular expression`,
		`header("acept") == ""`:                                   `p.yaml:5:18: rule "x": header "acept" is not looked at (did you mean "accept"?)`,
		`header("cookie") == ""`:                                  `p.yaml:5:18: rule "x": the value of "cookie" is a credential and never kept: ask present("cookie") or absent("cookie")`,
		`present(agent.name)`:                                     `p.yaml:5:24: rule "x": present needs a header's name in quotes, as in present("accept")`,
		`request.path.startWith("/a")`:                            `p.yaml:5:33: rule "x": unknown function "startWith" (did you mean "startsWith"?)`,
		`request.path and score`:                                  `p.yaml:5:24: rule "x": Syntax error: mismatched input 'and' (write && for "and", || for "or", ! for "not")`,
		`agent.major == "141"`:                                    `p.yaml:5:23: rule "x": "==" cannot be applied to (number, text)`,
		`agent.major`:                                             `p.yaml:5:11: rule "x": the condition is a number, not true or false`,
		`score > 100 || score > 101`:                              `p.yaml:5:34: rule "x": score lies between 0 and 100`,
		`signals.exists(s, s == agnet.name)`:                      `p.yaml:5:34: rule "x": unknown variable "agnet.name" (did you mean "agent.name"?)`,
	} {
		src := "lists: {office: [10.0.0.1], tools: [curl]}\nclasses: {costly: [/a]}\nrules:\n  - name: x\n    when: " + cond + "\n    action: deny\n"
		if strings.HasPrefix(cond, `"`) {
			src = strings.Replace(src, cond, ">-\n          "+cond, 1)
			want = strings.Replace(want, ":5:", ":6:", 1)
		}
		got := compileErrors(t, src)
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s\n got %s\nwant %s", cond, strings.Join(got, "\n     "), want)
		}
	}
}

func TestColumnsInLongConditions(t *testing.T) {
	for name, when := range map[string]string{
		"folded":  ">-\n      request.path == \"/é\" &&\n      request.kind == \"x\"",
		"literal": "|\n      request.path == \"/é\" &&\n      request.kind == \"x\"\n",
		"plain":   "request.path == \"/é\" &&\n      request.kind == \"x\"",
		"single":  "'request.path == \"/é\" &&\n      request.kind == \"x\"'",
	} {
		src := "rules:\n  - name: x\n    action: deny\n    when: " + when
		got := compileErrors(t, src)
		line := 6
		if name == "plain" || name == "single" {
			line = 5
		}
		want := fmt.Sprintf("p.yaml:%d:23: ", line)
		if len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %q, want it at %s", name, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	pol := mustCompile(t, `
rules:
  - {name: never, when: '1 == 2 && agent.mobile', action: deny}
  - {name: shadow, when: 'true', action: deny, mode: shadow}
  - {name: tense, when: 'true', action: deny, posture: guarded}
  - {name: all, when: '!false', action: allow}
  - {name: behind, when: 'agent.mobile', action: deny}
thresholds: [{score: 50, action: deny}]
`)
	var got []string
	for _, w := range pol.Warnings() {
		got = append(got, w.String())
	}
	want := []string{
		`test.yaml:3:5: rule "never" can never match: its condition is always false`,
		`test.yaml:6:5: rule "all" always matches, so the 1 rules after it are never reached, beginning with "behind" (test.yaml:7)`,
		`test.yaml:6:5: rule "all" always matches, so the thresholds are never reached`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestManyProblemsAreBounded(t *testing.T) {
	var src strings.Builder
	src.WriteString("rules:\n")
	for i := range 200 {
		fmt.Fprintf(&src, "  - {name: r%d, when: 'nope.a == 1', action: deny}\n", i)
	}
	got := compileErrors(t, src.String())
	if len(got) != maxProblems+1 || got[maxProblems] != "p.yaml: and 150 more problems" {
		t.Errorf("%d lines, the last: %s", len(got), got[len(got)-1])
	}
}

func TestBounds(t *testing.T) {
	long := `"` + strings.Repeat("a", maxExpression) + `" == "b"`
	var many strings.Builder
	many.WriteString("rules:\n")
	for i := range maxRules + 1 {
		fmt.Fprintf(&many, "  - {name: r%d, when: 'true', score: 1}\n", i)
	}
	for src, want := range map[string]string{
		"rules: [{name: x, action: deny, when: '" + long + "'}]": "at most 4096 are allowed",
		many.String():                        "has 2001 rules; at most 2000 are allowed",
		"#" + strings.Repeat("x", maxSource): "a policy file may have 1048576",
		"name: " + strings.Repeat("x", 200):  "the policy's name is at most 100 letters",
		strings.Repeat(" ", 300) + "a: b":    "more than 200 columns of indentation",
		"rules: [{name: x, action: deny, when: '" + strings.Repeat("(", 300) + "'}]": "recursion limit exceeded",
	} {
		if got := strings.Join(compileErrors(t, src), "\n"); !strings.Contains(got, want) {
			t.Errorf("%.60q…: %.300s, want %q", src, got, want)
		}
	}
}

// files is a file system for imports.
func files(m map[string]string) Options {
	return Options{ReadFile: func(name string) ([]byte, error) {
		if s, ok := m[name]; ok {
			return []byte(s), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}}
}

func TestImports(t *testing.T) {
	o := files(map[string]string{
		"etc/main.yaml": `
name: main
imports: [./lib/a.yaml, block-ai-training]
disable: [seo-crawlers, from-b]
lists: {l: [own]}
signals: {s1: 1}
rules:
  - {name: own, when: 'agent.name.inList("l")', action: allow}
  - {name: from-a, when: 'agent.name == "own"', action: observe}
hosts: {h.org: {rules: [{name: h-own, when: 'true', score: 1}]}}
`,
		"etc/lib/a.yaml": `
imports: [b.yaml]
lists: {l: [imported], m: [x]}
signals: {s1: 2, s2: 2}
rules:
  - {name: from-a, when: 'agent.name.inList("m")', action: deny}
  - {name: also-a, when: 'true', score: 3}
thresholds: [{score: 33, action: throttle}]
hosts: {h.org: {rules: [{name: h-a, when: 'true', score: 1}]}, i.org: {signals: {s1: 9}}}
`,
		"etc/lib/b.yaml": `
rules:
  - {name: from-b, when: 'true', score: 3}
  - {name: keep-b, when: 'true', score: 3}
`,
	})
	pol, err := Load("etc/main.yaml", o)
	if err != nil {
		t.Fatal(err)
	}
	names := func(host string) (out []string) {
		for _, r := range pol.Section(host).rules {
			out = append(out, r.name)
		}
		return out
	}
	want := []string{"own", "from-a", "also-a", "keep-b", "ai-search", "ai-user", "data-collection-tools", "unknown-bot-on-expensive-page"}
	if d := cmp.Diff(want, names("")[:len(want)]); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
	if n := names("h.org"); n[0] != "h-own" || n[1] != "h-a" || n[2] != "own" {
		t.Errorf("rules of h.org: %v", n)
	}
	if !slices.Contains(names(""), "probe-path") || slices.ContainsFunc(pol.Section("").Budgets(), func(b Budget) bool { return b.Name == "seo-crawlers" }) {
		t.Error("what the preset imports is missing, or what was disabled is there")
	}
	if th := pol.Section("").thresholds; len(th) != 1 || th[0].score != 33 {
		t.Errorf("the first import's thresholds count: %+v", th)
	}
	if w := pol.Section("").weights; w["s1"] != 1 || w["s2"] != 2 || pol.Section("i.org").weights["s1"] != 9 {
		t.Errorf("weights %v", w)
	}
	if d := cmp.Diff([]string{"etc/main.yaml", "etc/lib/a.yaml", "etc/lib/b.yaml"}, pol.Files()); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if r := pol.Rules()[1]; r.Effect != "observe" || r.File != "etc/main.yaml" || pol.Name() != "main" || len(pol.Hash()) != 16 {
		t.Errorf("%+v; name %q hash %q", r, pol.Name(), pol.Hash())
	}
}

func TestHashFollowsImports(t *testing.T) {
	m := map[string]string{"a.yaml": "imports: [./b.yaml]", "b.yaml": "name: b"}
	one, err := Load("a.yaml", files(m))
	if err != nil {
		t.Fatal(err)
	}
	m["b.yaml"] = "name: c"
	two, err := Load("a.yaml", files(m))
	if err != nil || one.Hash() == two.Hash() {
		t.Errorf("hashes %s and %s, %v", one.Hash(), two.Hash(), err)
	}
}

func TestImportsThatFail(t *testing.T) {
	deep := map[string]string{}
	for i := range 10 {
		deep[fmt.Sprintf("d%d.yaml", i)] = fmt.Sprintf("imports: [./d%d.yaml]", i+1)
	}
	for _, tt := range []struct {
		files map[string]string
		ref   string
		want  string
	}{
		{map[string]string{"a.yaml": "imports: [./a.yaml]"}, "./a.yaml", `a.yaml:1:11: import "./a.yaml": imports go round in a circle: a.yaml -> a.yaml`},
		{map[string]string{"a.yaml": "imports: [./b.yaml]", "b.yaml": "imports: [../x/../a.yaml, ./a.yaml]"}, "a.yaml", `b.yaml:1:27: import "./a.yaml": imports go round in a circle: a.yaml -> b.yaml -> a.yaml`},
		{map[string]string{"a.yaml": "imports: [./b.yaml]"}, "a.yaml", `a.yaml:1:11: import "./b.yaml": open b.yaml: file does not exist`},
		{deep, "d0.yaml", `d7.yaml:1:11: import "./d8.yaml": imports are nested more than 8 deep`},
		{map[string]string{"a.yaml": "imports: [./b.yaml]", "b.yaml": "rules: [{name: x, when: 'nope', action: deny}]"}, "a.yaml", `b.yaml:1:26: rule "x": unknown variable "nope"`},
		{nil, "readers-fist", `policy: there is no preset "readers-fist" (did you mean "readers-first"?); a file is named by its path, such as ./readers-fist.yaml`},
		{nil, "nowhere.yaml", `policy: reading nowhere.yaml: file does not exist`},
	} {
		_, err := Load(tt.ref, files(tt.files))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.ref, err, tt.want)
		}
	}
}

func TestDiamondImportsCountOnce(t *testing.T) {
	pol, err := Load("a.yaml", files(map[string]string{
		"a.yaml": "imports: [./b.yaml, ./c.yaml]", "b.yaml": "imports: [./d.yaml]", "c.yaml": "imports: [./d.yaml]\nrules: [{name: c, when: 'true', score: 1}]",
		"d.yaml": "rules: [{name: d, when: 'true', score: 1}]",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if r := pol.Rules(); len(r) != 2 {
		t.Errorf("%+v", r)
	}
}
