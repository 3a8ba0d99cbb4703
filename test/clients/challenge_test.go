//go:build clients

package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// What the page of the demo site shows.
const wrens = "Wrens, dunnocks and bank voles"

// chromium is a browser of its own, with a profile of its own.
type chromium struct {
	t       *testing.T
	browser context.Context
}

// step is something that a tab is told to do.
type step = chromedp.Action[chromedp.Void]

// command makes a step of a command of the protocol.
func command[P, R any](c cdp.Command[P, R], params P) step {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// ask returns what a page's expression is.
func ask[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// openChromium starts Chromium; preferences are its profile's, "" for none.
func openChromium(t *testing.T, preferences string, flags ...chromedp.ExecAllocatorOption) *chromium {
	t.Helper()
	path := need(t, "chromium")
	dir := t.TempDir()
	if preferences != "" {
		if err := os.MkdirAll(filepath.Join(dir, "Default"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "Default", "Preferences"), []byte(preferences), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("lang", "en-GB"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, append(options, flags...)...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return &chromium{t, ctx}
}

// tab is a page of a browser, with what went over its network.
type tab struct {
	*chromium
	ctx context.Context

	mu        sync.Mutex
	documents []string // "status path" of each document that was received
	problems  []string // of the console: violations of a policy, errors of scripts
}

func (c *chromium) tab(steps ...step) *tab {
	c.t.Helper()
	ctx, cancel := chromedp.NewContext(c.browser)
	c.t.Cleanup(cancel)
	p := &tab{chromium: c, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		c.t.Fatal(err)
	}
	p.listen(func(ev any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch ev := ev.(type) {
		case *network.EventResponseReceived:
			if ev.Type == network.ResourceTypeDocument {
				_, path, _ := strings.Cut(strings.TrimPrefix(ev.Response.URL, "http://"), "/")
				path, _, _ = strings.Cut(path, "?")
				p.documents = append(p.documents, fmt.Sprintf("%d /%s", ev.Response.Status, path))
			}
		case *cdplog.EventEntryAdded:
			if ev.Entry.Source != cdplog.EntrySourceNetwork { // which tells of 429
				p.problems = append(p.problems, ev.Entry.Text)
			}
		}
	})
	p.do(append([]step{command(network.Enable, network.EnableParams{}), command(cdplog.Enable, cdp.Empty{})}, steps...)...)
	return p
}

func (p *tab) listen(f func(ev any)) {
	p.t.Helper()
	if err := chromedp.Listen(p.ctx, f); err != nil {
		p.t.Fatal(err)
	}
}

// paused calls f, in another goroutine, for each request that the tab holds back.
func (p *tab) paused(f func(ev *fetch.EventRequestPaused)) {
	p.listen(func(ev any) {
		if ev, ok := ev.(*fetch.EventRequestPaused); ok {
			go f(ev)
		}
	})
}

func (p *tab) do(steps ...step) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatalf("Chromium: %v\n%s", err, strings.Join(p.seen(), "\n"))
	}
}

// open goes to an address. That the answer has status 429 is no failure.
func (p *tab) open(address string) {
	p.t.Helper()
	res, err := chromedp.Call(p.ctx, page.Navigate, page.NavigateParams{URL: address})
	if err == nil && res.ErrorText != "" && res.ErrorText != "net::ERR_HTTP_RESPONSE_CODE_FAILURE" {
		err = errors.New(res.ErrorText)
	}
	if err != nil {
		p.t.Fatalf("open %s: %v", address, err)
	}
}

func (p *tab) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.documents...)
}

// shows waits until the page shows a text, and returns all that it shows.
func (p *tab) shows(text string, limit time.Duration) string {
	p.t.Helper()
	body := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		// While a page gives way to the next one there is nothing to ask.
		if now, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`)); err == nil {
			body = now
		}
		if strings.Contains(body, text) {
			return body
		}
	}
	p.t.Fatalf("after %v the page does not show %q but:\n%s\ndocuments: %v\nproblems: %v", limit, text, body, p.seen(), p.problems)
	return ""
}

// scriptsOff turns JavaScript off in pages. What the tests ask a page is not affected.
var scriptsOff = command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})

// holdPass has visits to the pass address wait for the test.
var holdPass = command(fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: "*/.quickthorn/pass*"}}})

func policyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "policy.source=" + path
}

// ladder is challengeAll with kinds of its own.
func ladder(t *testing.T, kinds string) string {
	return policyFile(t, strings.Replace(challengeAll, "    action: challenge\n", "    action: challenge\n    challenge: ["+kinds+"]\n", 1))
}

// before runs a script in each page before any of its own.
func before(script string) step {
	return command(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// passed returns the kinds of the challenges that were passed, as the edge recorded them.
func passed(t *testing.T, e *edge) []string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // what is recorded is archived when the disk has time
		var kinds []string
		for line := range strings.Lines(e.cli(t, "events", "--json")) {
			var ev struct {
				Challenge *struct{ Kind, Outcome string }
			}
			if json.Unmarshal([]byte(line), &ev) == nil && ev.Challenge != nil && ev.Challenge.Outcome == "passed" {
				kinds = append(kinds, ev.Challenge.Kind)
			}
		}
		if len(kinds) > 0 {
			return kinds
		}
	}
	t.Fatal("no challenge was passed")
	return nil
}

func TestChromiumPassesWhateverItLacks(t *testing.T) {
	for _, tt := range []struct {
		name, kinds string
		steps       []step
		kind        string
	}{
		{"JavaScript on", "work, refresh", nil, "work"},
		{"nothing but a style sheet", "silent, work", nil, "silent"},
		{"a refresh", "refresh", nil, "refresh"},
		{"workers missing", "work, refresh", []step{before("delete window.Worker")}, "work"},
		{"workers blocked", "work, refresh", []step{before("window.Worker = function () { throw new Error('blocked') }")}, "work"},
		{"WebAssembly missing", "work, refresh", []step{before("delete window.WebAssembly")}, "work"},
		{"WebCrypto missing", "work, refresh", []step{before("Object.defineProperty(window, 'crypto', {value: undefined})")}, "work"},
		{"fetch missing", "work, refresh", []step{before("delete window.fetch")}, "work"},
		{"an extension breaks the script", "work, refresh", []step{before("Object.defineProperty(window, 'Uint8Array', {get() { throw new Error('no') }}); Object.defineProperty(window, 'Worker', {get() { throw new Error('no') }})")}, "refresh"},
		{"processor throttled 20 times, no workers", "work, refresh", []step{before("delete window.Worker"), command(emulation.SetCPUThrottlingRate, emulation.SetCPUThrottlingRateParams{Rate: 20})}, ""},
		{"JavaScript off", "work, refresh", []step{scriptsOff}, "refresh"},
		{"JavaScript off, silent", "silent, work", []step{scriptsOff}, "silent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, demoSite(t), ladder(t, tt.kinds))
			p := openChromium(t, "").tab(tt.steps...)
			began := time.Now()
			p.open(e.URL + "/articles/wrens")
			p.shows(wrens, 30*time.Second)
			t.Logf("%s after it was asked for, by %v", time.Since(began).Round(10*time.Millisecond), p.seen())
			if kinds := passed(t, e); tt.kind != "" && kinds[0] != tt.kind {
				t.Errorf("passed %v, want %s", kinds, tt.kind)
			}
			if len(p.problems) > 0 && !strings.Contains(tt.name, "blocked") && !strings.Contains(tt.name, "breaks") {
				t.Errorf("the console says %q", p.problems)
			}
			// The clearance counts from now on.
			p.open(e.URL + "/articles/hedges")
			if docs := p.seen(); docs[len(docs)-1] != "200 /articles/hedges" && docs[len(docs)-1] != "404 /articles/hedges" {
				t.Errorf("then: %v", docs)
			}
		})
	}
}

func TestChromiumAnswersTheQuestionByKeyboard(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "question"))
	p := openChromium(t, "").tab(scriptsOff)
	p.open(e.URL + "/articles/wrens")
	p.shows("Choose the word", 10*time.Second)
	// The wrong word first: it is said, and asked again.
	choose := func(right bool) {
		word := ask[string](p, `document.querySelector("legend strong").innerText`)
		words := ask[[]string](p, `[...document.querySelectorAll("input[type=radio]")].map(i => i.value)`)
		for i, w := range words {
			if (w == word) == right {
				p.do(chromedp.Focus(chromedp.CSS("#word"+fmt.Sprint(i))), chromedp.KeyEvent(" "), chromedp.KeyEvent("\r"))
				return
			}
		}
		t.Fatalf("asked for %q, offered %v", word, words)
	}
	choose(false)
	p.shows("That was another word", 10*time.Second)
	choose(true)
	p.shows(wrens, 10*time.Second)
}

func TestChromiumWithoutCookiesReadsWhy(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "work, refresh"), "edge.blockedContact=owner@example.org")
	p := openChromium(t, `{"profile":{"default_content_setting_values":{"cookies":2}}}`).tab()
	p.open(e.URL + "/articles/wrens")
	text := p.shows("allow cookies", 20*time.Second)
	for _, want := range []string{"owner@example.org", "Request number", "Try again"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	time.Sleep(3 * time.Second) // it stays
	if docs := p.seen(); len(docs) > 3 {
		t.Errorf("documents %v", docs)
	}
}

func TestTenTabsOfChromiumAllOpen(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "work, refresh"))
	c := openChromium(t, "")
	var tabs []*tab
	for range 10 {
		tabs = append(tabs, c.tab())
	}
	for i, p := range tabs {
		p.open(e.URL + "/articles/wrens?tab=" + fmt.Sprint(i))
	}
	for i, p := range tabs {
		p.shows(wrens, 60*time.Second)
		if at := ask[string](p, "location.href"); !strings.HasSuffix(at, "/articles/wrens?tab="+fmt.Sprint(i)) {
			t.Errorf("tab %d is at %s", i, at)
		}
	}
}

func TestChromiumsAddressMayChange(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "work, refresh"), "edge.trustedProxies=127.0.0.0/8")
	for name, addresses := range map[string][2]string{
		"IPv4 to IPv6": {"192.0.2.7", "2001:db8::7"}, "IPv6 to IPv4": {"2001:db8:1::7", "198.51.100.7"}, "the last octet": {"203.0.113.7", "203.0.113.200"},
	} {
		t.Run(name, func(t *testing.T) {
			p := openChromium(t, "").tab(command(fetch.Enable, fetch.EnableParams{}))
			p.paused(func(ev *fetch.EventRequestPaused) {
				address := addresses[0]
				if strings.Contains(ev.Request.URL, "/.quickthorn/pass") {
					address = addresses[1]
				}
				headers := []*fetch.HeaderEntry{{Name: "X-Forwarded-For", Value: address}}
				for name, value := range ev.Request.Headers {
					headers = append(headers, &fetch.HeaderEntry{Name: name, Value: fmt.Sprint(value)})
				}
				chromedp.Call(p.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: ev.RequestID, Headers: headers})
			})
			p.open(e.URL + "/articles/wrens")
			p.shows(wrens, 30*time.Second)
		})
	}
}

func TestChromiumWaitsForTheNetwork(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "work, refresh"))
	p := openChromium(t, "").tab(holdPass)
	var failed atomic.Int32
	p.paused(func(ev *fetch.EventRequestPaused) {
		if failed.Add(1) <= 2 {
			chromedp.Call(p.ctx, fetch.FailRequest, fetch.FailRequestParams{RequestID: ev.RequestID, ErrorReason: network.ErrorReasonInternetDisconnected})
			return
		}
		chromedp.Call(p.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: ev.RequestID})
	})
	p.open(e.URL + "/articles/wrens")
	p.shows("There is no connection", 20*time.Second)
	p.shows(wrens, 30*time.Second)
}

func TestChromiumGoesBackAndForward(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "work, refresh"))
	p := openChromium(t, "").tab()
	p.open(e.URL + "/articles/wrens")
	p.shows(wrens, 30*time.Second)
	p.open(e.URL + "/")
	p.shows("The Hedge Gazette", 10*time.Second)
	ask[chromedp.Void](p, "history.back()")
	p.shows(wrens, 10*time.Second)
	ask[chromedp.Void](p, "history.forward()")
	p.shows("The Hedge Gazette", 10*time.Second)
	ask[chromedp.Void](p, "history.back()")
	p.shows(wrens, 10*time.Second)
}

// A browser whose clock is wrong, as far as its pages can tell.
func TestChromiumsClockMayBeWrong(t *testing.T) {
	e := start(t, demoSite(t), ladder(t, "work, refresh"))
	for name, offset := range map[string]int{"a day ahead": 86_400_000, "ten minutes late": -600_000} {
		t.Run(name, func(t *testing.T) {
			p := openChromium(t, "").tab(before(fmt.Sprintf("{ const now = Date.now; Date.now = () => now() + %d }", offset)))
			opensTwice(p, e)
		})
	}
}

// The same with the clock of the whole program, cookies' ages included. It takes minutes, so only where libfaketime is installed.
func TestChromiumsSystemClockMayBeWrong(t *testing.T) {
	list, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(list) == 0 {
		t.Skip("libfaketime is not installed")
	}
	e := start(t, demoSite(t), ladder(t, "work, refresh"))
	for _, offset := range []string{"+86400", "-600"} {
		t.Run(offset, func(t *testing.T) {
			p := openChromium(t, "", chromedp.Env("LD_PRELOAD="+list[0], "FAKETIME="+offset, "FAKETIME_DONT_FAKE_MONOTONIC=1")).tab()
			if ahead := time.UnixMilli(int64(ask[float64](p, "Date.now()"))).Sub(time.Now()); ahead.Abs() < 5*time.Minute {
				t.Fatalf("Chromium's clock is %v ahead", ahead)
			}
			opensTwice(p, e)
		})
	}
}

// opensTwice opens a page through a challenge, and again without one.
func opensTwice(p *tab, e *edge) {
	p.t.Helper()
	p.open(e.URL + "/articles/wrens")
	p.shows(wrens, 30*time.Second)
	p.open(e.URL + "/articles/wrens?again")
	if docs := p.seen(); docs[len(docs)-1] != "200 /articles/wrens" {
		p.t.Errorf("then: %v", docs)
	}
}

func TestAFormGoesThroughAChallengeWithItsText(t *testing.T) {
	const typed = "Grüße & <b>hedges</b>\r\n100 % = \u2028\"quoted\""
	for _, enctype := range []string{"application/x-www-form-urlencoded", "multipart/form-data"} {
		t.Run(enctype, func(t *testing.T) {
			received := make(chan string, 5)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /form", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				fmt.Fprintf(w, `<!doctype html><form method=post action="/comment?page=1&x=%%20" enctype="%s"><textarea name=text></textarea><button>Send</button></form>`, enctype)
			})
			mux.HandleFunc("POST /comment", func(w http.ResponseWriter, r *http.Request) {
				received <- r.FormValue("text") + " to " + r.URL.RequestURI()
				fmt.Fprint(w, "thank you")
			})
			e := start(t, site(t, mux), "posture.fixed=siege", policyFile(t, `rules: [{name: ask, when: 'request.method == "POST"', action: challenge, basis: certain}]`))
			p := openChromium(t, "").tab()
			p.open(e.URL + "/form")
			p.shows("Send", 10*time.Second)
			text, err := json.Marshal(typed)
			if err != nil {
				t.Fatal(err)
			}
			ask[string](p, "document.querySelector('textarea').value = "+string(text))
			p.do(chromedp.Click(chromedp.CSS("button")))
			p.shows("is kept for 5 minutes", 10*time.Second)
			select {
			case got := <-received:
				t.Fatalf("the site received %q before the challenge", got)
			default:
			}
			p.do(chromedp.Click(chromedp.CSS("button")))
			p.shows("thank you", 20*time.Second)
			if got, want := <-received, typed+" to /comment?page=1&x=%20"; got != want {
				t.Errorf("the site received %q, want %q", got, want)
			}
			// Once: a reload sends nothing again.
			p.do(chromedp.Reload())
			time.Sleep(300 * time.Millisecond)
			if len(received) > 0 {
				t.Errorf("and then %q", <-received)
			}
		})
	}
}

func TestChromiumFindsTheWayOutOfTheTarpit(t *testing.T) {
	e := start(t, demoSite(t), "tarpit.delay=0s")
	e.cli(t, "decisions", "add", "--action", "tarpit", "--for", "1h", "127.0.0.1")
	p := openChromium(t, "").tab()
	p.open(e.URL + "/articles/wrens")
	p.shows("Are you a person?", 10*time.Second)
	p.do(chromedp.Click(chromedp.CSS(`a[href*="way-out"]`)))
	p.shows(wrens, 30*time.Second)
	if kinds := passed(t, e); kinds[0] != "work" {
		t.Errorf("passed %v, want work", kinds)
	}
	// A later conviction is not answered by the same clearance.
	e.cli(t, "decisions", "delete", "--value", "127.0.0.1")
	time.Sleep(1100 * time.Millisecond) // decisions are kept to the second
	e.cli(t, "decisions", "add", "--action", "tarpit", "--for", "1h", "127.0.0.1")
	p.open(e.URL + "/articles/gates")
	p.shows("Are you a person?", 10*time.Second)
}

// Pages in the dark and from right to left; with SCREENSHOTS set to a directory they are kept, to be looked at.
func TestThePagesInChromium(t *testing.T) {
	shots := os.Getenv("SCREENSHOTS")
	for _, kinds := range []string{"work", "refresh", "question"} {
		e := start(t, demoSite(t), ladder(t, kinds), "edge.blockedContact=owner@example.org")
		for _, look := range []struct {
			name, language, scheme string
			width                  int64
		}{{"light", "en", "light", 1000}, {"dark", "de", "dark", 1000}, {"rtl", "ar", "light", 1000}, {"narrow", "fi", "dark", 320}} {
			p := openChromium(t, "").tab(
				command(network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": look.language}}),
				command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}}),
				chromedp.EmulateViewport(look.width, 640), holdPass) // it stays on the page
			if kinds != "work" {
				p.do(scriptsOff)
			}
			p.open(e.URL + "/articles/wrens")
			time.Sleep(500 * time.Millisecond)
			direction, colour := ask[string](p, "document.documentElement.dir"), ask[string](p, "getComputedStyle(document.body).backgroundColor")
			wide := ask[bool](p, "document.documentElement.scrollWidth > innerWidth")
			if (direction == "rtl") != (look.language == "ar") || wide {
				t.Errorf("%s, %s: direction %q, wider than the window: %v", kinds, look.name, direction, wide)
			}
			var r, g, b int
			if _, err := fmt.Sscanf(strings.NewReplacer("a", "", " ", "").Replace(colour), "rgb(%d,%d,%d", &r, &g, &b); err != nil || (r+g+b < 3*128) != (look.scheme == "dark") {
				t.Errorf("%s, %s: background %s %v", kinds, look.name, colour, err)
			}
			if shots != "" {
				png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(shots, kinds+"-"+look.name+".png"), png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
