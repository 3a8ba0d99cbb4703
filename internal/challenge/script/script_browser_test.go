//go:build clients

package script

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/quickthorn/quickthorn/internal/challenge/script/bundle"
)

// patience bounds each test: generous, because the machine may be busy with others.
const patience = time.Minute

// startBrowser starts a Chromium with these flags besides the usual ones, or skips the test where there is none.
func startBrowser(t *testing.T, flags ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("STRICT_TESTS") != "" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		// A name that is not a secure context, as localhost is even over plain HTTP.
		chromedp.Flag("host-resolver-rules", "MAP plain.test 127.0.0.1"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(options, flags...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

// tab opens a tab with cookies of its own, in which the injected script runs before each page's.
func tab(t *testing.T, browser context.Context, injected string) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // opens it, which must happen under the context without the deadline
		t.Fatalf("open a tab: %v", err)
	}
	ctx, cancel = context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	if injected != "" {
		if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: injected}); err != nil {
			t.Fatalf("inject a script: %v", err)
		}
	}
	return ctx
}

func visit(t *testing.T, ctx context.Context, address string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("visit %s: %v", address, err)
	}
}

// evaluate returns what an expression, or the promise that it is, comes to.
func evaluate[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("evaluate %.100s: %v", expression, err)
	}
	return v
}

// await waits until an expression is true on whatever page is there by then.
func await(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && ok {
			return
		}
		select { // an error is usual while a page is being left
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", expression, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// at is the expression that a page with this heading is there.
func at(place string) string {
	return fmt.Sprintf("document.getElementById('place') && document.getElementById('place').textContent === %q", place)
}

func says(text string) string {
	return fmt.Sprintf("document.getElementById('status') && document.getElementById('status').textContent === %q", text)
}

func TestUnitsInBrowser(t *testing.T) {
	browser := startBrowser(t)
	files, err := bundle.Build(".", "all_test")
	if err != nil {
		t.Fatal(err)
	}
	server := newSite(t, load(t), nil)
	ctx := tab(t, browser, "")
	visit(t, ctx, server.URL)
	evaluate[chromedp.Void](t, ctx, string(files["all_test.js"]))

	t.Run("own tests", func(t *testing.T) {
		report := evaluate[struct {
			Ran      int      `json:"ran"`
			Failures []string `json:"failures"`
		}](t, ctx, "finish()")
		if report.Ran < 15 {
			t.Errorf("%d tests ran", report.Ran)
		}
		for _, f := range report.Failures {
			t.Error(f)
		}
	})

	t.Run("digests agree with crypto/sha256", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var messages [][]int // []byte would be encoded as base64
		var want []string
		for length := range 300 {
			message, raw := make([]int, length), make([]byte, length)
			for i := range raw {
				raw[i] = byte(random.Uint32())
				message[i] = int(raw[i])
			}
			sum := sha256.Sum256(raw)
			messages, want = append(messages, message), append(want, hex.EncodeToString(sum[:]))
		}
		got := evaluate[[]string](t, ctx, "digests("+strings.ReplaceAll(fmt.Sprint(messages), " ", ",")+")")
		if !slices.Equal(got, want) {
			t.Error("they do not")
		}
	})

	for _, algorithm := range []string{"sha256", "memory"} {
		t.Run("answers verify/"+algorithm, func(t *testing.T) {
			for attempt := range 4 {
				ticket, puzzles := fmt.Sprint("ticket ", attempt), 12
				answer := evaluate[string](t, ctx, fmt.Sprintf(`answer(%d, {ticket: %q, algorithm: %q, bits: 12, attempt: %d, left: 1e6})`,
					puzzles, ticket, algorithm, 5*attempt))
				if n, err := verify(algorithm, ticket, answer, puzzles, 12); err != nil || n != puzzles {
					t.Errorf("attempt %d: %d solved, %v", attempt, n, err)
				}
			}
		})
	}

	t.Run("rates", func(t *testing.T) { // for the record; asserts nothing on speed
		rates := evaluate[[]float64](t, ctx, "rates()")
		t.Logf("hashes/ms: plain %.0f, WebCrypto %.0f", rates[0], rates[1])
	})
}

// The server's side has vectors of its own: both sides must mean the same by an answer.
func TestAnswersAreReadAsTheServerReadsThem(t *testing.T) {
	b, err := os.ReadFile("../work/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Ticket, Algorithm, Answer string
		Puzzles, Bits             int
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for i, v := range vectors {
		if n, err := verify(v.Algorithm, v.Ticket, v.Answer, v.Puzzles, v.Bits); err != nil || n == 0 {
			t.Errorf("vector %d: %d solved, %v", i, n, err)
		}
	}
}

func TestReadersPass(t *testing.T) {
	scripts := load(t)
	browser := startBrowser(t)
	worker := "GET /.quickthorn/assets/" + scripts.Worker()
	record := `new MutationObserver((changes) => changes.forEach(({type, target}) => {
		if (target.id === "status" && type === "childList") sessionStorage.said = (sessionStorage.said || "") + target.textContent + ";";
		if (target.id === "progress") sessionStorage.bar = target.hidden + " " + target.value;
	})).observe(document, {childList: true, attributes: true, subtree: true})`
	hurry := "const later = setTimeout; window.setTimeout = (f, d) => later(f, d / 20);"
	tests := []struct {
		name     string
		changes  attributes
		prepare  func(s *site)
		injected string
		end      string // heading of the last page; "article" when empty
		check    func(t *testing.T, ctx context.Context, s *site)
	}{
		{name: "sha256", injected: record, check: func(t *testing.T, ctx context.Context, s *site) {
			if n := s.lastSolved(t); n != 32 {
				t.Errorf("%d puzzles solved", n)
			}
			if s.count(worker) == 0 {
				t.Error("no worker was used")
			}
			if said := evaluate[string](t, ctx, "sessionStorage.said"); said != "working;almost;" {
				t.Errorf("said %q", said)
			}
			if bar := evaluate[string](t, ctx, "sessionStorage.bar"); bar != "false 100" {
				t.Errorf("progress bar is %q", bar)
			}
		}},
		{name: "memory", changes: attributes{"algorithm": "memory", "puzzles": "6", "least": "2"}, check: func(t *testing.T, ctx context.Context, s *site) {
			if n := s.lastSolved(t); n != 6 {
				t.Errorf("%d puzzles solved", n)
			}
		}},
		{name: "workers forbidden by policy", prepare: func(s *site) { s.policy += "; worker-src 'none'" }, check: func(t *testing.T, ctx context.Context, s *site) {
			if s.count(worker) != 0 {
				t.Error("a worker was loaded all the same")
			}
		}},
		{name: "memory with workers forbidden", changes: attributes{"algorithm": "memory", "puzzles": "6", "least": "2"},
			prepare: func(s *site) { s.policy += "; worker-src 'none'" }},
		{name: "no workers in this browser", injected: "delete window.Worker"},
		{name: "worker's constructor throws", injected: "window.Worker = function () { throw new DOMException('no', 'SecurityError') }"},
		{name: "worker not found", changes: attributes{"worker": "/.quickthorn/assets/worker.00000000.js"}},
		{name: "no worker named", changes: attributes{"worker": ""}},
		{name: "worker of another site", changes: attributes{"worker": "//evil.example/worker.js"}},
		{name: "worker breaks while loading", prepare: func(s *site) { s.worker = "throw new Error('broken')" }},
		{name: "worker breaks at its first job", prepare: func(s *site) { s.worker = "onmessage = () => { throw new Error('broken') }; postMessage(null)" }},
		{name: "worker says nothing", prepare: func(s *site) { s.worker = "for (;;);" }},
		{name: "one worker is stuck", injected: "Object.defineProperty(navigator, 'hardwareConcurrency', {value: 3})", prepare: func(s *site) {
			f, _ := scripts.Find(scripts.Worker())
			// Of two workers the one that is given puzzle 0 never answers.
			s.worker = string(f.Body) + "\nconst work = onmessage; onmessage = (e) => { if (e.data.puzzle === 0 && e.data.attempt === 0) for (;;); work(e) };"
		}, check: func(t *testing.T, ctx context.Context, s *site) {
			if n := s.lastSolved(t); n != 32 {
				t.Errorf("%d puzzles solved", n)
			}
		}},
		{name: "no WebCrypto", injected: "Object.defineProperty(window, 'crypto', {value: undefined})", prepare: func(s *site) { s.policy += "; worker-src 'none'" }},
		{name: "no MessageChannel", injected: "delete window.MessageChannel", prepare: func(s *site) { s.policy += "; worker-src 'none'" }},
		{name: "timers come late", injected: "window.setTimeout = () => 0"},
		{name: "elements missing", prepare: func(s *site) { s.bare = true }},
		{name: "texts missing", changes: attributes{"text-working": "", "text-almost": ""}},
		{name: "fetch missing", injected: "delete window.fetch"},
		{name: "fetch forbidden by policy", prepare: func(s *site) { s.policy += "; connect-src 'none'" },
			injected: hurry},
		{name: "fetch never ends", injected: "window.fetch = () => new Promise(() => {}); const later = setTimeout; window.setTimeout = (f, d) => later(f, d > 9000 ? d / 200 : d / 20)",
			changes: attributes{"limit": "60000"}},
		{name: "some solved in time", changes: attributes{"bits": "8", "puzzles": "4", "least": "2", "limit": "1500"}, prepare: func(s *site) {
			f, _ := scripts.Find(scripts.Worker())
			s.worker = "const post = postMessage; self.postMessage = (m) => post(m && m.puzzle > 2 ? {puzzle: m.puzzle, payload: null} : m);\n" + string(f.Body)
		}, check: func(t *testing.T, ctx context.Context, s *site) {
			if n := s.lastSolved(t); n != 3 {
				t.Errorf("%d puzzles solved", n)
			}
		}},
		{name: "too few solved in time", changes: attributes{"bits": "24", "least": "32", "limit": "300"}, end: "fallback"},
		{name: "too few solved on the page's own thread", changes: attributes{"bits": "24", "least": "32", "limit": "300", "worker": ""}, end: "fallback"},
		{name: "too few solved and timers never come", changes: attributes{"bits": "24", "least": "32", "limit": "300"},
			injected: "window.setTimeout = () => 0", end: "fallback"},
		{name: "all workers are stuck", changes: attributes{"limit": "500"}, prepare: func(s *site) { s.worker = "postMessage(null); for (;;);" }, end: "fallback"},
		{name: "something throws at the end", injected: hurry + "window.btoa = () => { throw new Error('no') }", end: "fallback"},
		{name: "something throws while solving", injected: hurry + "delete window.Worker; window.DataView = function () { throw new Error('no') }", end: "fallback"},
		{name: "something throws at the start", injected: hurry + "performance.now = () => { throw new Error('no') }", end: "fallback"},
		{name: "attributes are nonsense", changes: attributes{"puzzles": "many"}, injected: hurry, end: "fallback"},
		{name: "algorithm unknown", changes: attributes{"algorithm": "lattice"}, injected: hurry, end: "fallback"},
		{name: "fallback of another site", changes: attributes{"algorithm": "lattice", "fallback": "//evil.example/"}, injected: hurry, end: "too few"},
		{name: "return to another site", changes: attributes{"return": "//evil.example/"}, end: "home"},
		{name: "return to another site by backslash", changes: attributes{"return": `/\evil.example/`}, end: "home"},
		{name: "server has something to say", prepare: func(s *site) {
			s.pass = func(w http.ResponseWriter) {
				s.servePage(w, "<h1 id=place>explanation</h1>")
			}
		}, end: "explanation"},
		{name: "server fails", prepare: func(s *site) {
			s.pass = func(w http.ResponseWriter) {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprint(w, "<h1 id=place>unavailable</h1>")
			}
		}, end: "unavailable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, scripts, test.changes)
			if test.prepare != nil {
				test.prepare(s)
			}
			ctx := tab(t, browser, test.injected)
			start := time.Now()
			visit(t, ctx, s.URL+"/article")
			end := "article"
			if test.end != "" {
				end = test.end
			}
			await(t, ctx, at(end))
			t.Logf("after %v", time.Since(start).Round(time.Millisecond))
			if test.check != nil {
				test.check(t, ctx, s)
			}
		})
	}
}

func TestPlainHTTPPasses(t *testing.T) {
	browser := startBrowser(t)
	s := newSite(t, load(t), nil)
	ctx := tab(t, browser, "")
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	visit(t, ctx, "http://plain.test:"+u.Port()+"/article")
	await(t, ctx, at("article"))
	if evaluate[bool](t, ctx, "isSecureContext || !!crypto.subtle") {
		t.Error("the test did not take WebCrypto away")
	}
}

func TestBrowserWithoutCompilerPasses(t *testing.T) {
	browser := startBrowser(t, chromedp.Flag("js-flags", "--jitless"))
	for _, changes := range []attributes{
		{"bits": "12", "limit": "15000"},
		{"algorithm": "memory", "puzzles": "6", "least": "2", "limit": "15000"},
	} {
		s := newSite(t, load(t), changes)
		ctx := tab(t, browser, "")
		start := time.Now()
		visit(t, ctx, s.URL+"/article")
		await(t, ctx, at("article"))
		t.Logf("%s: after %v, %d solved", s.attributes["algorithm"], time.Since(start).Round(time.Millisecond), s.lastSolved(t))
	}
}

func TestAnswerIsHandedInWhenTheNetworkIsBack(t *testing.T) {
	scripts := load(t)
	browser := startBrowser(t)
	tests := []struct{ name, injected, returns string }{
		{"by trying again", "", ""},
		{"when the browser notices", "const later = setTimeout; window.setTimeout = (f, d) => d >= 1000 && d < 9000 ? 7 : later(f, d)", "dispatchEvent(new Event('online'))"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, scripts, nil)
			s.set(func(s *site) { s.down = true })
			ctx := tab(t, browser, test.injected)
			visit(t, ctx, s.URL+"/article")
			await(t, ctx, says("offline"))
			s.set(func(s *site) { s.down = false })
			if test.returns != "" {
				evaluate[chromedp.Void](t, ctx, test.returns)
			}
			await(t, ctx, at("article"))
		})
	}
}

func TestFailureIsSaidBeforeThePageIsLeft(t *testing.T) {
	s := newSite(t, load(t), attributes{"bits": "x"})
	ctx := tab(t, startBrowser(t), "")
	visit(t, ctx, s.URL+"/article")
	await(t, ctx, says("failed"))
	if n := s.count("GET /.quickthorn/pass?fallback"); n != 0 {
		t.Error("the page was left at once")
	}
	await(t, ctx, at("fallback"))
}

func TestFragmentIsKept(t *testing.T) {
	browser := startBrowser(t)
	for _, method := range []string{"own thread", "worker"} {
		t.Run(method, func(t *testing.T) {
			changes := attributes{}
			if method == "own thread" {
				changes["worker"] = ""
			}
			s := newSite(t, load(t), changes)
			ctx := tab(t, browser, "")
			visit(t, ctx, s.URL+"/article#part")
			await(t, ctx, at("article"))
			if href := evaluate[string](t, ctx, "location.href"); href != s.URL+"/article#part" {
				t.Errorf("at %q", href)
			}
		})
	}
}

func TestComingBack(t *testing.T) {
	browser := startBrowser(t)
	const restored = "dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))"

	for _, kind := range []string{"refresh", "question"} {
		t.Run("to a page of kind "+kind+" loads it anew", func(t *testing.T) {
			s := newSite(t, load(t), attributes{"kind": kind})
			ctx := tab(t, browser, "")
			visit(t, ctx, s.URL+"/article")
			evaluate[chromedp.Void](t, ctx, "window.old = true")
			if n := s.count("GET /article"); n != 1 {
				t.Fatalf("%d visits before coming back", n)
			}
			evaluate[chromedp.Void](t, ctx, restored)
			await(t, ctx, "!window.old && "+at("challenge"))
			if n := s.count("GET /article"); n != 2 {
				t.Errorf("%d visits", n)
			}
			if n := s.count("GET /.quickthorn/pass"); n != 0 {
				t.Error("the script did some work")
			}
		})
	}

	t.Run("to a passed page goes on", func(t *testing.T) {
		s := newSite(t, load(t), nil)
		s.set(func(s *site) { s.away = 1 }) // the page stays, as if it had been kept and come back to
		ctx := tab(t, browser, "")
		visit(t, ctx, s.URL+"/article")
		for s.count("GET /article") < 2 {
			select {
			case <-ctx.Done():
				t.Fatal("never went on")
			case <-time.After(10 * time.Millisecond):
			}
		}
		// More than once: a browser drops a navigation to where it is just trying to go.
		await(t, ctx, at("article")+" || (setTimeout(() => "+restored+", 100), false)")
		if n := s.count("GET /.quickthorn/pass"); n != 1 {
			t.Errorf("%d answers were handed in", n)
		}
	})

	t.Run("from the article leads no further than the page before", func(t *testing.T) {
		s := newSite(t, load(t), nil)
		ctx := tab(t, browser, "")
		visit(t, ctx, s.URL+"/")
		visit(t, ctx, s.URL+"/article")
		await(t, ctx, at("article"))
		evaluate[chromedp.Void](t, ctx, "void setTimeout(() => history.back())") // the page is gone before it could answer
		await(t, ctx, at("home"))
	})
}
