package robots

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

const (
	chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
	curl   = "curl/8.9.1"
)

func TestRulesSayWhatTheFileAsksOfAnAgent(t *testing.T) {
	for _, c := range []struct {
		name, file, agent, path string
		disallowed              bool
	}{
		{"an empty file allows everything", "", curl, "/a", false},
		{"a page that is no robots.txt allows everything", "<!doctype html><title>Not found: sorry</title>\n<p>a:b", curl, "/a", false},
		{"a rule speaks to all agents", "User-agent: *\nDisallow: /w/", curl, "/w/index.php", true},
		{"to a browser, too: who is meant is for others to say", "User-agent: *\nDisallow: /w/", chrome, "/w/index.php", true},
		{"a path is matched from its beginning only", "User-agent: *\nDisallow: /w/", curl, "/a/w/", false},
		{"a path is matched with its case", "User-agent: *\nDisallow: /W/", curl, "/w/", false},
		{"the words are read without theirs", "USER-AGENT: *\nDISALLOW: /w/", curl, "/w/", true},
		{"an agent's own group replaces that of all", "User-agent: *\nDisallow: /\n\nUser-agent: GPTBot\nDisallow: /private", gptbot, "/public", false},
		{"the order of the groups does not matter", "User-agent: GPTBot\nDisallow: /private\nUser-agent: *\nDisallow: /", gptbot, "/public", false},
		{"an agent's name is found anywhere in its User-Agent", "User-agent: gptbot\nDisallow: /", gptbot, "/", true},
		{"a name with a version is the name", "User-agent: GPTBot/2.0\nDisallow: /", gptbot, "/", true},
		{"a name must be a whole word", "User-agent: bot\nDisallow: /", gptbot, "/", false},
		{"the longest name counts", "User-agent: Applebot\nDisallow:\nUser-agent: Applebot-Extended\nDisallow: /", "Mozilla/5.0 (Applebot-Extended/0.1)", "/", true},
		{"and a name is not the beginning of a longer one", "User-agent: Applebot\nDisallow: /", "Mozilla/5.0 (Applebot-Extended/0.1)", "/", false},
		{"groups of one name are one group", "User-agent: curl\nDisallow: /a\nUser-agent: *\nDisallow: /\nUser-agent: curl\nDisallow: /b", curl, "/b", true},
		{"several names share a group", "User-agent: a\nUser-agent: curl\nDisallow: /b", curl, "/b", true},
		{"other lines between names do not part them", "User-agent: a\nSitemap: http://x/s.xml\n\n# so\nCrawl-delay: x\nUser-agent: a2\nUser-agent: curl\nDisallow: /b", "a/1", "/b", true},
		{"rules before any name speak to nobody", "Disallow: /\nUser-agent: *\nDisallow: /b", curl, "/a", false},
		{"a rule that is not understood harms no other", "User-agent: *\nCrawl-delay: soon\nDisallow /x\nDisallow: /b", curl, "/b", true},
		{"an empty rule disallows nothing", "User-agent: *\nDisallow:", curl, "/", false},
		{"an empty rule ends the names", "User-agent: curl\nDisallow:\nUser-agent: *\nDisallow: /", curl, "/", false},
		{"the longest rule decides", "User-agent: *\nDisallow: /a\nAllow: /a/b\nDisallow: /a/b/c", curl, "/a/b/x", false},
		{"whatever the order", "User-agent: *\nDisallow: /a/b/c\nAllow: /a/b\nDisallow: /a", curl, "/a/b/c", true},
		{"among equals allow decides", "User-agent: *\nDisallow: /a\nAllow: /a", curl, "/a", false},
		{"wildcards count for the length", "User-agent: *\nAllow: /page\nDisallow: /*.htm", curl, "/page.htm", true},
		{"an asterisk stands for anything", "User-agent: *\nDisallow: /*/edit", curl, "/wiki/Page/edit", true},
		{"also for nothing", "User-agent: *\nDisallow: /a*b", curl, "/ab", true},
		{"wildcards are matched from the beginning", "User-agent: *\nDisallow: /a*b", curl, "/x/a1b", false},
		{"an asterisk at the end says nothing", "User-agent: *\nDisallow: /a*", curl, "/abc", true},
		{"a dollar ends the path", "User-agent: *\nDisallow: /*.php$", curl, "/a.php?x=1", false},
		{"and only there", "User-agent: *\nDisallow: /*.php$", curl, "/b.php/a.php", true},
		{"in the middle it is a letter", "User-agent: *\nDisallow: /a$b", curl, "/a$bc", true},
		{"a dollar without wildcards", "User-agent: *\nDisallow: /$", curl, "/a", false},
		{"the start page alone", "User-agent: *\nDisallow: /$", curl, "/", true},
		{"a dot is a dot", "User-agent: *\nDisallow: /*.php", curl, "/aXphp", false},
		{"a query is a part of the path", "User-agent: *\nDisallow: /*?*oldid=", curl, "/index.php?title=A&oldid=7", true},
		{"encoded letters are letters", "User-agent: *\nDisallow: /%62%C3%A4r", curl, "/bär", true},
		{"in a query, too", "User-agent: *\nDisallow: /*?q=%C3%A4", curl, "/s?q=%c3%a4", true},
		{"an encoded asterisk is a letter", "User-agent: *\nDisallow: /a%2Ab", curl, "/axb", false},
		{"a broken encoding is taken as it is", "User-agent: *\nDisallow: /%zz%4", curl, "/%zz%4", true},
		{"a path without a slash matches nothing", "User-agent: *\nDisallow: w/", curl, "/w/", false},
		{"robots.txt is always allowed", "User-agent: *\nDisallow: /", curl, "/robots.txt", false},
		{"lines may end as on any system", "User-agent: *\rDisallow: /a\r\nDisallow: /b\n", curl, "/b", true},
		{"a byte order mark is not a letter", "\ufeffUser-agent: *\nDisallow: /a", curl, "/a", true},
		{"what follows # is a comment", "User-agent: * # all\nDisallow: /a#b", curl, "/ac", true},
		{"a client without a name is one of all", "User-agent: *\nDisallow: /a", "", "/a", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Parse([]byte(c.file))
			for range 2 { // the second time from memory
				if got := r.Disallowed(c.agent, c.path); got != c.disallowed {
					t.Errorf("disallowed: %v, want %v", got, c.disallowed)
				}
			}
		})
	}
}

func TestAFileThatIsTooLargeIsCutAtALine(t *testing.T) {
	var b strings.Builder
	b.WriteString("User-agent: *\nDisallow: /first\n")
	for b.Len() < MaxBytes-4 {
		b.WriteString("#\n")
	}
	b.WriteString("Disallow: /last\n")
	r := Parse([]byte(b.String()))
	if !r.cut || !r.Disallowed(curl, "/first") || r.Disallowed(curl, "/other") {
		t.Errorf("cut %v, first %v, other %v", r.cut, r.Disallowed(curl, "/first"), r.Disallowed(curl, "/other"))
	}
}

func TestRulesAndAgentsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "User-agent: a%d\nDisallow: /%d\n", i, i)
	}
	r := Parse([]byte(b.String()))
	if len(r.groups) != maxGroups || !r.cut {
		t.Errorf("%d groups, cut %v", len(r.groups), r.cut)
	}
	for i := range 5 * maxRemember {
		r.Disallowed(fmt.Sprintf("agent/%d", i), "/1")
	}
	if n := len(r.agents[0]) + len(r.agents[1]); n > 2*maxRemember {
		t.Errorf("%d agents are remembered", n)
	}
}

func FuzzRules(f *testing.F) {
	f.Add("User-agent: *\nDisallow: /a*b$\nAllow: /", "curl/8", "/a?b=%20")
	f.Add("user-agent:x\ruser-agent:\ndisallow:*%2", "x", "/%2")
	f.Fuzz(func(t *testing.T, file, agent, path string) {
		r := Parse([]byte(file))
		first := r.Disallowed(agent, path)
		if r.Disallowed(agent, path) != first {
			t.Error("the second answer differs")
		}
		if r.Disallowed(agent, "/robots.txt") {
			t.Error("robots.txt is disallowed")
		}
	})
}

// FuzzMatch compares the matching with a regular expression of the same meaning.
func FuzzMatch(f *testing.F) {
	f.Add("/a*b*c$", "/aXbYc")
	f.Add("/*?*", "/a?b")
	f.Add("*a$", "/a/a")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		r, ok := parseRule(pattern, false)
		if !ok || strings.Contains(pattern, "%") || len(pattern) > 200 {
			return
		}
		text := strings.TrimSuffix(pattern, "$")
		expr := `(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, `.*`)
		if text != pattern {
			expr += `\z`
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			return // not UTF-8
		}
		if got, want := r.match(path), re.MatchString(path); got != want {
			t.Errorf("%q on %q: %v, the expression says %v", pattern, path, got, want)
		}
	})
}

func BenchmarkDisallowed(b *testing.B) {
	var file strings.Builder
	for i := range 60 {
		fmt.Fprintf(&file, "User-agent: crawler%d\n", i)
	}
	file.WriteString("Disallow: /\nUser-agent: *\n")
	for i := range 40 {
		fmt.Fprintf(&file, "Disallow: /section-%d/\n", i)
	}
	file.WriteString("Disallow: /*?*oldid=\n")
	r := Parse([]byte(file.String()))
	b.ReportAllocs()
	for b.Loop() {
		r.Disallowed(chrome, "/w/index.php?title=Some_Page&oldid=1042")
	}
}
