package training

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/profile"
)

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	gptbot  = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// catalogue is the built-in one. To compile it takes a while.
var catalogue = sync.OnceValue(func() *crawler.Catalogue {
	c, err := crawler.Default()
	if err != nil {
		panic(err)
	}
	return c
})

// request is a line of the combined format.
func request(second int, client, target, referrer, agent string) string {
	at := noon.Add(time.Duration(second) * time.Second)
	return fmt.Sprintf("%s - - [%s] \"GET %s HTTP/1.1\" 200 1000 \"%s\" \"%s\"\n", client, at.Format("02/Jan/2006:15:04:05 -0700"), target, referrer, agent)
}

func logSource(t *testing.T, lines ...string) *Log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Log{
		Origin: "test", Path: path, Hosts: []string{"example.org", "www.example.org"}, Profiler: profile.New(agent.New(catalogue())), Crawlers: catalogue(),
	}
}

func TestClientsOfALogAreLabelledByWhatTheySay(t *testing.T) {
	visit := func(client, agent string, robots, asset bool, referrer string) []string {
		var lines []string
		if robots {
			lines = append(lines, request(0, client, "/robots.txt", "-", agent))
		}
		lines = append(lines, request(1, client, "/", "-", agent), request(30, client, "/a", referrer, agent), request(60, client, "/b", referrer, agent))
		if asset {
			lines = append(lines, request(2, client, "/style.css", "-", agent))
		}
		return lines
	}
	const link = "http://www.example.org/"
	for _, test := range []struct {
		name  string
		lines []string
		want  defense.CaseLabel // none: nothing is known
	}{
		{"a browser with assets that followed a link", visit("192.0.2.1", firefox, false, true, link), defense.LabelHuman},
		{"a browser without assets", visit("192.0.2.1", firefox, false, false, link), defense.LabelNone},
		{"a browser with assets that came from elsewhere each time", visit("192.0.2.1", firefox, false, true, "https://search.example/"), defense.LabelNone},
		{"a browser that asks for robots.txt", visit("192.0.2.1", firefox, true, true, link), defense.LabelBot},
		{"a catalogued crawler", visit("192.0.2.1", gptbot, false, false, "-"), defense.LabelCrawler},
		{"a tool", visit("192.0.2.1", "python-requests/2.31", false, false, "-"), defense.LabelBot},
		{"nobody", visit("192.0.2.1", "-", false, false, "-"), defense.LabelBot},
		{"a feed reader", visit("192.0.2.1", "Tiny Tiny RSS/1.11 (http://tt-rss.org/)", false, false, "-"), defense.LabelNone},
		{"a browser and a crawler behind one address", append(visit("192.0.2.1", firefox, false, true, link), visit("192.0.2.1", gptbot, false, false, "-")...), defense.LabelNone},
	} {
		t.Run(test.name, func(t *testing.T) {
			samples, err := logSource(t, test.lines...).Samples(t.Context())
			if test.want == defense.LabelNone {
				if err == nil || !strings.Contains(err.Error(), errNothing.Error()) {
					t.Errorf("samples %+v, error %v", samples, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(samples) != 3 { // after the 1st, 2nd and 3rd navigation
				t.Errorf("%d samples", len(samples))
			}
			var weight float64
			for _, s := range samples {
				weight += s.Weight
				if s.Label != test.want {
					t.Errorf("label %q, want %q", s.Label, test.want)
				}
			}
			if weight < 0.999 || weight > 1.001 {
				t.Errorf("one client weighs %v", weight)
			}
		})
	}
}

func TestWhatALogDoesNotTellIsNotMeasured(t *testing.T) {
	var lines []string
	for i := range 6 {
		lines = append(lines, request(60*i, "192.0.2.1", fmt.Sprintf("/page/%d", i), "-", gptbot))
	}
	samples, err := logSource(t, lines...).Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := samples[len(samples)-1]
	for _, name := range []string{"score", "languageless", "shapes", "challenged", "solved", "traps", "disallowed"} {
		if x, ok := last.Values[name]; ok {
			t.Errorf("%s is %v", name, x)
		}
	}
	if x, ok := last.Values["referred"]; !ok || x != 0 {
		t.Errorf("referred is %v, %v: the log does tell that there was no referrer", x, ok)
	}

	// The common format does not even tell that. A second request shows which format it is.
	for i := range lines {
		lines[i] = strings.Split(lines[i], " \"-\" ")[0] + "\n"
	}
	l := logSource(t, lines...)
	tr, err := l.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if tr.sees.referrers {
		t.Error("the common format is said to tell referrers")
	}
}

func TestManyClientsOfOneOperatorCountAsAFew(t *testing.T) {
	var lines []string
	for i := range 30 {
		for n := range 3 {
			lines = append(lines, request(100*n+i, fmt.Sprintf("198.51.%d.7", i), fmt.Sprintf("/%d", n), "-", gptbot))
		}
	}
	samples, err := logSource(t, lines...).Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var weight float64
	groups := map[string]bool{}
	for _, s := range samples {
		weight += s.Weight
		groups[s.Group] = true
	}
	if len(groups) != 1 || weight < maxGroupWeight-0.001 || weight > maxGroupWeight+0.001 {
		t.Errorf("%d groups weigh %v, want one with %v", len(groups), weight, maxGroupWeight)
	}
}

func TestClientsAreMeasuredWhenTheirAssetsHaveCome(t *testing.T) {
	const link = "http://example.org/"
	samples, err := logSource(t,
		request(0, "192.0.2.1", "/", "-", firefox), request(1, "192.0.2.1", "/style.css", link, firefox), request(2, "192.0.2.1", "/logo.png", link, firefox),
		request(300, "192.0.2.1", "/about", link, firefox), request(301, "192.0.2.1", "/team.jpg", link+"about", firefox),
		request(302, "192.0.2.1", "/about.css", link+"about", firefox),
	).Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{2, 2} {
		if got := samples[i].Values["assets"]; got != want {
			t.Errorf("after navigation %d: %v assets a navigation, want %v", i+1, got, want)
		}
	}
}
