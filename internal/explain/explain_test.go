package explain

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var profiler = sync.OnceValue(func() *profile.Profiler {
	c, err := crawler.Default()
	if err != nil {
		panic(err)
	}
	return profile.New(agent.New(c))
})

// newAPI explains under readers-first in mode certain, with one client banned.
func newAPI(t testing.TB) *API {
	t.Helper()
	set := decision.NewSet(nil)
	for _, d := range []defense.Decision{
		{ID: "01JBAN", Value: "203.0.113.66", Action: defense.Deny, Origin: "operator", Reason: "took the search down"},
		{ID: "01JLST", Value: "203.0.113.0/24", Action: defense.Challenge, Origin: "list:hosters"},
	} {
		d.Created = noon
		if err := set.Put(d); err != nil {
			t.Fatal(err)
		}
	}
	pol, err := policy.Load("readers-first", policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &API{Profiler: profiler(), Now: func() time.Time { return noon }, Engine: engine.New(engine.Options{
		Decisions: set, Policy: func() *policy.Policy { return pol },
		Posture: func() defense.Posture { return defense.Calm }, Mode: func() defense.Mode { return defense.ModeCertain },
	})}
}

func (a *API) ask(t testing.TB, q *Question) *Report {
	t.Helper()
	r, err := Ask(q, a.Profiler, a.Engine, a.Check, a.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var firefox = []string{
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
	"Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate, br, zstd", "Upgrade-Insecure-Requests: 1",
	"Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Sec-Fetch-User: ?1", "Priority: u=0, i", "Te: trailers",
}

const gptbot = "User-Agent: Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.3; +https://openai.com/gptbot)"

func TestQuestions(t *testing.T) {
	for _, tt := range []struct {
		q    Question
		want string // method, scheme, host, target, client
	}{
		{Question{URL: "https://wiki.example.org/a//b/%2F?q=%zz&x"}, "GET https wiki.example.org /a//b/%2F?q=%zz&x 192.0.2.1"},
		{Question{URL: "http://wiki.example.org:8080"}, "GET http wiki.example.org:8080 / 192.0.2.1"},
		{Question{URL: "http://wiki.example.org?q=1"}, "GET http wiki.example.org /?q=1 192.0.2.1"},
		{Question{URL: "https://wiki.example.org/a#part"}, "GET https wiki.example.org /a 192.0.2.1"},
		{Question{URL: "/feed.xml"}, "GET http  /feed.xml 192.0.2.1"},
		{Question{URL: "feed.xml"}, "GET http  /feed.xml 192.0.2.1"},
		{Question{URL: ""}, "GET http  / 192.0.2.1"},
		{Question{URL: "https://[2001:db8::1]:8443/x", Client: "2001:db8::2"}, "GET https [2001:db8::1]:8443 /x 2001:db8::2"},
		{Question{URL: "/x", Headers: []string{"host: forge.example.org"}, Method: "PROPFIND"}, "PROPFIND http forge.example.org /x 192.0.2.1"},
		{Question{URL: "/go?to=http://evil.example/x"}, "GET http  /go?to=http://evil.example/x 192.0.2.1"},
	} {
		r, addr, err := tt.q.Request()
		if err != nil {
			t.Errorf("%+v: %v", tt.q, err)
			continue
		}
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		if got := fmt.Sprint(r.Method, " ", scheme, " ", r.Host, " ", r.RequestURI, " ", addr); got != tt.want {
			t.Errorf("%+v:\n got %s\nwant %s", tt.q, got, tt.want)
		}
	}
}

func TestHeadersOfAQuestion(t *testing.T) {
	q := Question{URL: "/", Headers: []string{"accept:  text/html ", "X-Empty:", "Cookie: a=b; c=d", "Cookie: e:f"}}
	r, _, err := q.Request()
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"Accept": {"text/html"}, "X-Empty": {""}, "Cookie": {"a=b; c=d", "e:f"}}
	if !cmp.Equal(r.Header, want) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, r.Header))
	}
}

func TestWrongQuestionsAreRefusedByWhatIsWrong(t *testing.T) {
	header := func(h ...string) Question { return Question{URL: "/", Headers: h} }
	for _, tt := range []struct {
		q    Question
		says string
	}{
		{Question{URL: "ftp://example.org/"}, `scheme "ftp"`},
		{Question{URL: "javascript:alert(1)"}, `scheme "javascript"`},
		{Question{URL: "http://exa mple.org/"}, "url:"},
		{Question{URL: "http://example.org/\x1b[2J"}, "url:"},
		{Question{URL: "http://example.org/%zz"}, "url:"},
		{Question{URL: "/" + strings.Repeat("a", 17<<10)}, "at most"},
		{Question{URL: "/", Client: "localhost"}, "client:"},
		{Question{URL: "/", Client: "192.0.2.1:80"}, "client:"},
		{Question{URL: "/", Method: "GET /"}, "method:"},
		{Question{URL: "/", Method: strings.Repeat("A", 100)}, "method:"},
		{header("no colon"), "header 1"},
		{header("A: b", "bad name: x"), "header 2"},
		{header("A: b\r\nX: y"), "header 1"},
		{header("A: \x00"), "header 1"},
		{header(": x"), "header 1"},
		{header("A: " + strings.Repeat("x", 70<<10)), "header 1"},
		{header(make([]string, 201)...), "at most 200"},
		{header("Host: a b"), "header 1"},
	} {
		_, _, err := tt.q.Request()
		switch {
		case err == nil:
			t.Errorf("%.60q was accepted", fmt.Sprint(tt.q))
		case !strings.Contains(err.Error(), tt.says):
			t.Errorf("%.60q: %v, want it to say %q", fmt.Sprint(tt.q), err, tt.says)
		case strings.ContainsAny(err.Error(), "\x1b\r\n\x00") || len(err.Error()) > 1000:
			t.Errorf("%.60q: the error is not fit for a terminal: %.200q", fmt.Sprint(tt.q), err)
		}
	}
}

func TestReports(t *testing.T) {
	a := newAPI(t)
	for _, tt := range []struct {
		name string
		q    Question
		all  bool
	}{
		{"firefox", Question{URL: "https://wiki.example.org/wiki/Main_Page", Headers: firefox, Client: "198.51.100.7"}, false},
		{"gptbot", Question{URL: "https://wiki.example.org/wiki/Main_Page", Headers: []string{gptbot, "Accept: */*"}}, true},
		{"gptbot-robots", Question{URL: "https://wiki.example.org/robots.txt", Headers: []string{gptbot, "Accept: */*"}}, false},
		{"banned", Question{URL: "https://wiki.example.org/", Headers: firefox, Client: "203.0.113.66"}, false},
		{"listed", Question{URL: "https://wiki.example.org/", Headers: firefox, Client: "203.0.113.7"}, false},
		{"feed", Question{URL: "https://wiki.example.org/feed.xml", Headers: []string{"User-Agent: Mozilla/5.0 (compatible; Miniflux/2.2.6; +https://miniflux.app)", "Accept: application/rss+xml"}}, false},
		{"forged", Question{URL: "https://wiki.example.org/.env", Headers: []string{"User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := a.ask(t, &tt.q).WriteText(&got, tt.all); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", tt.name+".txt")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("(-want +got):\n%s", cmp.Diff(string(want), got.String()))
			}
		})
	}
}

// A request that an attacker made up is explained on the operator's terminal.
func TestNothingOfTheRequestReachesTheTerminalRaw(t *testing.T) {
	a := newAPI(t)
	q := Question{
		URL:    "https://wiki.example.org/%1b]0;owned%07/%e2%80%ae/%c2%9b2J/%0a%0dverdict%20%20%20allow",
		Client: "203.0.113.66", Site: "x\x1b[31m",
		// Bytes from 0x80 may be sent in a header's value.
		Headers: []string{"User-Agent: evil\xc2\x9b2J\xff \u202e GPTBot", "Host: wiki.example.org", "Accept: \u2066text/html"},
	}
	var out bytes.Buffer
	if err := a.ask(t, &q).WriteText(&out, true); err != nil {
		t.Fatal(err)
	}
	for _, c := range out.String() {
		if c < 0x20 && c != '\n' || c >= 0x7f && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0xfffd {
			t.Fatalf("%U in the report:\n%q", c, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "verdict   allow") {
			t.Errorf("a forged line: %q", line)
		}
	}
	if !strings.Contains(out.String(), `\x1b`) {
		t.Errorf("the path is not shown:\n%s", &out)
	}
}

func TestAPI(t *testing.T) {
	mux := http.NewServeMux()
	newAPI(t).Register(mux)
	post := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/v1/explain", strings.NewReader(body)))
		return w
	}
	body, err := json.Marshal(Question{URL: "https://wiki.example.org/", Headers: []string{gptbot}})
	if err != nil {
		t.Fatal(err)
	}
	w := post(string(body))
	var rep Report
	if err := json.Unmarshal(w.Body.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	if w.Code != 200 || rep.Verdict.Action != defense.Deny || rep.Verdict.Rule != "ai-training" || rep.Profile.Crawler != "GPTBot" || rep.Request != "GET wiki.example.org/" || len(rep.Rules) == 0 {
		t.Errorf("%d %+v", w.Code, rep)
	}
	for name, body := range map[string]string{
		"no JSON": "hello", "an unknown field": `{"url":"/","cookie":"x"}`, "a wrong header": `{"url":"/","headers":["x"]}`, "no body": "",
		"too large": `{"url":"` + strings.Repeat("a", 2<<20) + `"}`,
	} {
		if w := post(body); w.Code != 400 || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, w.Code, w.Header().Get("Content-Type"))
		}
	}
}

func FuzzQuestion(f *testing.F) {
	f.Add("https://wiki.example.org/a?b#c", "GET", "User-Agent: x", "192.0.2.1")
	f.Add("//evil", "", "Host: a", "2001:db8::1")
	f.Add("/\x1b[2J", "PROPFIND", ":", "fe80::1%eth0")
	f.Add("http://", "get", "A:\xff", "::ffff:192.0.2.1")
	a := newAPI(f)
	f.Fuzz(func(t *testing.T, url, method, header, client string) {
		q := Question{URL: url, Method: method, Headers: []string{header}, Client: client}
		rep, err := Ask(&q, a.Profiler, a.Engine, nil, noon)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := rep.WriteText(&out, true); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.String() {
			if c < 0x20 && c != '\n' || c >= 0x7f && c < 0xa0 {
				t.Fatalf("%U in the report %q", c, out.String())
			}
		}
	})
}
