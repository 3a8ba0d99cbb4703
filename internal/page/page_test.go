package page

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/language"
	"golang.org/x/net/html"
)

func TestEveryLanguageRendersEveryPage(t *testing.T) {
	p, c := open(t, "")
	for _, l := range c.All() {
		for name, v := range examples() {
			v.Language = l
			page := p.Append(nil, v)
			if wrong := balanced(page); wrong != "" {
				t.Errorf("%s in %s: %s", name, l.Tag(), wrong)
			}
			if strings.ContainsAny(string(page), "{}") || strings.Contains(string(page), "qtmark") {
				t.Errorf("%s in %s: a placeholder is left:\n%s", name, l.Tag(), page)
			}
			all := elements(t, page, false)
			for _, one := range []string{"html", "head", "title", "main", "h1"} {
				if n := len(find(all, one)); n != 1 {
					t.Errorf("%s in %s: %d times <%s>", name, l.Tag(), n, one)
				}
			}
			root := find(all, "html")[0]
			if root.attr["lang"] != l.Tag() || root.attr["dir"] != l.Direction() {
				t.Errorf("%s in %s: %v", name, l.Tag(), root.attr)
			}
			if h := find(all, "h1")[0].text; h != l.Text(v.Title) || find(all, "title")[0].text != h {
				t.Errorf("%s in %s: heading %q", name, l.Tag(), h)
			}
		}
	}
}

func TestNothingInlineAndNothingFromElsewhere(t *testing.T) {
	p, _ := open(t, "")
	for name, v := range examples() {
		for _, e := range elements(t, p.Append(nil, v), false) {
			if e.name == "style" || e.name == "script" && (e.attr["src"] == "" || e.text != "") {
				t.Errorf("%s: inline <%s>", name, e.name)
			}
			for k, val := range e.attr {
				if k == "style" || strings.HasPrefix(k, "on") {
					t.Errorf("%s: attribute %s of <%s>", name, k, e.name)
				}
				address := k == "src" || k == "href" || k == "action"
				mail := e.name == "a" && strings.HasPrefix(val, "mailto:")
				captcha := name == "captcha" && e.name == "script"
				if address && !strings.HasPrefix(val, "/") && !mail && !captcha || strings.HasPrefix(val, "data:") {
					t.Errorf("%s: %s of <%s> is %q", name, k, e.name, val)
				}
			}
		}
	}
	css := string(p.current.Load().style.Body)
	for _, never := range []string{"url(", "@import", "</"} {
		if strings.Contains(css, never) {
			t.Errorf("the style sheet contains %s", never)
		}
	}
}

func TestAPageWithItsAssetsIsSmall(t *testing.T) {
	p, c := open(t, "")
	style := len(p.current.Load().style.Body)
	for _, l := range c.All() {
		for name, v := range examples() {
			v.Language = l
			if size := len(p.Append(nil, v)) + style; size > 30_000 {
				t.Errorf("%s in %s: %d bytes", name, l.Tag(), size)
			}
		}
	}
}

func TestTheScriptFindsWhatItNeeds(t *testing.T) {
	p, c := open(t, "")
	v := examples()["work"]
	v.Language = c.Match("de")
	all := elements(t, p.Append(nil, v), true)
	want := map[string]string{
		"id": "challenge", "data-kind": "work", "data-pass": testPass, "data-ticket": "T1.abc", "data-return": "/wiki/A?x=1&y=%zz", "data-fallback": testFallback,
		"data-algorithm": "sha256", "data-puzzles": "32", "data-bits": "12", "data-least": "16", "data-limit": "20000", "data-worker": "/.quickthorn/assets/worker.1.js",
		"data-text-working": v.Language.Text(language.StatusWorking), "data-text-offline": v.Language.Text(language.StatusOffline),
		"data-text-almost": v.Language.Text(language.StatusAlmost), "data-text-failed": v.Language.Text(language.StatusFailed),
	}
	got := find(all, "main")[0].attr
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s is %q, want %q", k, got[k], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("other attributes: %v", got)
	}
	if len(find(all, "progress", "id=progress", "max=100", "hidden", "aria-label")) != 1 || len(find(all, "p", "id=status", "role=status", "aria-live=polite")) != 1 ||
		len(find(all, "script", "src=/.quickthorn/assets/challenge.1.js", "defer")) != 1 {
		t.Error("progress, status or script is missing")
	}
}

// Promise 1: with or without JavaScript, with or without meta refresh, each page has a way on.
func TestEveryChallengeHasAWayWithoutScript(t *testing.T) {
	p, _ := open(t, "")
	for name, v := range examples() {
		if v.Challenge == nil {
			continue
		}
		without, with := elements(t, p.Append(nil, v), false), elements(t, p.Append(nil, v), true)
		link := len(find(with, "a", "href="+testFallback)) == 1
		form := len(find(with, "form", "method=post", "action="+testPass)) == 1
		refresh := "content=2;url=" + testFallback
		switch name {
		case "silent", "refresh":
			if !link || len(find(with, "meta", "http-equiv=refresh", refresh)) != 1 {
				t.Errorf("%s: no refresh or no link", name)
			}
		case "work":
			if !link || len(find(without, "meta", "http-equiv=refresh", refresh)) != 1 || len(find(with, "meta", "http-equiv=refresh")) != 0 {
				t.Errorf("%s: no link, or the refresh is not just for those without JavaScript", name)
			}
		case "question":
			if !form {
				t.Errorf("%s: no form", name)
			}
		case "captcha":
			if !form || !link {
				t.Errorf("%s: no form or no link", name)
			}
		}
		if scripts := len(find(with, "script")); scripts > 1 || scripts == 1 && name != "work" && name != "captcha" {
			t.Errorf("%s: %d scripts", name, scripts)
		}
	}
}

func TestAQuestionIsAFormThatEverybodyCanFillIn(t *testing.T) {
	p, _ := open(t, "")
	v := examples()["question"]
	all := elements(t, p.Append(nil, v), false)
	var words []string
	for _, r := range find(all, "input", "type=radio", "name=answer", "required") {
		words = append(words, r.attr["value"])
		if l := find(all, "label", "for="+r.attr["id"]); len(l) != 1 || l[0].text != r.attr["value"] {
			t.Errorf("%v has the label %v", r.attr, l)
		}
	}
	if !slices.Equal(words, v.Challenge.Words) {
		t.Errorf("words %v", words)
	}
	if l := find(all, "legend"); len(l) != 1 || l[0].text != "Choose the word “bread”, then go on." {
		t.Errorf("legend %v", l)
	}
	if len(find(all, "fieldset", "aria-describedby=more")) != 1 || len(find(all, "p", "id=more")) != 1 {
		t.Error("the mistake is not tied to the question")
	}
	if len(find(all, "input", "type=hidden", "name=ticket", "value=T1.abc")) != 1 || len(find(all, "button", "type=submit")) != 1 {
		t.Error("no ticket or no button")
	}
	if len(find(all, "div", "hidden", "aria-hidden=true")) != 1 || len(find(all, "input", "name=website", "tabindex=-1", "autocomplete=off")) != 1 {
		t.Error("the decoy is missing, or people meet it")
	}
}

const hostile = "\"'><script>alert(1)</script>&lt;\x00\xff {{.}} qtmarkaa'\"<> &krammq"

func TestHostileValuesStayText(t *testing.T) {
	p, _ := open(t, "")
	task := &Task{
		Ticket: hostile, Pass: hostile, Return: hostile, Fallback: hostile, Algorithm: hostile, Worker: hostile, Script: hostile, Seen: hostile,
		Words: []string{hostile, hostile}, Word: hostile, Decoy: hostile,
	}
	for k := range kinds {
		v := &View{Kind: k, Title: language.ChallengeTitle, Reason: hostile, RequestID: hostile, Contact: hostile, Link: "/" + hostile, LinkText: language.TryAgain, Refresh: "/" + hostile, Challenge: task, Hold: &Form{hostile, hostile}}
		page := p.Append(nil, v)
		if wrong := balanced(page); wrong != "" {
			t.Errorf("%s: %s", k, wrong)
		}
		all := elements(t, page, true)
		for _, s := range find(all, "script") {
			if s.text != "" || s.attr["src"] != "/" {
				t.Errorf("%s: a script came in: %v", k, s)
			}
		}
		for _, e := range all {
			for name := range e.attr {
				if strings.ContainsAny(name, "\"'<>") {
					t.Errorf("%s: attribute %q", k, name)
				}
			}
		}
		if code := find(all, "code"); len(code) != 1 || code[0].text != strings.ReplaceAll(hostile, "\x00", "\uFFFD") && code[0].text != strings.ReplaceAll(strings.ReplaceAll(hostile, "\x00", "\uFFFD"), "\xff", "\uFFFD") {
			t.Errorf("%s: the request number reads %q", k, code)
		}
	}
}

func TestAddressesLeadToThisSiteOnly(t *testing.T) {
	p, _ := open(t, "")
	tests := []struct{ address, want string }{
		{"/wiki/A?x=1&y=%zz#f", "/wiki/A?x=1&y=%zz#f"},
		{"/ü [1]", "/%c3%bc%20[1]"},
		{"//evil.example/", "/"},
		{`/\evil.example/`, "/"},
		{"/\t/evil.example/", "/"},
		{"https://evil.example/", "/"},
		{"javascript:alert(1)", "/"},
		{"evil", "/"},
		{" /x", "/"},
		{`/a\b`, "/a%5cb"},
	}
	for _, tt := range tests {
		v := &View{Title: language.NotFoundTitle, Link: tt.address, LinkText: language.TryAgain, Refresh: tt.address, Delay: 1, RefreshAlways: true, Hold: &Form{Action: tt.address}}
		all := elements(t, p.Append(nil, v), true)
		if got := find(all, "a")[0].attr["href"]; got != tt.want {
			t.Errorf("link to %q is %q, want %q", tt.address, got, tt.want)
		}
		if got := find(all, "form")[0].attr["action"]; got != tt.want {
			t.Errorf("action %q is %q, want %q", tt.address, got, tt.want)
		}
		_, got, _ := strings.Cut(find(all, "meta", "http-equiv=refresh")[0].attr["content"], ";url=")
		if base, err := url.Parse("https://site.example/x"); err != nil {
			t.Fatal(err)
		} else if u, err := base.Parse(strings.ReplaceAll(got, "%zz", "")); err != nil || u.Host != "site.example" || u.Scheme != "https" {
			t.Errorf("refresh to %q is %q: %v", tt.address, got, err)
		}
	}
}

func TestContactBecomesALinkWhereItIsAnAddress(t *testing.T) {
	p, _ := open(t, "")
	for contact, want := range map[string]string{
		"owner@example.org":         "mailto:owner@example.org",
		"https://example.org/?a&b":  "https://example.org/?a&b",
		"mailto:x@example.org":      "mailto:x@example.org",
		"javascript:alert(1)":       "",
		"ask at the library’s desk": "",
	} {
		all := elements(t, p.Append(nil, &View{Title: language.RefusedTitle, Contact: contact}), false)
		got := ""
		if a := find(all, "a"); len(a) == 1 {
			got = a[0].attr["href"]
		}
		if got != want || find(all, "footer")[0].text == "" || !strings.Contains(find(all, "footer")[0].text, contact) {
			t.Errorf("%q leads to %q, want %q; footer %q", contact, got, want, find(all, "footer")[0].text)
		}
	}
}

func TestManyShapesAreForgottenNotKept(t *testing.T) {
	p, _ := open(t, "")
	v := View{Title: language.AttemptsTitle, Text: language.AttemptsText}
	for v.Count = range maxShapes + 50 {
		p.Append(nil, &v)
	}
	if n := len(p.current.Load().shapes); n > maxShapes {
		t.Errorf("%d shapes are kept, at most %d may be", n, maxShapes)
	}
	v.Count = 17
	if page := string(p.Append(nil, &v)); !strings.Contains(page, "17 seconds") {
		t.Error(page)
	}
}

func TestAnImpossibleViewIsStillAPage(t *testing.T) {
	p, _ := open(t, "")
	for _, v := range []*View{
		{},
		{Kind: kinds + 3, Title: 255, Text: 254, LinkText: 253, Link: "/"},
		{Kind: Work},
		{Kind: Hold},
		{Kind: Question, Challenge: &Task{Words: make([]string, 300)}},
		{Delay: -5, Count: -5, Refresh: "/"},
	} {
		if page := p.Append([]byte("before"), v); !strings.HasPrefix(string(page), "before<!doctype html>") || !strings.HasSuffix(string(page), "</html>\n") {
			t.Errorf("%+v: %s", v, page)
		}
	}
}

func FuzzValuesStayText(f *testing.F) {
	f.Add(hostile)
	f.Add("/x?a=b")
	p, _ := open(f, "")
	names := func(page []byte) (list []string) {
		z := html.NewTokenizer(strings.NewReader(string(page)))
		for z.Next() != html.ErrorToken {
			if t := z.Token(); t.Type == html.StartTagToken || t.Type == html.EndTagToken {
				list = append(list, t.Data)
				for _, a := range t.Attr {
					list = append(list, a.Key)
				}
			}
		}
		return list
	}
	view := func(s string) *View {
		return &View{Kind: Question, Title: language.ChallengeTitle, Reason: s + "x", RequestID: s + "x", Link: "/" + s, LinkText: language.TryAgain, Challenge: &Task{Ticket: s, Pass: s, Return: s, Words: []string{s, s}, Word: s, Decoy: s + "x"}}
	}
	plain := names(p.Append(nil, view("/a")))
	f.Fuzz(func(t *testing.T, s string) {
		if got := names(p.Append(nil, view(s))); !slices.Equal(got, plain) {
			t.Errorf("%q changes the page's elements: %v", s, got)
		}
	})
}

func BenchmarkRefusal(b *testing.B) {
	p, c := open(b, "")
	v := examples()["info"]
	v.Language = c.Match("de")
	buf := make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		buf = p.Append(buf[:0], v)
	}
}

func BenchmarkWork(b *testing.B) {
	p, _ := open(b, "")
	v := examples()["work"]
	buf := make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		buf = p.Append(buf[:0], v)
	}
}

func BenchmarkUncachedRefusal(b *testing.B) {
	p, c := open(b, "")
	v := examples()["info"]
	v.Language = c.Match("de")
	sh := shapeOf(v)
	s := p.current.Load()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.render(&sh); err != nil {
			b.Fatal(err)
		}
	}
}
