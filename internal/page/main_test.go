package page

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/language"
	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "write the golden files anew")

func open(t testing.TB, dir string) (*Pages, *language.Catalogues) {
	t.Helper()
	c, err := language.Load()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

const (
	testPass     = "/.quickthorn/pass"
	testFallback = "/.quickthorn/pass?ticket=T1&way=plain"
)

// examples are one page of each kind, by name.
func examples() map[string]*View {
	task := func() *Task {
		return &Task{Ticket: "T1.abc", Pass: testPass, Return: "/wiki/A?x=1&y=%zz", Fallback: testFallback}
	}
	silent, refresh, work, question, captcha := task(), task(), task(), task(), task()
	silent.Seen = "/.quickthorn/seen/T1.css"
	work.Algorithm, work.Puzzles, work.Bits, work.Least, work.Limit = "sha256", 32, 12, 16, 20000
	work.Script, work.Worker = AssetPrefix+"challenge.1.js", AssetPrefix+"worker.1.js"
	question.Words, question.Word, question.Decoy = []string{"river", "lamp", "bread", "chair"}, "bread", "website"
	captcha.Script, captcha.Widget = "https://captcha.example/api.js?x=1", `<div class="captcha" data-sitekey="10000000-ffff"></div>`
	v := map[string]*View{
		"info":     {Kind: Info, Title: language.RefusedTitle, Text: language.RefusedText, Reason: "the agent is not welcome."},
		"silent":   {Kind: Silent, Title: language.ChallengeTitle, Text: language.ChallengeWhy, More: language.ChallengeWait, Count: 2, Link: testFallback, LinkText: language.LinkContinue, Refresh: testFallback, Delay: 2, RefreshAlways: true, Challenge: silent},
		"refresh":  {Kind: Refresh, Title: language.ChallengeTitle, Text: language.ChallengeWhy, More: language.ChallengeWait, Count: 2, Link: testFallback, LinkText: language.LinkContinue, Refresh: testFallback, Delay: 2, RefreshAlways: true, Challenge: refresh},
		"work":     {Kind: Work, Title: language.ChallengeTitle, Text: language.ChallengeWhy, More: language.ChallengeWork, Count: 3, Refresh: testFallback, Delay: 2, Challenge: work},
		"question": {Kind: Question, Title: language.ChallengeTitle, Text: language.ChallengeQuestion, More: language.WrongAnswer, Challenge: question},
		"captcha":  {Kind: Captcha, Title: language.ChallengeTitle, Text: language.ChallengeCaptcha, Challenge: captcha},
		"hold":     {Kind: Hold, Title: language.HoldTitle, Text: language.HoldText, Count: 30, Hold: &Form{Action: "/.quickthorn/hold", Token: "H1"}},
	}
	for _, v := range v {
		v.RequestID, v.Contact = "01J9ZX", "owner@example.org"
	}
	return v
}

func TestPagesAreAsRecorded(t *testing.T) {
	p, c := open(t, "")
	for _, tag := range []string{"en", "ar"} {
		for name, v := range examples() {
			v.Language = c.Match(tag)
			// The style sheet's name changes with every change of it, which is no change of the page.
			got := bytes.ReplaceAll(p.Append(nil, v), []byte(p.current.Load().style.Name), []byte("style.HASH.css"))
			golden := filepath.Join("testdata", name+"."+tag+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (go test -update writes it anew):\n%s", golden, got)
			}
		}
	}
}

// element is what a test asks of an HTML element.
type element struct {
	name string
	attr map[string]string
	text string
}

// elements parses a page and returns its elements in order. Bodies of noscript are parsed as for a browser without scripts.
func elements(t testing.TB, page []byte, script bool) []element {
	t.Helper()
	root, err := html.ParseWithOptions(bytes.NewReader(page), html.ParseOptionEnableScripting(script))
	if err != nil {
		t.Fatal(err)
	}
	var list []element
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		e := element{name: n.Data, attr: map[string]string{}}
		for _, a := range n.Attr {
			e.attr[a.Key] = a.Val
		}
		for d := range n.Descendants() {
			if d.Type == html.TextNode {
				e.text += d.Data
			}
		}
		list = append(list, e)
	}
	return list
}

// find returns the elements of that name that have each of the attributes ("key=value" or "key").
func find(list []element, name string, attrs ...string) (found []element) {
next:
	for _, e := range list {
		if e.name != name {
			continue
		}
		for _, a := range attrs {
			k, want, valued := strings.Cut(a, "=")
			if got, ok := e.attr[k]; !ok || valued && got != want {
				continue next
			}
		}
		found = append(found, e)
	}
	return found
}

// balanced reports the first tag that is not closed in order: the parser would repair it
// silently, a browser perhaps differently.
func balanced(page []byte) string {
	void := map[string]bool{"meta": true, "link": true, "img": true, "input": true}
	var open []string
	z := html.NewTokenizer(bytes.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				return "<" + open[len(open)-1] + "> is never closed"
			}
			return ""
		case html.StartTagToken:
			if n, _ := z.TagName(); !void[string(n)] {
				open = append(open, string(n))
			}
		case html.EndTagToken:
			n, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(n) {
				return "</" + string(n) + "> closes nothing"
			}
			open = open[:len(open)-1]
		}
	}
}
