package profile

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
)

var (
	testTime   = time.Date(2026, time.November, 25, 10, 0, 0, 0, time.UTC)
	testClient = netip.MustParseAddr("203.0.113.7")
)

var realProfiler = sync.OnceValues(func() (*Profiler, error) {
	c, err := crawler.Default()
	if err != nil {
		return nil, err
	}
	return New(agent.New(c)), nil
})

// newProfiler returns a Profiler with the real catalogue and agent parser.
func newProfiler(t testing.TB) *Profiler {
	t.Helper()
	f, err := realProfiler()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sample is one block of testdata/requests.txt.
type sample struct {
	title   string
	scheme  string
	kind    string
	signals string
	relayed bool
	request *http.Request
}

func samples(t testing.TB) []sample {
	t.Helper()
	text, err := os.ReadFile("testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, blocks, _ := strings.Cut(string(text), "\n== ")
	var list []sample
	for block := range strings.SplitSeq(blocks, "\n== ") {
		var s sample
		s.title, block, _ = strings.Cut(block, "\n")
	settings:
		for {
			line, rest, _ := strings.Cut(block, "\n")
			key, value, _ := strings.Cut(line, " ")
			switch key {
			case "scheme":
				s.scheme = value
			case "kind":
				s.kind = value
			case "signals":
				s.signals = value
			case "relayed":
				s.relayed = true
			default:
				break settings
			}
			block = rest
		}
		s.request = serverRequest(t, strings.TrimSpace(block), s.scheme)
		if s.relayed {
			s.request.RemoteAddr = "10.0.0.2:40000"
		}
		list = append(list, s)
	}
	if len(list) < 60 {
		t.Fatalf("read only %d requests", len(list))
	}
	return list
}

// serverRequest parses a request as net/http's server would.
func serverRequest(t testing.TB, text, scheme string) *http.Request {
	t.Helper()
	// ReadRequest takes HTTP/2.0 in the first line, as the h2 server reports it.
	text = strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	r.RemoteAddr = "203.0.113.7:50123"
	if scheme == "https" {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
	}
	return r
}

func names(signals []defense.Signal) string {
	if len(signals) == 0 {
		return "none"
	}
	var b bytes.Buffer
	for i, s := range signals {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.Name)
	}
	return b.String()
}

func sum(signals []defense.Signal) int {
	n := 0
	for _, s := range signals {
		n += s.Weight
	}
	return n
}

func TestRealProgramsAndPretendersAreToldApart(t *testing.T) {
	f := newProfiler(t)
	for _, s := range samples(t) {
		t.Run(s.title, func(t *testing.T) {
			var p defense.Profile
			f.FromRequest(&p, s.request, defense.NewClient(testClient), testTime)
			got := Signals(nil, &p)
			if p.Kind.String() != s.kind {
				t.Errorf("kind %s, want %s", p.Kind, s.kind)
			}
			if names(got) != s.signals {
				t.Errorf("agent %s %s %d\ngot  %s\nwant %s", p.Agent.Family, p.Agent.Name, p.Agent.Major, names(got), s.signals)
			}
			for _, signal := range got {
				if signal.Sentence == "" || signal.Weight == 0 {
					t.Errorf("%+v says nothing", signal)
				}
			}
		})
	}
}

func TestGenuineBrowsersStayBelow20AndPretendersReach50(t *testing.T) {
	f := newProfiler(t)
	pretends := 0
	for _, s := range samples(t) {
		var p defense.Profile
		f.FromRequest(&p, s.request, defense.NewClient(testClient), testTime)
		score := sum(Signals(nil, &p))
		switch {
		case strings.Contains(s.title, "pretends") || strings.Contains(s.title, "copied") || strings.Contains(s.title, "driven") ||
			strings.Contains(s.title, "asks for JSON") || strings.Contains(s.title, "calls the page") || strings.Contains(s.title, "under Firefox's name"):
			pretends++
			if score < 47 {
				t.Errorf("%s: only %d", s.title, score)
			}
		case p.Agent.Family == defense.AgentBrowser && s.title != "A generated User-Agent":
			if score >= 20 {
				t.Errorf("%s: %d for a reader", s.title, score)
			}
		}
	}
	if pretends < 8 {
		t.Errorf("only %d pretenders were tried", pretends)
	}
}

// Losing any one header on the way, other than those that are missed by name,
// must not make a scraper of a reader.
func TestBrowserThatLosesOneHeaderIsStillAReader(t *testing.T) {
	f := newProfiler(t)
	for _, s := range samples(t) {
		if !strings.Contains(s.title, "opens a page") && !strings.HasPrefix(s.title, "Safari on") && !strings.HasPrefix(s.title, "Brave") {
			continue
		}
		for name := range s.request.Header {
			if name == "User-Agent" {
				continue
			}
			r := s.request.Clone(t.Context())
			r.RequestURI = s.request.RequestURI
			delete(r.Header, name)
			var p defense.Profile
			f.FromRequest(&p, r, defense.NewClient(testClient), testTime)
			if got := Signals(nil, &p); sum(got) >= 20 {
				t.Errorf("%s without %s: %d: %s", s.title, name, sum(got), names(got))
			}
		}
	}
}

// spoofed are the agents in the lists of real ones that no browser sends of itself.
var spoofed = []string{
	// Chrome on macOS has had AppleWebKit/537.36 since version 28.
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/605.1.15",
	// Chrome always names AppleWebKit.
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0.0.0",
	// Written by hand, with a minor version that Chrome does not have.
	"Mozilla/5.0 (AmigaOs; 4.0; en-US; rv:1.8.1.21pre)  AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.666.4147.105 Safari/537.36",
	// Cut off in the middle.
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36",
	// A probe for code injection.
	`Mozilliqa"<?=print(9347655345-4954366);?>"`,
}

// generated matches what one fleet adds to the real traffic of 2026: a phone of an
// emulator's list and a Chrome of 39 to 60 with a build at random.
var generated = regexp.MustCompile(`\((Linux; Android [568]\.0; (Nexus 5|Pixel 2|SM-G900P) Build/|iPhone; CPU iPhone OS 11_0 |iPad; CPU OS 11_0 ).* Chrome/(39|4\d|5\d|60)\.0\.\d{4}\.\d`)

func TestLogOfARealBrowserRaisesNothing(t *testing.T) {
	f := newProfiler(t)
	caught := 0
	for _, file := range []string{"testdata/agents-current.txt", "testdata/agents-all-ages.txt"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ua := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n") {
			n++
			var p defense.Profile
			f.FromLog(&p, LogEntry{
				Time: testTime, Client: testClient, Method: "GET", Target: "/", Protocol: "HTTP/1.1",
				UserAgent: defense.Observed(ua, true), Referer: defense.Observed("", false),
			})
			got := Signals(nil, &p)
			if generated.MatchString(ua) {
				if strings.HasPrefix(names(got), "impossible-user-agent") {
					caught++
				}
				continue
			}
			if score := sum(got); score >= 20 && !slices.Contains(spoofed, ua) {
				t.Errorf("%s: %d for %s: %s", file, score, ua, got[0].Sentence)
			}
		}
		if n < 500 {
			t.Errorf("%s: only %d agents", file, n)
		}
	}
	if caught < 560 {
		t.Errorf("only %d of 614 generated agents were noticed", caught)
	}
}
