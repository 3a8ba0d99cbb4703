package edge

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/challenge/captcha"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

func TestAllowedPageArrivesByteForByte(t *testing.T) {
	page := make([]byte, 200_000)
	for i := range page {
		page[i] = byte(rand.Uint32())
	}
	targets := make(chan string, 10)
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) {
		targets <- r.Method + " " + r.RequestURI + " " + r.Host
		w.Header().Set("Content-Type", "image/x-odd")
		w.Header().Set("ETag", `"v1"`)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2; HttpOnly")
		w.WriteHeader(http.StatusAccepted)
		w.Write(page)
	}})
	const target = "/a//b/%2F;x=1/%2e%2e/%E4?q=a+b&%zz&;"
	res, body := f.ask(t, "GET "+target+" HTTP/1.1\r\nHost: Wiki.Example.org:8080\r\nUser-Agent: "+firefox+"\r\n\r\n")
	if got := receive(t, targets, "the request"); got != "GET "+target+" Wiki.Example.org:8080" {
		t.Errorf("the upstream was asked %q", got)
	}
	if res.StatusCode != http.StatusAccepted || !bytes.Equal([]byte(body), page) {
		t.Errorf("status %d, %d bytes, same: %t", res.StatusCode, len(body), bytes.Equal([]byte(body), page))
	}
	if got, want := res.Header["Set-Cookie"], []string{"a=1", "b=2; HttpOnly"}; !cmp.Equal(got, want) || res.Header.Get("ETag") != `"v1"` {
		t.Errorf("header %v", res.Header)
	}
	for _, name := range []string{"Cache-Control", "Vary", "Content-Security-Policy", "X-Content-Type-Options"} {
		if v, ok := res.Header[name]; ok {
			t.Errorf("the edge added %s: %q to the site's page", name, v)
		}
	}
}

func TestRefusalsTakeTheFormOfTheRequest(t *testing.T) {
	const page, problem, text = "text/html; charset=utf-8", "application/problem+json", "text/plain; charset=utf-8"
	const policy = `
rules:
  - {name: wait, when: 'request.query == "slow"', action: throttle, retryAfter: 90s}
  - {name: no, when: 'true', action: deny, basis: certain, reason: nobody is served here}`
	f := start(t, setup{mode: defense.ModeEnforce, policy: policy})
	for _, tt := range []struct {
		name, method, target string
		headers              []string
		status               int
		form                 string
	}{
		{"page", "GET", "/wiki/A", nil, 403, page},
		{"form", "POST", "/edit", []string{"Content-Type: application/x-www-form-urlencoded"}, 403, page},
		{"HEAD of a page", "HEAD", "/wiki/A", nil, 403, page},
		{"call for JSON", "GET", "/api/v1/repos", []string{"Accept: application/json"}, 403, problem},
		{"federation", "GET", "/users/a", []string{"Accept: application/activity+json"}, 403, problem},
		{"WebDAV", "PROPFIND", "/dav/", []string{"Accept: */*"}, 403, problem},
		{"git", "GET", "/a/b.git/info/refs?service=git-upload-pack", []string{"Accept: */*", "User-Agent: git/2.45.0"}, 403, text},
		{"feed", "GET", "/feed.xml", nil, 403, text},
		{"style sheet", "GET", "/style.css", []string{"Accept: text/css,*/*;q=0.1", "Sec-Fetch-Dest: style", "Sec-Fetch-Mode: no-cors"}, 403, text},
		{"throttled page", "GET", "/wiki/A?slow", nil, 429, page},
		{"throttled call", "GET", "/api/v1/repos?slow", []string{"Accept: application/json"}, 429, problem},
		{"throttled feed", "GET", "/feed.xml?slow", nil, 429, text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body := do(t, f.client(t), f.request(t, tt.method, tt.target, tt.headers...))
			if res.StatusCode != tt.status || res.Header.Get("Content-Type") != tt.form {
				t.Errorf("%d %s", res.StatusCode, res.Header.Get("Content-Type"))
			}
			if got := res.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control: %s", got)
			}
			for _, h := range []string{"Accept", "Cookie", "User-Agent"} {
				if !strings.Contains(res.Header.Get("Vary"), h) {
					t.Errorf("Vary %q lacks %s", res.Header.Get("Vary"), h)
				}
			}
			wait := ""
			if tt.status == 429 {
				wait = "90"
			}
			if got := res.Header.Get("Retry-After"); got != wait {
				t.Errorf("Retry-After: %q", got)
			}
			if strings.Contains(strings.ToLower(body+fmt.Sprint(res.Header)), "noindex") {
				t.Error("the answer speaks to search engines about the page")
			}
			switch {
			case tt.method == "HEAD":
				if body != "" || res.ContentLength <= 0 {
					t.Errorf("HEAD has the body %q, length %d", body, res.ContentLength)
				}
			case tt.status == 403 && !strings.Contains(body, "nobody is served here"):
				t.Errorf("the rule's reason is missing: %s", body)
			case !strings.Contains(body, "owner@example.org"):
				t.Errorf("the contact is missing: %s", body)
			}
			if id := f.event(t).RequestID; tt.method != "HEAD" && !strings.Contains(body, id) {
				t.Errorf("the answer lacks the event's request id %s", id)
			}
		})
	}
}

func TestAJudgementsReasonsStayTheOwners(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: `rules: [{name: no, when: 'true', action: deny, basis: judged, reason: smells of a scraper}]`})
	if _, body := f.get(t, "/"); strings.Contains(body, "smells") {
		t.Error("the client was told what it is judged by")
	}
	if ev := f.event(t); ev.Verdict.Reason != "smells of a scraper" {
		t.Errorf("the event says %q", ev.Verdict.Reason)
	}
}

func TestCrawlerIsRefusedButReadsRobotsTxt(t *testing.T) {
	f := start(t, setup{}) // as installed: readers-first in mode certain
	for path, want := range map[string]int{"/": 403, "/wiki/A": 403, "/robots.txt": 200, "/sitemap.xml": 200, "/.well-known/ai.txt": 200} {
		if res, _ := f.get(t, path, "User-Agent: "+gptbot, "Accept: */*"); res.StatusCode != want {
			t.Errorf("GPTBot on %s: %d, want %d", path, res.StatusCode, want)
		}
		if res, _ := f.get(t, path); res.StatusCode != 200 {
			t.Errorf("Firefox on %s: %d", path, res.StatusCode)
		}
	}
}

func TestUnknownHostIsMisdirected(t *testing.T) {
	f := start(t, setup{hosts: []string{"wiki.example.org", "*.pages.example.org"}})
	for host, want := range map[string]int{
		"wiki.example.org": 200, "WIKI.example.org.": 200, "wiki.example.org:8080": 200, "a.pages.example.org": 200, "b.a.pages.example.org": 200,
		"example.org": 421, "pages.example.org": 421, "evilpages.example.org": 421, "127.0.0.1": 421, "[::1]": 421,
	} {
		if res, _ := f.get(t, "/", "Host: "+host); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, res.StatusCode, want)
		}
	}
	if n := f.stats.unknownHost.Load(); n != 5 {
		t.Errorf("%d counted", n)
	}
}

func TestUpstreamAwayIsAClearAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, tt := range []struct {
		name   string
		s      setup
		status int
	}{
		{"nobody listens", setup{upstream: upstream.Config{URL: "http://" + nobody}}, 502},
		{"no answer in time", setup{origin: slow, upstream: upstream.Config{ResponseHeaderTimeout: 50 * time.Millisecond}}, 504},
		{"an answer that is no HTTP", setup{upstream: upstream.Config{URL: notHTTP(t)}}, 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.recordPass = true
			f := start(t, tt.s)
			res, body := f.get(t, "/wiki/A")
			if res.StatusCode != tt.status || res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Retry-After") == "" {
				t.Errorf("page: %d %v", res.StatusCode, res.Header)
			}
			if strings.Contains(body, "127.0.0.1") {
				t.Error("the page names the upstream")
			}
			if ev := f.event(t); ev.Response.Status != tt.status || ev.Response.Bytes != int64(len(body)) {
				t.Errorf("recorded: status %d, %d bytes of %d", ev.Response.Status, ev.Response.Bytes, len(body))
			}
			res, _ = f.get(t, "/api/v1/x", "Accept: application/json")
			if res.StatusCode != tt.status || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("call: %d %s", res.StatusCode, res.Header.Get("Content-Type"))
			}
			if n := f.Posture.Snapshot().InFlight; n != 0 {
				t.Errorf("%d requests are taken for waiting", n)
			}
		})
	}
}

func notHTTP(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "220 mail.example.org ESMTP\r\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func TestPanicIsCountedAndEndsTheConnectionOnly(t *testing.T) {
	panics := true
	f := start(t, setup{mode: defense.ModeEnforce, forwarder: forward(func(w http.ResponseWriter, r *http.Request, o *upstream.Options) (upstream.Result, error) {
		if panics {
			panic("a bug with \x1b[31mcolour")
		}
		o.OnHeader(200, w.Header())
		w.WriteHeader(200)
		return upstream.Result{Status: 200, Started: true}, nil
	})})
	if res, err := f.client(t).Do(f.request(t, "GET", "/")); err == nil {
		t.Errorf("answered %d", res.StatusCode)
	}
	eventually(t, "the panic to be counted", func() bool { return f.stats.panics.Load() == 1 })
	if n := f.Posture.Snapshot().InFlight; n != 0 {
		t.Errorf("%d requests are taken for waiting", n)
	}
	if out := f.log.String(); !strings.Contains(out, "a bug with") || !strings.Contains(out, "ServeHTTP") || strings.Contains(out, "\x1b") {
		t.Errorf("log: %q", out)
	}
	panics = false
	if res, _ := f.get(t, "/"); res.StatusCode != 200 {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
	if n := f.Posture.Snapshot().InFlight; n != 0 {
		t.Errorf("%d requests are taken for waiting afterwards", n)
	}
}

func TestAnswerThatBreaksOffIsNotTakenForComplete(t *testing.T) {
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "the beginning")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}})
	// What the client gets of it depends on what was sent before the connection was cut.
	if res, err := f.client(t).Do(f.request(t, "GET", "/")); err == nil {
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q looks complete", b)
		}
	}
	if n := f.stats.panics.Load(); n != 0 {
		t.Errorf("%d panics counted: the cut is meant", n)
	}
	if n := f.Posture.Snapshot().InFlight; n != 0 {
		t.Errorf("%d requests are taken for waiting", n)
	}
}

func TestWhatIsForwardedAboutTheClient(t *testing.T) {
	seen := make(chan http.Header, 1)
	origin := func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }
	forged := []string{
		"X-Forwarded-For: 203.0.113.5", "X-Real-IP: 203.0.113.6", "Forwarded: for=203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example",
		"True-Client-IP: 203.0.113.8", "Quickthorn-Client: 203.0.113.9", "X-Original-URL: /admin", "Host: wiki.example.org",
	}
	names := []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host", "True-Client-Ip", "Quickthorn-Client", "X-Original-Url"}
	for _, tt := range []struct {
		name, trusted string
		want          map[string]string
		client        string
	}{
		{"nobody is trusted", "", map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "wiki.example.org",
		}, "127.0.0.1"},
		{"the proxy in front is trusted", "127.0.0.0/8", map[string]string{
			"X-Forwarded-For": "203.0.113.5, 127.0.0.1", "X-Real-Ip": "203.0.113.5", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example",
			"Forwarded": "for=203.0.113.7, for=127.0.0.1", "True-Client-Ip": "203.0.113.8", "X-Original-Url": "/admin",
		}, "203.0.113.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, setup{origin: origin, trusted: tt.trusted, recordPass: true})
			f.get(t, "/", forged...)
			h := receive(t, seen, "the request")
			got := map[string]string{}
			for _, n := range names {
				if v, ok := h[n]; ok {
					got[n] = strings.Join(v, " | ")
				}
			}
			if !cmp.Equal(got, tt.want) {
				t.Errorf("(-want +got):\n%s", cmp.Diff(tt.want, got))
			}
			if ev := f.event(t); ev.Client.Address != tt.client {
				t.Errorf("judged as %s", ev.Client.Address)
			}
		})
	}
}

func TestABanMeetsTheClientBehindATrustedProxyAlone(t *testing.T) {
	f := start(t, setup{trusted: "127.0.0.0/8", decisions: []defense.Decision{deny("203.0.113.5")}})
	for forwarded, want := range map[string]int{"203.0.113.5": 403, "203.0.113.5, 198.51.100.1": 200, "198.51.100.1, 203.0.113.5": 403, "unknown": 200, "::ffff:203.0.113.5": 403} {
		if res, _ := f.get(t, "/", "X-Forwarded-For: "+forwarded); res.StatusCode != want {
			t.Errorf("X-Forwarded-For %q: %d, want %d", forwarded, res.StatusCode, want)
		}
	}
}

func TestEventsSayWhatHappenedAndWhy(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: `
classes: {secret: [/secret/**]}
rules:
  - {name: secret, when: 'request.class == "secret"', action: deny, basis: certain, reason: this is secret}
  - {name: doubt, when: 'request.path == "/doubt"', score: 60, reason: nobody comes here}
  - {name: trial, when: 'request.path == "/doubt"', action: deny, mode: shadow}
thresholds: [{score: 50, action: challenge, reason: too doubtful}]`})
	before := time.Now()
	_, body := f.get(t, "/secret/%41?token=1", "Referer: https://example.com/from", "Host: Wiki.example.org")
	ev := f.event(t)
	want := &defense.Event{
		Schema: defense.EventSchema, Kind: "request", ID: ev.ID, Time: ev.Time, Site: "wiki", Edge: "test", RequestID: ev.RequestID,
		Client: defense.EventClient{Address: "127.0.0.1", Prefix: "127.0.0.0/24"},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example.org", Path: "/secret/A", Query: "token=1", Kind: defense.KindNavigation, Class: "secret", Protocol: "HTTP/1.1",
			Agent: firefox, Family: defense.AgentBrowser, Referrer: "https://example.com/from",
			Headers: defense.EventHeaders{Shape: ev.Request.Headers.Shape, Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", AcceptLanguage: "en-US,en;q=0.5"},
		},
		Signals: ev.Signals,
		Verdict: defense.EventVerdict{
			Action: defense.Deny, Intended: defense.Deny, Score: ev.Verdict.Score, Rule: "secret", Reason: "this is secret", Basis: defense.BasisCertain, Mode: defense.ModeEnforce,
		},
		Response: defense.EventResponse{Status: 403, Bytes: int64(len(body)), Duration: ev.Response.Duration},
	}
	if !cmp.Equal(ev, want) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, ev))
	}
	if ev.Time.Before(before) || ev.Response.Duration <= 0 || len(ev.ID) != 26 || len(ev.RequestID) != 26 || ev.ID == ev.RequestID || len(ev.Request.Headers.Shape) != 16 {
		t.Errorf("time %s, duration %g, id %q, request id %q, shape %q", ev.Time, ev.Response.Duration, ev.ID, ev.RequestID, ev.Request.Headers.Shape)
	}

	f.get(t, "/doubt")
	ev = f.event(t)
	if ev.Kind != "challenge" || ev.Challenge == nil || ev.Challenge.Outcome != "issued" || ev.Response.Status != 429 || ev.Verdict.Rule != "threshold:50" || ev.Verdict.Reason != "too doubtful" {
		t.Errorf("challenged: %+v, %+v", ev, ev.Challenge)
	}
	if s := ev.Signals[len(ev.Signals)-1]; s.Name != "doubt" || s.Weight != 60 || s.Sentence != "nobody comes here" {
		t.Errorf("signals: %v", ev.Signals)
	}
	if want := []defense.ShadowHit{{Rule: "trial", Action: defense.Deny}}; !cmp.Equal(ev.Verdict.Shadow, want) {
		t.Errorf("shadow: %v", ev.Verdict.Shadow)
	}
}

func TestRequestsAreCountedByWhatWasAndWouldHaveBeenDone(t *testing.T) {
	f := start(t, setup{mode: defense.ModeObserve})
	for range 3 {
		if res, _ := f.get(t, "/", "User-Agent: "+gptbot); res.StatusCode != 200 {
			t.Errorf("in mode observe: %d", res.StatusCode)
		}
	}
	f.get(t, "/")
	s := f.sites.all[0]
	if n, m := s.verdicts[defense.Observe][defense.Deny].Load(), s.verdicts[defense.Allow][defense.Allow].Load(); n != 3 || m != 1 {
		t.Errorf("%d observed instead of denied, %d allowed", n, m)
	}
}

// --- the check --------------------------------------------------------------------

const challengeAll = `rules: [{name: ask, when: 'true', action: challenge, reason: everybody is asked}]`

var refresh = regexp.MustCompile(`http-equiv="refresh" content="[0-9]+;url=([^"]+)"`)

// passAddress is where a challenge page leads to.
func passAddress(t testing.TB, page string) string {
	t.Helper()
	m := refresh.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no refresh in %s", page)
	}
	to := strings.ReplaceAll(m[1], "&amp;", "&")
	if !strings.HasPrefix(to, challenge.PassPath+"?") {
		t.Fatalf("the page refreshes to %s", to)
	}
	return to
}

func (f *front) browser(t testing.TB) *http.Client {
	c := f.client(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Jar = jar
	return c
}

func TestReaderPassesTheCheckOnceAndReadsOn(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: challengeAll})
	c := f.browser(t)
	res, page := do(t, c, f.request(t, "GET", "/wiki/A?x=1&y=%C3%A4"))
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "2" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("challenge: %d %v", res.StatusCode, res.Header)
	}
	if strings.Contains(page, "<script") {
		t.Error("the check needs JavaScript")
	}
	f.pass(2 * time.Second)
	res, _ = do(t, c, f.request(t, "GET", passAddress(t, page)))
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/wiki/A?x=1&y=%C3%A4" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("pass: %d %v", res.StatusCode, res.Header)
	}
	for range 3 {
		if res, body := do(t, c, f.request(t, "GET", res.Header.Get("Location"))); res.StatusCode != 200 || body != "origin" {
			t.Fatalf("with clearance: %d %s", res.StatusCode, body)
		}
	}
	if issued, passed := f.event(t), f.event(t); issued.Challenge.Outcome != "issued" || passed.Challenge.Outcome != "passed" || passed.Response.Status != 303 || passed.Kind != "challenge" {
		t.Errorf("events: %+v, %+v", issued.Challenge, passed.Challenge)
	}
	if f.stats.issued[defense.ChallengeRefresh].Load() != 1 || f.stats.challenges[challenge.Passed].Load() != 1 {
		t.Error("not counted")
	}
	select {
	case ev := <-f.recorder.events:
		t.Errorf("a cleared reader was recorded: %+v", ev.Verdict)
	default:
	}
}

func TestTabsThatAreCheckedInParallelAllPass(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: challengeAll})
	c := f.browser(t)
	var pages []string
	for _, path := range []string{"/a", "/b", "/c"} {
		_, page := do(t, c, f.request(t, "GET", path))
		pages = append(pages, page)
	}
	late := f.request(t, "GET", "/d") // challenged without cookies, answered after the others passed
	res, _ := do(t, f.client(t), late)
	for _, set := range res.Header["Set-Cookie"] {
		if !strings.HasPrefix(set, "quickthorn-visitor=") {
			t.Errorf("a challenge sets %s", set)
		}
	}
	f.pass(2 * time.Second)
	for i, page := range pages {
		res, _ := do(t, c, f.request(t, "GET", passAddress(t, page)))
		if want := "/" + string(rune('a'+i)); res.StatusCode != 303 || res.Header.Get("Location") != want {
			t.Errorf("tab %s: %d to %s", want, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if res, _ := do(t, c, f.request(t, "GET", "/e")); res.StatusCode != 200 {
		t.Errorf("then: %d", res.StatusCode)
	}
}

func TestAFailedCheckSaysWhyAndOffersAWayOn(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: challengeAll})
	_, page := f.get(t, "/wiki/A")
	good := passAddress(t, page)
	for _, tt := range []struct {
		name, address, cookie string
		status                int
		says, link            string
	}{
		{"cookies are off", good, "", 403, "allow cookies", `href="/wiki/A"`},
		{"somebody else's cookie", good, "Cookie: quickthorn-visitor=AAAA", 403, "allow cookies", `href="/wiki/A"`},
		{"cut off", good[:len(good)-3], "", 400, "changed or cut off", `href="/"`},
		{"another target", strings.Replace(good, "wiki", "evil", 1), "", 400, "changed or cut off", `href="/"`},
		{"nothing", challenge.PassPath, "", 400, "changed or cut off", `href="/"`},
		{"no page of ours", challenge.Prefix + "x", "", 404, "nothing at this address", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body := f.get(t, tt.address, tt.cookie)
			if res.StatusCode != tt.status || !strings.Contains(body, tt.says) || !strings.Contains(body, tt.link) {
				t.Errorf("%d: %s", res.StatusCode, body)
			}
			if res.Header.Get("Set-Cookie") != "" || res.Header.Get("Location") != "" {
				t.Errorf("header %v", res.Header)
			}
		})
	}
}

func TestCookiesAreSecureExactlyWhereTheReaderUsesHTTPS(t *testing.T) {
	cert := certificate(t)
	for _, tt := range []struct {
		name    string
		s       setup
		headers []string
		secure  bool
	}{
		{"plain HTTP", setup{}, nil, false},
		{"plain HTTP, forged", setup{}, []string{"X-Forwarded-Proto: https"}, false},
		{"TLS ended by a trusted proxy", setup{trusted: "127.0.0.0/8"}, []string{"X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.9"}, true},
		{"trusted proxy on plain HTTP", setup{trusted: "127.0.0.0/8"}, []string{"X-Forwarded-Proto: http", "X-Forwarded-For: 203.0.113.9"}, false},
		{"TLS", setup{cert: cert}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.mode, tt.s.policy = defense.ModeEnforce, challengeAll
			f := start(t, tt.s)
			c := f.client(t)
			c.Transport.(*http.Transport).TLSClientConfig = trusting(t, cert)
			res, page := do(t, c, f.request(t, "GET", "/", tt.headers...))
			set := res.Header.Get("Set-Cookie")
			if got := strings.Contains(set, "; Secure"); got != tt.secure {
				t.Errorf("challenge: %s", set)
			}
			pair, _, _ := strings.Cut(set, ";")
			f.pass(2 * time.Second)
			res, _ = do(t, c, f.request(t, "GET", passAddress(t, page), append(tt.headers, "Cookie: "+pair)...))
			if set := res.Header.Get("Set-Cookie"); res.StatusCode != 303 || strings.Contains(set, "; Secure") != tt.secure || !strings.Contains(set, "HttpOnly") {
				t.Errorf("pass: %d %s", res.StatusCode, set)
			}
		})
	}
}

func TestTheCheckNeverLeadsOffTheSite(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: challengeAll})
	base, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"//evil.example/x":             "/.//evil.example/x",
		"///evil.example":              "/.///evil.example",
		`/\evil.example`:               `/./\evil.example`,
		"/%2f%2fevil.example":          "/%2f%2fevil.example",
		"http://evil.example/x":        "/",
		"/?next=//evil.example":        "/?next=//evil.example",
		"/\t//evil.example":            "", // no HTTP
		"/a?<script>alert(1)</script>": "/a?<script>alert(1)</script>",
	} {
		res, page := f.ask(t, "GET "+target+" HTTP/1.1\r\nHost: wiki.example.org\r\nUser-Agent: "+firefox+"\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
		if want == "" {
			if res.StatusCode != 400 {
				t.Errorf("%q: %d", target, res.StatusCode)
			}
			continue
		}
		if res.StatusCode != 429 {
			t.Errorf("%q: %d", target, res.StatusCode)
			continue
		}
		if strings.Contains(page, "<script>") {
			t.Errorf("%q is echoed as it is", target)
		}
		pair, _, _ := strings.Cut(res.Header.Get("Set-Cookie"), ";")
		f.pass(5 * time.Second)
		res, _ = f.get(t, passAddress(t, page), "Cookie: "+pair)
		location := res.Header.Get("Location")
		if res.StatusCode != 303 || location != want {
			t.Errorf("%q: %d to %q, want %q", target, res.StatusCode, location, want)
		}
		// A browser takes "\" for "/".
		to, err := base.Parse(strings.ReplaceAll(location, `\`, "/"))
		if err != nil || to.Host != base.Host {
			t.Errorf("%q leads to %v, %v", target, to, err)
		}
	}
}

// --- the tarpit -------------------------------------------------------------------

func TestTarpitHoldsAFewAndRefusesTheRestAtOnce(t *testing.T) {
	ban := deny("127.0.0.1")
	ban.Action = defense.Tarpit
	f := start(t, setup{decisions: []defense.Decision{ban}, delay: time.Hour, places: 2})
	var held []*raw
	for range 2 {
		c := f.dial(t)
		c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		held = append(held, c)
	}
	eventually(t, "two to be held", func() bool { return f.holder.held() == 2 })
	if res, _ := f.get(t, "/"); res.StatusCode != 403 {
		t.Errorf("the third: %d", res.StatusCode)
	}
	ev := f.event(t)
	if ev.Kind != "tarpit" || ev.Tarpit == nil || ev.Tarpit.Held != 0 {
		t.Errorf("the third: %+v, %+v", ev, ev.Tarpit)
	}
	for _, c := range held {
		c.Close()
	}
	eventually(t, "the places to be free", func() bool { return f.holder.held() == 0 })
	if ev := f.event(t); ev.Tarpit == nil || ev.Tarpit.Held <= 0 {
		t.Errorf("held: %+v", ev.Tarpit)
	}
}

func TestTarpitRefusesInTheEnd(t *testing.T) {
	ban := deny("127.0.0.1")
	ban.Action = defense.Tarpit
	f := start(t, setup{decisions: []defense.Decision{ban}, delay: time.Millisecond, places: 1})
	if res, _ := f.get(t, "/"); res.StatusCode != 403 {
		t.Errorf("%d", res.StatusCode)
	}
	if ev := f.event(t); ev.Tarpit.Held < 0.001 || ev.Tarpit.Bytes == 0 {
		t.Errorf("%+v", ev.Tarpit)
	}
}

// Whoever came there by mistake is shown the way out; what is no page has nobody to read it.
func TestTheTarpitHasAWayOut(t *testing.T) {
	ban := deny("127.0.0.1")
	ban.Action = defense.Tarpit
	f := start(t, setup{decisions: []defense.Decision{ban}, places: 1})
	_, body := f.get(t, "/articles/wrens?page=2", "Accept: text/html", "Accept-Language: de")
	const way = "/.quickthorn/way-out?to=/articles/wrens%3Fpage%3D2"
	if !strings.Contains(body, `<a href="`+way+`">Sind Sie ein Mensch? `) {
		t.Errorf("no way out in\n%s", body)
	}
	if _, body := f.get(t, "/feed.xml", "Accept: application/json"); strings.Contains(body, "way-out") {
		t.Errorf("a way out for a program:\n%s", body)
	}
	for _, address := range []string{way, "/.quickthorn/way-out?to=//evil.example/", "/.quickthorn/way-out?to=https://evil.example/", "/.quickthorn/way-out"} {
		res, body := f.get(t, address, "Accept: text/html")
		if res.StatusCode != 429 || !strings.Contains(body, "One moment") || strings.Contains(body, `"https://evil`) || strings.Contains(body, `"//evil`) {
			t.Errorf("%s: %d\n%s", address, res.StatusCode, body)
		}
	}
}

func TestSitesThatContradictEachOtherAreRefused(t *testing.T) {
	for _, hosts := range [][2][]string{{nil, nil}, {{"a.example"}, {"b.example", "A.example"}}} {
		_, err := New(Options{Sites: []Site{{Name: "one", Hosts: hosts[0]}, {Name: "two", Hosts: hosts[1]}}})
		if err == nil || !strings.Contains(err.Error(), `"one"`) || !strings.Contains(err.Error(), `"two"`) {
			t.Errorf("%v: %v", hosts, err)
		}
	}
	s, err := newSites([]Site{{Name: "wide", Hosts: []string{"*.example"}}, {Name: "narrow", Hosts: []string{"*.a.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.find("x.a.example").Name; got != "narrow" {
		t.Errorf("of two wildcards %s was taken", got)
	}
}

func TestRefusalCostsNoUpstream(t *testing.T) {
	f := start(t, setup{forwarder: forward(func(http.ResponseWriter, *http.Request, *upstream.Options) (upstream.Result, error) {
		t.Error("a refused request was forwarded")
		return upstream.Result{}, nil
	}), decisions: []defense.Decision{deny("127.0.0.1")}})
	for i := range 10 {
		f.get(t, "/"+strconv.Itoa(i))
	}
}

func TestAProvidersCheckEndToEnd(t *testing.T) {
	asked := make(chan string, 2)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.FormValue("secret") + " " + r.FormValue("response") + " " + r.FormValue("remoteip")
		fmt.Fprintf(w, `{"success": %v}`, r.FormValue("response") == "solved")
	}))
	defer provider.Close()
	a, err := captcha.New(captcha.Config{Provider: "hcaptcha", SiteKey: "10000000-ffff-ffff-ffff-000000000001", Secret: "our-secret", VerifyURL: provider.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, setup{mode: defense.ModeEnforce, policy: challengeAll, kinds: defense.Ladder{defense.ChallengeCaptcha, defense.ChallengeQuestion}, provider: a, widget: a.Widget()})
	c := f.browser(t)
	res, page := do(t, c, f.request(t, "GET", "/wiki/A"))
	if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "hcaptcha.com") || !strings.Contains(policy, "default-src 'self'") || !strings.Contains(page, `data-sitekey="10000000-ffff-ffff-ffff-000000000001"`) || strings.Contains(page, "our-secret") {
		t.Fatalf("%s\n%s", policy, page)
	}
	form := regexp.MustCompile(`(?s)<form method="post" action="([^"]+)">.*name="ticket" value="([^"]+)"`).FindStringSubmatch(page)
	if form == nil {
		t.Fatalf("no form in %s", page)
	}
	send := func(token string) (*http.Response, string) {
		r := f.request(t, "POST", strings.ReplaceAll(form[1], "&amp;", "&"), "Content-Type: application/x-www-form-urlencoded")
		body := url.Values{"ticket": {form[2]}, a.Widget().Field: {token}}.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		return do(t, c, r)
	}
	if res, page := send("unsolved"); res.StatusCode != 429 || !strings.Contains(page, "data-sitekey") {
		t.Errorf("not solved: %d %s", res.StatusCode, page)
	}
	if res, _ := send("solved"); res.StatusCode != 303 || res.Header.Get("Location") != "/wiki/A" {
		t.Errorf("solved: %d %v", res.StatusCode, res.Header)
	}
	for _, want := range []string{"our-secret unsolved ", "our-secret solved "} {
		if got := receive(t, asked, "a question to the provider"); got != want {
			t.Errorf("the provider was asked %q, want %q", got, want)
		}
	}
	if res, body := do(t, c, f.request(t, "GET", "/wiki/A")); res.StatusCode != 200 || body != "origin" {
		t.Errorf("then: %d %s", res.StatusCode, body)
	}
}
