package record

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// full returns an event of usual size.
func full() defense.Event {
	return defense.Event{
		Schema: 1, Kind: "request", ID: "01M8997DSPW8Y1V4S6R2T0PZ5M", RequestID: "01M8997DSNV7X0T3R5Q1S9NY4K", Site: "wiki", Edge: "edge-1",
		Client: defense.EventClient{Address: "192.0.2.77", Prefix: "192.0.2.0/24"},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example.org", Path: "/index.php", Query: "title=Hedge&oldid=1042&action=edit", Protocol: "HTTP/2.0",
			Agent:    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
			Referrer: "https://wiki.example.org/Hedge",
			Headers: defense.EventHeaders{Shape: "9f2c41d07b3ea865", Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
				AcceptLanguage: "en-NZ,en;q=0.9", SecFetchSite: "none", SecFetchMode: "navigate", SecFetchDest: "document"},
		},
		Verdict: defense.EventVerdict{Action: defense.Observe, Intended: defense.Challenge, Rule: "threshold:50", Reason: "the score 55 reaches the threshold 50"},
		Signals: []defense.Signal{{Name: "accept-mismatch", Weight: 30, Sentence: "claims Chrome 141 but accepts anything"}},
	}
}

func TestAnUsualEventIsKeptAsItIs(t *testing.T) {
	e, want := full(), full()
	Bound(&e)
	if e.Request != want.Request || e.Client != want.Client || e.Verdict.Reason != want.Verdict.Reason || e.Signals[0] != want.Signals[0] || e.ID != want.ID || e.RequestID != want.RequestID {
		t.Errorf("got %+v", e)
	}
}

func TestStringsAreCutAtARune(t *testing.T) {
	e := full()
	e.Request.Agent = strings.Repeat("x", maxAgent-1) + "é"
	e.Request.Path = strings.Repeat("y", maxPath) + "z"
	Bound(&e)
	if want := strings.Repeat("x", maxAgent-1); e.Request.Agent != want {
		t.Errorf("agent ends in %q", e.Request.Agent[len(e.Request.Agent)-4:])
	}
	if len(e.Request.Path) != maxPath {
		t.Errorf("path of %d bytes", len(e.Request.Path))
	}
}

func TestListsAreShortened(t *testing.T) {
	e := full()
	e.Signals = make([]defense.Signal, 1000)
	e.Verdict.Shadow = make([]defense.ShadowHit, 1000)
	Bound(&e)
	if len(e.Signals) != maxSignals || len(e.Verdict.Shadow) != maxShadow {
		t.Errorf("%d signals, %d shadow hits", len(e.Signals), len(e.Verdict.Shadow))
	}
}

func FuzzBound(f *testing.F) {
	f.Add("Mozilla/5.0", "/index.php", "a=b")
	f.Add("\xff\xfe\x00", strings.Repeat("é", 3000), "\xf0\x9f")
	f.Add(strings.Repeat("\xff", 600), strings.Repeat("\x00", 3000), strings.Repeat("\x80", 5000))
	f.Fuzz(func(t *testing.T, agent, path, query string) {
		e := full()
		e.Request.Agent, e.Request.Path, e.Request.Query = agent, path, query
		e.Signals[0].Sentence = query
		n := Bound(&e)
		for _, s := range []struct {
			text string
			max  int
		}{{e.Request.Agent, maxAgent}, {e.Request.Path, maxPath}, {e.Request.Query, maxQuery}, {e.Signals[0].Sentence, maxSentence}} {
			if !utf8.ValidString(s.text) || strings.Contains(s.text, "\x00") || len(s.text) > s.max {
				t.Errorf("kept %q", s.text)
			}
		}
		once := e
		once.Signals = append([]defense.Signal(nil), e.Signals...)
		if again := Bound(&e); again != n || e.Request != once.Request {
			t.Errorf("a second time it is %d bytes and %+v, not %d and %+v", again, e.Request, n, once.Request)
		}
	})
}

func BenchmarkBound(b *testing.B) {
	e := full()
	b.ReportAllocs()
	for b.Loop() {
		Bound(&e)
	}
}
