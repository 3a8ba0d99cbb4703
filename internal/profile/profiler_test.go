package profile

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestProfileOfALiveRequest(t *testing.T) {
	f := newProfiler(t)
	got := make(chan defense.Profile, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p defense.Profile
		f.FromRequest(&p, r, defense.NewClient(netip.MustParseAddrPort(r.RemoteAddr).Addr()), testTime)
		got <- p
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	r, err := http.NewRequest("GET", server.URL+"/a//b/%2e%2e/c?d=%20#frag", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "WWW.Example.ORG:8443"
	r.Header.Set("User-Agent", "curl/8.9.1")
	r.Header.Set("Cookie", "secret=1")
	r.Header.Set("Authorization", "Bearer secret")
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()

	p := <-got
	want := defense.Profile{
		Time: testTime, Method: "GET", Scheme: "https", Host: "www.example.org", Target: "/a//b/%2e%2e/c?d=%20", Path: "/a/c", Query: "d=%20",
		Protocol: "HTTP/2.0", Kind: defense.KindNavigation, Client: defense.NewClient(netip.MustParseAddr("127.0.0.1")), TLS: defense.TLS{Version: "1.3"},
		Identity: defense.Identity{Crawler: "curl", Status: defense.IdentityUnverified},
	}
	if d := cmp.Diff(want, p, cmpopts.IgnoreFields(defense.Profile{}, "Agent", "Headers"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if p.Agent.Family != defense.AgentTool || p.Agent.Text.Value != "curl/8.9.1" {
		t.Errorf("agent %+v", p.Agent)
	}
	if p.Headers.Cookie != defense.Present || p.Headers.Authorization != defense.Present || !p.Headers.SecFetchMode.IsAbsent() {
		t.Errorf("headers %+v", p.Headers)
	}
}

func TestReusedProfileKeepsNothing(t *testing.T) {
	f := newProfiler(t)
	p := defense.Profile{
		Site: "other", RequestID: "x", Class: "x", Clearance: defense.Clearance{Valid: true},
		Identity: defense.Identity{Status: defense.IdentityVerified}, TLS: defense.TLS{Version: "1.2"},
		Headers: defense.Headers{Accept: defense.Observed("text/html", true)},
	}
	f.FromRequest(&p, &http.Request{Method: "GET", RequestURI: "/", Header: http.Header{}}, defense.Client{}, testTime)
	if p.Site != "" || p.RequestID != "" || p.Class != "" || p.Clearance.Valid || p.Identity.Status != 0 || p.TLS.Version != "" || !p.Headers.Accept.IsAbsent() {
		t.Errorf("left from the request before: %+v", p)
	}
}

func TestHostIsBare(t *testing.T) {
	for in, want := range map[string]string{
		"Example.org": "example.org", "example.org:80": "example.org", "example.org.": "example.org", "example.org.:80": "example.org",
		"[2001:DB8::1]:80": "2001:db8::1", "[::1]": "::1", "2001:db8::1": "2001:db8::1", "": "", ":80": "", "[": "[", "a:b:c": "a:b:c",
	} {
		if got := hostOf(in); got != want {
			t.Errorf("hostOf(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestHeaderValuesAreBounded(t *testing.T) {
	f := newProfiler(t)
	long := strings.Repeat("x", 1<<20)
	r := &http.Request{Method: "GET", RequestURI: "/", Header: http.Header{"Accept": {long}, "Referer": {long}, "User-Agent": {long}}}
	var p defense.Profile
	f.FromRequest(&p, r, defense.Client{}, testTime)
	if n := len(p.Headers.Accept.Value); n != maxValue {
		t.Errorf("Accept: %d bytes", n)
	}
	if n := len(p.Agent.Text.Value); n > maxValue {
		t.Errorf("User-Agent: %d bytes", n)
	}
}

func TestHopOfAnotherIsNotTheClients(t *testing.T) {
	f := newProfiler(t)
	request := func(remote string, h http.Header) defense.Presence {
		h["Connection"] = []string{"close"}
		var p defense.Profile
		f.FromRequest(&p, &http.Request{Method: "GET", RequestURI: "/", RemoteAddr: remote, Header: h}, defense.NewClient(testClient), testTime)
		return p.Headers.Connection.Presence
	}
	if got := request("203.0.113.7:1", http.Header{}); got != defense.Present {
		t.Error("direct connection not observed")
	}
	if got := request("[::ffff:203.0.113.7]:1", http.Header{}); got != defense.Present {
		t.Error("direct connection over a dual-stack socket not observed")
	}
	for name, got := range map[string]defense.Presence{
		"other peer":   request("10.0.0.1:1", http.Header{}),
		"Unix socket":  request("@", http.Header{}),
		"for header":   request("203.0.113.7:1", http.Header{"X-Forwarded-For": {"1"}}),
		"via a proxy":  request("203.0.113.7:1", http.Header{"Via": {"1.1 x"}}),
		"by Forwarded": request("203.0.113.7:1", http.Header{"Forwarded": {"for=1"}}),
	} {
		if got != defense.Unobserved {
			t.Errorf("%s: the relay's Connection was taken for the client's", name)
		}
	}
}

func TestShapeNamesTheProgramNotTheRequest(t *testing.T) {
	base := http.Header{"Accept": {"text/html"}, "Accept-Encoding": {"gzip"}, "Accept-Language": {"de"}}
	shape := func(change func(http.Header)) uint64 {
		h := base.Clone()
		change(h)
		var d defense.Headers
		fillHeaders(&d, h, true)
		return shapeOf(&d)
	}
	same := shape(func(http.Header) {})
	for name, change := range map[string]func(http.Header){
		"cookie":    func(h http.Header) { h.Set("Cookie", "a=b") },
		"referer":   func(h http.Header) { h.Set("Referer", "https://example.org/") },
		"validator": func(h http.Header) { h.Set("If-None-Match", `"x"`) },
		"language":  func(h http.Header) { h.Set("Accept-Language", "fr") },
	} {
		if shape(change) != same {
			t.Errorf("%s changes the shape", name)
		}
	}
	for name, change := range map[string]func(http.Header){
		"accept":      func(h http.Header) { h.Set("Accept", "*/*") },
		"encoding":    func(h http.Header) { h.Set("Accept-Encoding", "gzip, br") },
		"no language": func(h http.Header) { h.Del("Accept-Language") },
		"fetch":       func(h http.Header) { h.Set("Sec-Fetch-Mode", "navigate") },
		"moved byte":  func(h http.Header) { h.Set("Accept", "text/htm"); h.Set("Accept-Encoding", "lgzip") },
	} {
		if shape(change) == same {
			t.Errorf("%s does not change the shape", name)
		}
	}
	// Stored events and policies hold shapes: they must not change between versions.
	const recorded = 0xbda789628453374b
	if same != recorded {
		t.Errorf("shape %#x, recorded as %#x", same, uint64(recorded))
	}
}

func TestLogTellsOnlyWhatItHolds(t *testing.T) {
	f := newProfiler(t)
	const ua = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

	var p defense.Profile
	f.FromLog(&p, LogEntry{Time: testTime, Client: netip.MustParseAddr("::ffff:192.0.2.1"), Method: "GET", Target: "/a?b", Protocol: "HTTP/2.0",
		UserAgent: defense.Observed(ua, true), Referer: defense.Observed("", false)})
	if p.Client.Counted.String() != "192.0.2.1/32" || p.Path != "/a" || p.Query != "b" || p.Kind != defense.KindNavigation {
		t.Errorf("%+v", p)
	}
	if !p.Headers.Referer.IsAbsent() || p.Headers.Accept.Presence != defense.Unobserved || p.Headers.Cookie != defense.Unobserved || p.Headers.Shape != 0 {
		t.Errorf("combined log: %+v", p.Headers)
	}
	if got := Signals(nil, &p); len(got) != 0 {
		t.Errorf("combined log: %s", names(got))
	}

	// Caddy logs all headers: what is not among them was not sent.
	e := LogEntry{Time: testTime, Method: "GET", Target: "/a", Protocol: "HTTP/2.0", Scheme: "https", Complete: true,
		Header: http.Header{"User-Agent": {ua}, "Accept": {"*/*"}, "Connection": {"close"}}}
	f.FromLog(&p, e)
	if !p.Headers.AcceptLanguage.IsAbsent() || p.Agent.Name != "Chrome" || p.Headers.Shape == 0 || p.Headers.Connection.Presence != defense.Unobserved {
		t.Errorf("complete headers: %+v", p.Headers)
	}
	if got := names(Signals(nil, &p)); got != "no-sec-fetch no-client-hints library-headers generic-accept no-accept-language" {
		t.Errorf("complete headers: %s", got)
	}

	// Traefik logs those that it was told to.
	e.Complete = false
	f.FromLog(&p, e)
	if p.Headers.AcceptLanguage.Presence != defense.Unobserved || !p.Headers.Accept.IsPresent() {
		t.Errorf("some headers: %+v", p.Headers)
	}
	if got := Signals(nil, &p); len(got) != 0 {
		t.Errorf("some headers: %s", names(got))
	}
}

func FuzzFromRequest(f *testing.F) {
	profiler := newProfiler(f)
	for _, s := range samples(f) {
		h := s.request.Header
		f.Add(s.request.Method, s.request.RequestURI, s.request.Host, h.Get("User-Agent"), h.Get("Accept"), h.Get("Sec-Ch-Ua"), h.Get("Sec-Fetch-Mode"), h.Get("Sec-Fetch-Dest"), h.Get("Referer"))
	}
	f.Add("GET", "/", "h", "${jndi:ldap://x}\x1b[31m", "\x00", `"Chromium";v="99999999999"`, "navigate", "\u202e", "x\n")
	f.Fuzz(func(t *testing.T, method, target, host, ua, accept, hints, mode, dest, referer string) {
		r := &http.Request{Method: method, RequestURI: target, Host: host, Proto: "HTTP/1.1", RemoteAddr: "203.0.113.7:1", TLS: &tls.ConnectionState{},
			Header: http.Header{"User-Agent": {ua}, "Accept": {accept}, "Sec-Ch-Ua": {hints}, "Sec-Ch-Ua-Platform": {hints}, "Sec-Fetch-Mode": {mode},
				"Sec-Fetch-Dest": {dest}, "Sec-Fetch-Site": {mode}, "Referer": {referer}, "Accept-Encoding": {accept}}}
		var p defense.Profile
		profiler.FromRequest(&p, r, defense.NewClient(testClient), testTime)
		if target != "" && p.Target != target {
			t.Fatalf("target %q became %q", target, p.Target)
		}
		for _, s := range Signals(nil, &p) {
			if len(s.Sentence) > 600 || !utf8.ValidString(s.Sentence) || strings.ContainsFunc(s.Sentence, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
				t.Fatalf("%s: sentence %q", s.Name, s.Sentence)
			}
		}
		profiler.FromLog(&p, LogEntry{Method: method, Target: target, Host: host, UserAgent: defense.Observed(ua, true), Referer: defense.Observed(referer, true)})
		Signals(nil, &p)
	})
}

func BenchmarkFromRequest(b *testing.B) {
	f := newProfiler(b)
	r := samples(b)[0].request
	client := defense.NewClient(testClient)
	var p defense.Profile
	b.ReportAllocs()
	for b.Loop() {
		f.FromRequest(&p, r, client, testTime)
	}
}

func BenchmarkSignals(b *testing.B) {
	f := newProfiler(b)
	for _, s := range samples(b) {
		switch s.title {
		case "Chrome on Windows opens a page, https", "Safari on iOS", "python-requests pretends to be Chrome, https", "GPTBot":
		default:
			continue
		}
		b.Run(strings.ReplaceAll(s.title, " ", "-"), func(b *testing.B) {
			var p defense.Profile
			f.FromRequest(&p, s.request, defense.NewClient(testClient), testTime)
			dst := make([]defense.Signal, 0, 16)
			b.ReportAllocs()
			for b.Loop() {
				dst = Signals(dst[:0], &p)
			}
		})
	}
}

func BenchmarkFromRequestAndSignals(b *testing.B) {
	f := newProfiler(b)
	r := samples(b)[0].request
	client := defense.NewClient(testClient)
	dst := make([]defense.Signal, 0, 16)
	var p defense.Profile
	b.ReportAllocs()
	for b.Loop() {
		f.FromRequest(&p, r, client, testTime)
		dst = Signals(dst[:0], &p)
	}
}

func BenchmarkFromLog(b *testing.B) {
	f := newProfiler(b)
	e := LogEntry{Time: testTime, Client: testClient, Method: "GET", Target: "/wiki/Main_Page", Protocol: "HTTP/1.1",
		UserAgent: defense.Observed(samples(b)[0].request.UserAgent(), true), Referer: defense.Observed("", false)}
	var p defense.Profile
	dst := make([]defense.Signal, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		f.FromLog(&p, e)
		dst = Signals(dst[:0], &p)
	}
}
