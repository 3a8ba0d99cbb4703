package profile

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

const chrome141 = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

// odd changes one thing at a genuine request; the signal must fire, with that sentence.
var odd = []struct {
	signal, sentence string
	change           func(*http.Request)
}{
	{"no-user-agent", "sends no User-Agent", func(r *http.Request) { r.Header.Del("User-Agent") }},
	{"no-user-agent", "sends an empty User-Agent", agentIs(" ")},
	{"bare-user-agent", `the whole User-Agent is "Mozilla/5.0"`, agentIs("Mozilla/5.0")},
	{"template-user-agent", `the User-Agent is "undefined"`, agentIs("undefined")},
	{"template-user-agent", `the User-Agent repeats the header's name: "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/"…`,
		agentIs("User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")},
	{"template-user-agent", `the User-Agent has quotes around it: "'Mozilla/5.0 (X11)'"`, agentIs("'Mozilla/5.0 (X11)'")},
	{"template-user-agent", `the User-Agent holds what a program left in it or an injection: "${jndi:ldap://x/a}"`, agentIs("${jndi:ldap://x/a}")},
	{"template-user-agent", `the User-Agent holds what a program left in it or an injection: "() { :;}; /bin/true"`, agentIs("() { :;}; /bin/true")},
	{"template-user-agent", `the User-Agent holds a control character: "a\x1b[31mb"`, agentIs("a\x1b[31mb")},
	{"truncated-user-agent", `the User-Agent ends within its first comment: "Mozilla/5.0 (Windows NT 10.0"`, agentIs("Mozilla/5.0 (Windows NT 10.0")},
	{"truncated-user-agent", `the User-Agent ends before naming a browser: "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"`, agentIs("Mozilla/5.0 (Windows NT 10.0; Win64; x64)")},
	{"impossible-user-agent", `claims Windows NT 11: browsers call every Windows since 10 "Windows NT 10.0"`, agentIs(strings.Replace(chrome141, "X11; Linux x86_64", "Windows NT 11.0; Win64; x64", 1))},
	{"impossible-user-agent", "claims Firefox 121 with rv:109", agentIs("Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/121.0")},
	{"impossible-user-agent", "claims Chrome 39, build 6361: there were builds near 2159", agentIs("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/39.0.6361.12 Safari/537.36")},
	{"impossible-user-agent", "claims Chrome's own engine on iOS, where Chrome calls itself CriOS", agentIs("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36")},
	{"future-browser", "claims engine version 999; in November 2026 no more than 183 is likely", agentIs(strings.Replace(chrome141, "141", "999", 1))},
	{"ancient-browser", "claims Chrome 44, which was more than 8 years old", agentIs(strings.Replace(chrome141, "141.0.0.0", "44.0.2403.89", 1))},
	{"headless-browser", `names itself "HeadlessChrome", a driven browser`, agentIs(strings.Replace(chrome141, "Chrome", "HeadlessChrome", 1))},
	{"undocumented-bot", `says that it is a bot, "QuiteNewBot", that no catalogue knows`, agentIs("QuiteNewBot/1.0 (+https://quite-new.example/bot)")},
	{"tool-on-page", `reads a page with "curl"`, agentIs("curl/8.9.1")},

	{"no-sec-fetch", "claims Chrome 141 over HTTPS but sends no Sec-Fetch headers", without("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")},
	{"no-sec-fetch", "claims Chrome 141 on this computer but sends no Sec-Fetch headers", func(r *http.Request) {
		without("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")(r)
		r.TLS, r.Host = nil, "localhost:8080"
	}},
	{"partial-sec-fetch", "sends only some of Sec-Fetch-Site, Sec-Fetch-Mode and Sec-Fetch-Dest", without("Sec-Fetch-Dest")},
	{"impossible-sec-fetch", "says that it navigates to a part of a page: image", header("Sec-Fetch-Dest", "image")},
	{"impossible-sec-fetch", "Sec-Fetch-Dest: document with Sec-Fetch-Mode: cors", header("Sec-Fetch-Mode", "cors")},
	{"impossible-sec-fetch", `Sec-Fetch-Site: "same" does not exist`, header("Sec-Fetch-Site", "same")},
	{"impossible-sec-fetch", `Sec-Fetch-Mode: "document" does not exist`, header("Sec-Fetch-Mode", "document")},
	{"impossible-sec-fetch", `Sec-Fetch-User: "?0" is never sent`, header("Sec-Fetch-User", "?0")},
	{"impossible-sec-fetch", "Sec-Fetch-User with Sec-Fetch-Mode: no-cors", func(r *http.Request) {
		header("Sec-Fetch-Mode", "no-cors")(r)
		header("Sec-Fetch-Dest", "empty")(r)
	}},
	{"sec-fetch-contradicts-accept", "says that it loads a part of a page (style) and asks for text/html", header("Sec-Fetch-Dest", "style")},
	{"sec-fetch-contradicts-referer", `says that nobody referred it (Sec-Fetch-Site: none) and sends the Referer "https://www.google.com/"`, header("Referer", "https://www.google.com/")},

	{"no-client-hints", "claims Chrome 141 but sends no Sec-CH-UA", without("Sec-Ch-Ua")},
	{"foreign-client-hints", "claims Firefox 143 and sends Sec-CH-UA, which Firefox never does", agentIs("Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0")},
	{"foreign-client-hints", "claims Safari 18 and sends Sec-CH-UA, which Safari never does", agentIs("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15")},
	{"client-hints-contradict-version", "claims Chrome 141, while Sec-CH-UA says Chromium 140", header("Sec-Ch-Ua", `"Chromium";v="140"`)},
	{"client-hints-contradict-platform", `claims Linux, while Sec-CH-UA-Platform says "Windows"`, header("Sec-Ch-Ua-Platform", `"Windows"`)},
	{"client-hints-contradict-mobile", "Sec-CH-UA-Mobile says a phone, the User-Agent does not", header("Sec-Ch-Ua-Mobile", "?1")},
	{"client-hints-contradict-mobile", "the User-Agent says a phone, Sec-CH-UA-Mobile does not", agentIs(strings.Replace(chrome141, "X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0", "Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile", 1))},
	{"headless-client-hints", "Sec-CH-UA names HeadlessChrome, the User-Agent does not", header("Sec-Ch-Ua", `"HeadlessChrome";v="141", "Chromium";v="141"`)},

	{"library-headers", "claims Chrome 141 with the headers of an HTTP library: no language, no wish for HTML", func(r *http.Request) {
		header("Accept", "*/*")(r)
		without("Accept-Language")(r)
	}},
	{"no-accept", "claims Chrome 141 but sends no Accept", without("Accept")},
	{"generic-accept", "claims Chrome 141 and reads a page with Accept: */*", header("Accept", "*/*")},
	{"foreign-accept", "claims Chrome 141 and asks for a page as Chrome does not", header("Accept", "text/html,*/*;q=0.8")},
	{"foreign-accept", "claims Firefox 143 and asks for a page as Chrome does", agentIs("Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0")},
	{"no-accept-language", "claims Chrome 141 but sends no Accept-Language", without("Accept-Language")},
	{"no-accept-encoding", "claims Chrome 141 but accepts no compression", without("Accept-Encoding")},
	{"no-brotli", "claims Chrome 141 over HTTPS but does not know brotli", header("Accept-Encoding", "gzip, deflate")},
	{"no-upgrade-insecure", "claims Chrome 141 and opens a page without Upgrade-Insecure-Requests", without("Upgrade-Insecure-Requests")},

	{"http-1.0", "claims Chrome 141 over HTTP/1.0", func(r *http.Request) { r.Proto = "HTTP/1.0" }},
	{"no-keep-alive", "claims Chrome 141 over HTTP/1.1 without a Connection header", without("Connection")},
	{"malformed-referer", `the Referer is not a browser's: "google.com"`, header("Referer", "google.com")},
	{"malformed-referer", `the Referer is not a browser's: "https://example.org/#part"`, header("Referer", "https://example.org/#part")},
	{"revalidates", "asks whether the page that it has kept is still good", header("If-None-Match", `"1"`)},
}

func agentIs(ua string) func(*http.Request) { return header("User-Agent", ua) }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = []string{value} }
}

func without(names ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, name := range names {
			delete(r.Header, name)
		}
	}
}

// genuine returns a request in which nothing is odd.
func genuine(t testing.TB) *http.Request {
	return serverRequest(t, `GET /wiki/Main_Page HTTP/1.1
Host: wiki.example.org
Connection: keep-alive
Sec-Ch-Ua: "Google Chrome";v="141", "Not?A_Brand";v="8", "Chromium";v="141"
Sec-Ch-Ua-Mobile: ?0
Sec-Ch-Ua-Platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: `+chrome141+`
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7
Sec-Fetch-Site: none
Sec-Fetch-Mode: navigate
Sec-Fetch-User: ?1
Sec-Fetch-Dest: document
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9`, "https")
}

func TestEachOddityIsNamedAndExplained(t *testing.T) {
	f := newProfiler(t)
	fired := map[string]bool{}
	for _, tt := range odd {
		t.Run(tt.signal, func(t *testing.T) {
			r := genuine(t)
			var p defense.Profile
			f.FromRequest(&p, r, defense.NewClient(testClient), testTime)
			if got := Signals(nil, &p); len(got) != 0 {
				t.Fatalf("the unchanged request raises %s", names(got))
			}
			tt.change(r)
			f.FromRequest(&p, r, defense.NewClient(testClient), testTime)
			got := Signals(nil, &p)
			for _, s := range got {
				if s.Name == tt.signal {
					fired[s.Name] = true
					if s.Sentence != tt.sentence {
						t.Errorf("says %s\nwant %s", s.Sentence, tt.sentence)
					}
					return
				}
			}
			t.Errorf("not raised, only %s (%s %q)", names(got), p.Agent.Family, p.Agent.Name)
		})
	}
	for _, info := range SignalCatalogue() {
		if !fired[info.Name] {
			t.Errorf("nothing raises %s", info.Name)
		}
	}
}

// A signal must fall silent as soon as one of the parts that it needs was not observed.
func TestNothingIsConcludedFromWhatWasNotObserved(t *testing.T) {
	f := newProfiler(t)
	needs := map[string]Part{}
	for _, info := range SignalCatalogue() {
		needs[info.Name] = info.Needs
	}
	hide := map[Part]func(*defense.Profile){
		PartAgent:      func(p *defense.Profile) { p.Agent = defense.Agent{} },
		PartTime:       func(p *defense.Profile) { p.Time = time.Time{} },
		PartScheme:     func(p *defense.Profile) { p.Scheme = "" },
		PartProtocol:   func(p *defense.Profile) { p.Protocol = "" },
		PartConnection: func(p *defense.Profile) { p.Headers.Connection = defense.Text{} },
		PartReferer:    func(p *defense.Profile) { p.Headers.Referer = defense.Text{} },
		PartAccept:     func(p *defense.Profile) { p.Headers.Accept = defense.Text{} },
		PartLanguage:   func(p *defense.Profile) { p.Headers.AcceptLanguage = defense.Text{} },
		PartEncoding:   func(p *defense.Profile) { p.Headers.AcceptEncoding = defense.Text{} },
		PartFetch:      func(p *defense.Profile) { p.Headers.SecFetchDest = defense.Text{} },
		PartHints:      func(p *defense.Profile) { p.Headers.SecCHUA = defense.Text{} },
		PartInsecure:   func(p *defense.Profile) { p.Headers.UpgradeInsecure = defense.Text{} },
		PartValidators: func(p *defense.Profile) {
			p.Headers.IfNoneMatch, p.Headers.IfModifiedSince = defense.Text{}, defense.Text{}
		},
		PartCircumstance: func(p *defense.Profile) { p.Headers.Via = defense.Text{} },
	}
	for _, tt := range odd {
		for part, hidePart := range hide {
			r := genuine(t)
			tt.change(r)
			var p defense.Profile
			f.FromRequest(&p, r, defense.NewClient(testClient), testTime)
			if Observed(&p)&part == 0 {
				t.Fatalf("%s is not observed in a live request", part)
			}
			hidePart(&p)
			if Observed(&p)&part != 0 {
				t.Fatalf("%s is still observed", part)
			}
			for _, s := range Signals(nil, &p) {
				if needs[s.Name]&part != 0 {
					t.Errorf("%s is raised without %s", s.Name, part)
				}
			}
		}
	}
	if got := Signals(nil, &defense.Profile{}); len(got) != 0 {
		t.Errorf("nothing is known and %s is raised", names(got))
	}
}

func TestReplayCanSayWhatItCouldNotSee(t *testing.T) {
	f := newProfiler(t)
	var seen Part
	var p defense.Profile
	f.FromLog(&p, LogEntry{Time: testTime, Method: "GET", Target: "/", Protocol: "HTTP/1.1", UserAgent: defense.Observed("", false), Referer: defense.Observed("", false)})
	seen |= Observed(&p)
	if seen != PartAgent|PartTime|PartProtocol|PartReferer {
		t.Errorf("a combined log observes %s", seen)
	}
	blind := map[string]bool{}
	for _, info := range Unrunnable(seen) {
		blind[info.Name] = true
	}
	for name, want := range map[string]bool{"no-sec-fetch": true, "no-accept-language": true, "http-1.0": true, "no-user-agent": false, "malformed-referer": false} {
		if blind[name] != want {
			t.Errorf("%s unrunnable: %v", name, blind[name])
		}
	}
	f.FromRequest(&p, genuine(t), defense.NewClient(testClient), testTime)
	if list := Unrunnable(Observed(&p)); len(list) != 0 {
		t.Errorf("a live request leaves %v unrunnable", list)
	}
}

func TestCatalogueIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, info := range SignalCatalogue() {
		if info.Name == "" || strings.ToLower(info.Name) != info.Name || strings.ContainsAny(info.Name, " _") || seen[info.Name] {
			t.Errorf("name %q", info.Name)
		}
		seen[info.Name] = true
		if info.Weight == 0 || info.Weight < -10 || info.Weight > 50 {
			t.Errorf("%s: weight %d", info.Name, info.Weight)
		}
		if !strings.HasSuffix(info.Description, ".") || info.Needs == 0 || info.Needs.String() == "" {
			t.Errorf("%s: %q, needs %q", info.Name, info.Description, info.Needs)
		}
	}
}

func TestProxyThatSaysSoExcusesMissingHeaders(t *testing.T) {
	f := newProfiler(t)
	r := genuine(t)
	without("Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Ch-Ua", "Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Platform", "Connection", "Accept-Encoding")(r)
	r.Proto = "HTTP/1.0"
	header("Via", "1.0 proxy.example")(r)
	var p defense.Profile
	f.FromRequest(&p, r, defense.NewClient(testClient), testTime)
	if got := Signals(nil, &p); len(got) != 0 {
		t.Errorf("raises %s", names(got))
	}
}

func TestCurrentBrowserStaysCurrentForYears(t *testing.T) {
	// Four weeks a release from 153 in September 2026, and two weeks at worst.
	for year := range 10 {
		now := time.Date(2026+year, time.November, 25, 0, 0, 0, 0, time.UTC)
		major := 153 + int(now.Sub(time.Date(2026, time.September, 8, 0, 0, 0, 0, time.UTC))/(2*week))
		p := defense.Profile{Time: now, Agent: defense.Agent{Family: defense.AgentBrowser, Text: defense.Observed("", true)}}
		b := browser{engine: engineChromium, major: major, plain: true}
		if s := futureBrowser(facts{p: &p, browser: b}); s != "" {
			t.Errorf("%d: %s", now.Year(), s)
		}
		if s := ancientBrowser(facts{p: &p, browser: b}); s != "" {
			t.Errorf("%d: %s", now.Year(), s)
		}
	}
}

func TestEngineOfABrowser(t *testing.T) {
	tests := []struct {
		ua   string
		want browser
	}{
		{chrome141, browser{engineChromium, 141, 0, true}},
		{chrome141 + " OPR/125.0.0.0", browser{engineChromium, 141, 0, true}},
		{chrome141 + " YaBrowser/25.8", browser{engineChromium, 141, 0, false}},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) QtWebEngine/6.8.1 Chrome/122.0.0.0 Safari/537.36", browser{engineChromium, 122, 0, false}},
		{"Mozilla/5.0 (Linux; U; Android 9; en-US) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100.0.4896.58 UCBrowser/13.4 Mobile Safari/537.36", browser{}},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", browser{engineGecko, 128, 0, true}},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Gecko/20100101 Goanna/6.8 Firefox/60.0 PaleMoon/33", browser{}},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.4 Safari/605.1.15", browser{engineWebKit, 16, 4, true}},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 16_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/143.0 Mobile/15E148 Safari/605.1.15", browser{engineWebKit, 16, 3, false}},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15", browser{}},
		{"Lynx/2.9.2", browser{}},
	}
	for _, tt := range tests {
		a := defense.Agent{Family: defense.AgentBrowser, Text: defense.Observed(tt.ua, true)}
		if got := browserOf(&a); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.ua, got, tt.want)
		}
	}
}

func TestClientTextInSentencesIsHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[31m\r\nb":        `"a\x1b[31m\r\nb"`,
		"\u202eevil":            `"\u202eevil"`,
		"\xff":                  `"\xff"`,
		strings.Repeat("x", 80): `"` + strings.Repeat("x", 60) + `"…`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s", in, got)
		}
	}
	p := defense.Profile{Agent: defense.Agent{Name: "Evil\x1b[0m", Major: 3}}
	if got := claim(&p); got != `"Evil\x1b[0m" 3` {
		t.Errorf("claim %s", got)
	}
}
